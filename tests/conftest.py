"""The suite in two processes that share nothing."""

import os

import pytest
from xdist.scheduler import LoadScopeScheduling

# Beside the other process, Ray's workers at nice 15 would starve, and threads wait for each other.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def s3_endpoint():
    """Endpoint of an S3 protocol server; buckets last as long as the process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class ServicesOnce(LoadScopeScheduling):
    """Each heavy service runs in one process; unit tests go by file to whoever is free."""

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        if "/unit/" in file:
            return file
        uses_service = file.split("/test_")[-1].startswith(("service", "web"))
        in_ray = "/integration/" in file and (not uses_service or "vlm" in file)
        return "the session's Ray" if in_ray else "the session's service, and contracts"


def pytest_xdist_make_scheduler(config, log):
    return ServicesOnce(config, log)
