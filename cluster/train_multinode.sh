#!/usr/bin/env bash
# Train on several machines that have no Ray cluster yet: the same command on every machine (by
# srun, pdsh or a loop of ssh), the one with the address HEAD becomes the head and runs the job.
#
#   HEAD=10.0.0.1 NODES=4 cluster/train_multinode.sh jobs.train_sft jobs/configs/paper/sft_multinode.toml
#   srun -N4 --ntasks-per-node=1 env HEAD=$(hostname -i) NODES=4 cluster/train_multinode.sh JOB FILE.toml
#
# JOB is a training module (jobs.train_sft, jobs.train_grpo, jobs.train_fem). HEAD is the head's IP
# address. NODES: the job starts when so many machines have joined (1 when left out); with an elastic
# configuration (`launch.max_workers`) more may join and some may leave while it runs. PORT: of the
# head, 6379 when left out. `launch.storage_path` and the data must be reached by all machines.
# All machines need the same token in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token
# (`ray get-auth-token --generate` makes one). The same command resumes a run that was killed.
# On a cluster that runs already: cluster/submit.sh python -m JOB --config FILE.toml
set -euo pipefail

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; }

if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    usage
    exit 0
fi
if [ $# -ne 2 ] || [ -z "${HEAD:-}" ]; then
    usage >&2
    echo "error: set HEAD and give a training module and a TOML file" >&2
    exit 2
fi
job=$1
config=$2
port=${PORT:-6379}
nodes=${NODES:-1}
root=$(cd "$(dirname "$0")/.." && pwd)
bin=
if [ -x "$root/.venv/bin/python" ]; then
    bin=$root/.venv/bin/
fi
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
token_file=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ -z "${RAY_AUTH_TOKEN:-}" ] && [ ! -s "$token_file" ]; then
    echo "error: no token in RAY_AUTH_TOKEN or $token_file; make one with" \
        "\`ray get-auth-token --generate\` and copy it to all machines" >&2
    exit 2
fi

own=" $(hostname -I 2>/dev/null || hostname -i) 127.0.0.1 "
if [[ $own != *" $HEAD "* ]]; then
    # Ends when the head is gone.
    exec "${bin}ray" start --address "$HEAD:$port" --block
fi

cd "$root"
if [ ! -f "$config" ]; then
    echo "error: there is no configuration file $config; paths are relative to $root" >&2
    exit 2
fi
"${bin}ray" start --head --node-ip-address "$HEAD" --port "$port" --include-dashboard=false --block &
ray_pid=$!
# Ends the Ray of this script, and nobody else's.
trap 'kill -TERM "$ray_pid" 2>/dev/null || true; wait "$ray_pid" 2>/dev/null || true' EXIT
export RAY_ADDRESS=$HEAD:$port
"${bin}python" - "$nodes" "$ray_pid" <<'PYTHON'
import os
import sys
import time

import ray

wanted, ray_pid = int(sys.argv[1]), int(sys.argv[2])
while True:
    os.kill(ray_pid, 0)
    try:
        ray.init(logging_level="error", log_to_driver=False)
        break
    except ConnectionError:
        time.sleep(2)
while (joined := sum(node["Alive"] for node in ray.nodes())) < wanted:
    print(f"{joined} of {wanted} machines have joined", flush=True)
    time.sleep(5)
PYTHON
"${bin}python" -m "$job" --config "$config"
