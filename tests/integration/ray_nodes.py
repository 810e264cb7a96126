"""Several Ray nodes on this machine, held by a process of their own.

    python ray_nodes.py FOLDER COUNT CPUS

prints the address and the process ids of the nodes as a line of JSON. Each line `kill N` on its
input ends node N at once, like a power cut; the end of its input ends them all. The head has no
CPUs.
"""

import json
import os
import sys
from pathlib import Path


def main(folder, count, cpus):
    # Ray notes the address of a cluster in a folder that it does not make.
    os.environ["RAY_TMPDIR"] = folder
    Path(folder, "ray").mkdir()
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 200_000_000}
    head = {"num_cpus": 0, "include_dashboard": False, **memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=cpus, **memory) for _ in range(count)]
    cluster.wait_for_nodes()
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    for line in sys.stdin:
        cluster.remove_node(nodes[int(line.split()[1])], allow_graceful=False)
        print(json.dumps({"killed": line.strip()}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
