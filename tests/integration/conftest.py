"""Heavy services, started once a session."""

import tempfile

import pytest
from service_process import running_service


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray of our own with more CPUs than the machine has; yields its address."""
    import ray

    with tempfile.TemporaryDirectory(prefix="ffrs-t-") as folder:
        context = ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            _temp_dir=folder,
            object_store_memory=500_000_000,
            log_to_driver=False,
            logging_level="warning",
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()


@pytest.fixture(scope="session")
def service():
    """`ffrs serve` with its own Ray, three keys and a small corpus."""
    with running_service() as running:
        yield running
