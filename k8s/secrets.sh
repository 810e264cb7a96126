#!/usr/bin/env bash
# Create the secrets that the manifests name, once, before the first `kubectl apply`.
#
#   python -m serve.auth new --tenant acme --scope search --scope write > keys.toml
#   NAMESPACE=ffrs KEYS_FILE=keys.toml k8s/secrets.sh
#
# AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION (boto3 reads no AWS_REGION): those
# of your S3 store; left out, random ones are made for the MinIO of the manifests. Everything else is
# random. A secret that exists is kept.
# Values go to kubectl on standard input, never on a command line.
set -euo pipefail

namespace=${NAMESPACE:-ffrs}
keys_file=${KEYS_FILE:?name the TOML file of hashed API keys, made with python -m serve.auth new}
test -r "$keys_file" || { echo "error: cannot read $keys_file" >&2; exit 2; }

random() { head -c 48 /dev/urandom | base64 | tr -d '/+=\n' | cut -c1-40; }

exists() { kubectl --namespace "$namespace" get secret "$1" >/dev/null 2>&1; }

# create NAME: KEY=VALUE lines on standard input.
create() {
    if exists "$1"; then
        echo "secret $1 exists, kept"
        return
    fi
    kubectl --namespace "$namespace" create secret generic "$1" --from-env-file=/dev/stdin
}

kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"

milvus_password=$(random)
create ffrs-object-store <<EOF
AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-$(random)}
AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-$(random)}
AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-${AWS_REGION:-us-east-1}}
EOF
create ffrs-milvus <<EOF
root_password=$milvus_password
token=root:$milvus_password
EOF
create ffrs-redis <<EOF
password=$(random)
EOF
create ffrs-ray-token <<EOF
auth_token=$(random)
EOF
if exists ffrs-keys; then
    echo "secret ffrs-keys exists, kept"
else
    kubectl --namespace "$namespace" create secret generic ffrs-keys --from-file=keys.toml="$keys_file"
fi
