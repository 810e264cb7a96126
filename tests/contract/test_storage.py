import boto3
import pytest
from moto.server import ThreadedMotoServer

from ffr_core.errors import ConfigError, ForbiddenError, NotFoundError
from ffr_core.storage import LocalStorage, S3Storage, open_storage


@pytest.fixture(scope="module")
def s3():
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="dialogues")
    yield endpoint
    server.stop()
    patch.undo()


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "local":
        return open_storage(str(tmp_path / "store"))
    endpoint = request.getfixturevalue("s3")
    return open_storage(f"s3://dialogues/{tmp_path.name}", endpoint_url=endpoint)


def test_what_was_written_is_read(storage):
    for key, data in (("a", b""), ("b/ü 中.bin", b"\0\xff" * 1000), ("a.b/c", b"x")):
        storage.write(key, data)
        assert storage.read(key) == data
        assert storage.exists(key)


def test_a_write_replaces(storage):
    storage.write("k", b"old")
    storage.write("k", b"new")
    assert storage.read("k") == b"new"
    assert list(storage.list()) == ["k"]


def test_what_is_not_there(storage):
    assert not storage.exists("k")
    assert not storage.delete("k")
    assert list(storage.list()) == []
    with pytest.raises(NotFoundError, match="check the name"):
        storage.read("k")


def test_delete(storage):
    storage.write("k", b"x")
    assert storage.delete("k")
    assert not storage.exists("k")


def test_listing_is_sorted_and_by_prefix(storage):
    for key in ("b/2", "a/1", "b/10", "bb"):
        storage.write(key, b"x")
    assert list(storage.list()) == ["a/1", "b/10", "b/2", "bb"]
    assert list(storage.list("b/")) == ["b/10", "b/2"]


@pytest.mark.parametrize("key", ["", "/x", "../x", "a/../../x", "a//b", "a/./b", "a\0b"])
def test_no_key_leaves_the_root(storage, key):
    for call in (storage.read, storage.exists, storage.delete):
        with pytest.raises(ForbiddenError):
            call(key)
    with pytest.raises(ForbiddenError):
        storage.write(key, b"x")


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "out").symlink_to(tmp_path)
    (tmp_path / "secret").write_text("x")
    with pytest.raises(ForbiddenError, match="leaves the folder"):
        LocalStorage(tmp_path / "store").read("out/secret")


def test_a_failed_write_leaves_the_old_content_and_no_rest(tmp_path, monkeypatch):
    storage = LocalStorage(tmp_path)
    storage.write("k", b"old")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("ffr_core.storage.os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        storage.write("k", b"new")
    assert storage.read("k") == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["k"]


def test_schemes(tmp_path):
    assert isinstance(open_storage("s3://b/p"), S3Storage)
    assert isinstance(open_storage(tmp_path.as_uri()), LocalStorage)
    with pytest.raises(ConfigError, match="gs"):
        open_storage("gs://b/p")
