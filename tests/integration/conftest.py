"""Heavy services, started once a session."""

import tempfile

import pytest
from index_place import NUM_CALM, Place, record, write
from service_process import running_service


@pytest.fixture(scope="session")
def s3_credentials():
    """Credentials of a test server, in the environment of this process and those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield


@pytest.fixture(scope="session")
def ray_cluster(s3_credentials):
    """A Ray of our own with more CPUs than the machine has; yields its address."""
    import ray

    def start(folder):
        return ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            _temp_dir=folder,
            object_store_memory=500_000_000,
            log_to_driver=False,
            logging_level="warning",
        )

    with tempfile.TemporaryDirectory(prefix="ffrs-t-", ignore_cleanup_errors=True) as folder:
        try:
            context = start(f"{folder}/a")
        except Exception as error:
            # Ray gives its own node 30 s to come up, which a busy machine can exceed.
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            context = start(f"{folder}/b")
        yield context.address_info["gcs_address"]
        ray.shutdown()


@pytest.fixture(scope="session")
def service():
    """`ffrs serve` with its own Ray, three keys and a small corpus."""
    with running_service() as running:
        yield running


@pytest.fixture(scope="session")
def a(service):
    """A client with the key of tenant A."""
    with service.client("a") as http:
        yield http


@pytest.fixture(scope="session")
def b(service):
    """A client with the key of tenant B."""
    with service.client("b") as http:
        yield http


@pytest.fixture(scope="session")
def calm(tmp_path_factory):
    """A corpus that takes some seconds, and the rows that the library makes of it."""
    place = Place(tmp_path_factory.mktemp("calm"))
    records = [record(f"d{i}", num_turns=20) for i in range(NUM_CALM)]
    write(place.corpus / "a.jsonl", records[: NUM_CALM // 2])
    write(place.corpus / "b.jsonl", records[NUM_CALM // 2 :])
    return place, place.library_rows(records)
