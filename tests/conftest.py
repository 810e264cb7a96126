"""The suite in two processes: all that starts Ray, an engine or a service, and the unit tests."""

import os

from xdist.scheduler import LoadScopeScheduling

# Beside the other process, Ray's workers at nice 15 would starve, and threads wait for each other.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")


class ServicesTogether(LoadScopeScheduling):
    """Heavy services are started once, in one process; unit tests go by file to whoever is free."""

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        return file if "/unit/" in file else "services"


def pytest_xdist_make_scheduler(config, log):
    return ServicesTogether(config, log)
