#!/usr/bin/env bash
# Submit a job to a Ray cluster and follow its output.
#
#   cluster/submit.sh python -m jobs.index_corpus --config /opt/ffrs/jobs/configs/server/index.toml
#   cluster/submit.sh --code python -m jobs.train_fem --config jobs/configs/paper/fem.toml
#   cluster/submit.sh --no-wait --id night-run python -m jobs.index_corpus --config FILE.toml
#
# Without --code the job runs what the nodes' image holds, in /data; with it, this checkout is uploaded
# (cluster/runtime_env.yaml) and the job runs inside the copy: name its data by s3:// or from / on.
# RAY_API_SERVER_ADDRESS: where the dashboard answers, http://127.0.0.1:8265 when left out
# (`ray dashboard`, `kubectl port-forward` or SSH forward it). The token is RAY_AUTH_TOKEN,
# RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
export RAY_AUTH_MODE=token
export RAY_API_SERVER_ADDRESS=${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }

options=()
code=
while [ $# -gt 0 ]; do
    case $1 in
        --code) code=1; shift ;;
        --no-wait) options+=(--no-wait); shift ;;
        --id) options+=(--submission-id "${2:?--id needs a name}"); shift 2 ;;
        -h | --help) usage; exit 0 ;;
        --) shift; break ;;
        -*) echo "error: unknown option $1; see $0 --help" >&2; exit 2 ;;
        *) break ;;
    esac
done
if [ $# -eq 0 ]; then
    usage >&2
    exit 2
fi
token_file=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ -z "${RAY_AUTH_TOKEN:-}" ] && [ ! -s "$token_file" ]; then
    echo "error: no token in RAY_AUTH_TOKEN or $token_file; make one with" \
        "\`ray get-auth-token --generate\` before the cluster starts, or copy the cluster's" >&2
    exit 2
fi
if [ -n "$code" ]; then
    # Ray resolves working_dir against the current folder.
    cd "$root"
    options+=(--runtime-env cluster/runtime_env.yaml)
fi
exec ray job submit ${options[@]+"${options[@]}"} -- "$@"
