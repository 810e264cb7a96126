#!/usr/bin/env bash
# Start one RayJob of an overlay; one of the same name that ended is removed first.
#
#   k8s/run_job.sh gpu index
#   k8s/run_job.sh cpu-small evaluate
#
# Jobs: index, evaluate, and on gpu train-sft, train-segmenter, score-difficulty, train-grpo, train-fem.
# The overlay's config maps are applied too, so a changed TOML file is what the job reads.
set -euo pipefail

overlay=${1:?name an overlay: cpu-small or gpu}
job=${2:?name a job, such as index}
namespace=${NAMESPACE:-ffrs}
folder=$(cd "$(dirname "$0")" && pwd)/overlays/$overlay
test -d "$folder" || { echo "error: there is no overlay $overlay" >&2; exit 2; }

manifests=$(kubectl kustomize "$folder")
if ! grep -q "ffrs/part: job-$job\$" <<<"$manifests"; then
    echo "error: overlay $overlay has no job $job; it has:" >&2
    grep -o 'ffrs/part: job-.*' <<<"$manifests" | sed 's/.*job-/  /' >&2
    exit 2
fi
kubectl --namespace "$namespace" delete rayjob --selector "ffrs/part=job-$job" --ignore-not-found
sed 's/^  suspend: true$/  suspend: false/' <<<"$manifests" |
    kubectl --namespace "$namespace" apply --selector "ffrs/part in (config, job-$job)" --filename -
echo "follow it with: kubectl --namespace $namespace get rayjob ffrs-$job-job --watch"
