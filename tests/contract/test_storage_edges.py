"""Names, prefixes, processes and failures of every Storage, on a folder and on an S3 server."""

import os
import pickle
import threading
from pathlib import Path

import pytest

from ffr_core.errors import ConfigError, FfrError, ForbiddenError, NotFoundError
from ffr_core.storage import LocalStorage, S3Storage, open_storage


@pytest.fixture(scope="module")
def endpoint():
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        S3Storage("edges", endpoint_url=f"http://{host}:{port}")._client.create_bucket(
            Bucket="edges"
        )
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "local":
        return LocalStorage(tmp_path / "root")
    return S3Storage(
        "edges", f"in/{tmp_path.name}", endpoint_url=request.getfixturevalue("endpoint")
    )


class TestContract:
    def test_a_folder_is_not_a_blob(self, storage):
        storage.write("folder/file", b"x")
        for key in ("nothing", "folder", "folder/file/deeper", "folder/nothing"):
            with pytest.raises(NotFoundError, match="check the name"):
                storage.read(key)
            assert not storage.exists(key)
            assert not storage.delete(key)
        assert storage.read("folder/file") == b"x"

    def test_a_prefix_may_end_inside_a_name(self, storage):
        keys = ["a/1", "a/10", "a/2/x", "a-1", "b", "火/x"]
        for key in reversed(keys):
            storage.write(key, b"")
        assert list(storage.list()) == sorted(keys)
        assert list(storage.list("a/1")) == ["a/1", "a/10"]
        assert list(storage.list("a")) == ["a-1", "a/1", "a/10", "a/2/x"]
        assert list(storage.list("nothing/here")) == []

    def test_odd_keys_are_refused(self, storage):
        long = ("x" * 256, "/".join(["y" * 90] * 11))
        for key in ("a\\..\\b", "a\nb", "a/", ".", ".writing-1", *long):
            with pytest.raises(ForbiddenError, match="not allowed"):
                storage.write(key, b"x")

    def test_listing_never_leaves_the_root(self, storage):
        for prefix in ("../", "/", "a/../../"):
            with pytest.raises(ForbiddenError):
                list(storage.list(prefix))

    def test_it_travels_to_other_processes(self, storage):
        storage.write("x", b"1")
        assert pickle.loads(pickle.dumps(storage)).read("x") == b"1"

    def test_a_reader_sees_a_whole_blob(self, storage):
        blobs = [bytes([value]) * 200_000 for value in (1, 2)]
        storage.write("x", blobs[0])
        done = threading.Event()

        def rewrite():
            for i in range(12):
                storage.write("x", blobs[i % 2])
            done.set()

        writer = threading.Thread(target=rewrite)
        writer.start()
        while not done.is_set():
            assert storage.read("x") in blobs
        writer.join()
        assert list(storage.list()) == ["x"]


def test_a_link_out_of_the_root_is_not_listed(tmp_path):
    storage = LocalStorage(tmp_path / "root")
    storage.write("inside", b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (storage.root / "folder").symlink_to(tmp_path)
    assert list(storage.list()) == ["inside"]
    with pytest.raises(ForbiddenError, match="link"):
        list(storage.list("folder/"))


def test_a_write_that_a_sweep_crosses_begins_again(tmp_path, monkeypatch):
    storage, flush, swept = LocalStorage(tmp_path), os.fsync, []

    def crossed(handle):
        flush(handle)
        if not swept:
            swept.append(len(list(tmp_path.glob(".writing-*"))))
            LocalStorage(tmp_path.parent).sweep(tmp_path.name)

    monkeypatch.setattr(os, "fsync", crossed)
    storage.write("x", b"1")
    assert (storage.read("x"), swept, os.listdir(tmp_path)) == (b"1", [1], ["x"])


def test_uris_are_taken_apart(tmp_path):
    local = open_storage(f"file://{tmp_path}/a%20b")
    assert isinstance(local, LocalStorage) and local.root == tmp_path / "a b"
    s3 = open_storage("s3://bucket/some/prefix/", endpoint_url="http://127.0.0.1:1")
    assert isinstance(s3, S3Storage) and (s3.bucket, s3.prefix) == ("bucket", "some/prefix")
    with pytest.raises(ConfigError, match="no bucket"):
        open_storage("s3:///x")


def test_s3_failures_say_what_to_do(endpoint, monkeypatch):
    with pytest.raises(NotFoundError, match="no bucket 'absent'"):
        S3Storage("absent", endpoint_url=endpoint).read("x")
    with pytest.raises(FfrError, match="cannot be reached"):
        S3Storage("bucket", endpoint_url="http://127.0.0.1:9").read("x")


def test_a_sweep_takes_empty_folders_and_no_others(tmp_path, monkeypatch):
    storage = LocalStorage(tmp_path)
    storage.write("a/b/c/x", b"1")
    storage.write("a/y", b"1")
    storage.sweep("a/b/c")
    assert storage.delete("a/b/c/x")
    storage.sweep("a/b/c")
    assert os.listdir(tmp_path / "a") == ["y"]
    assert storage.delete("a/y")
    storage.sweep("a")
    assert os.listdir(tmp_path) == []

    make, swept = Path.mkdir, []

    def crossed(path, *arguments, **options):
        make(path, *arguments, **options)
        if path == tmp_path / "n/m" and len(swept) < 3:
            swept.append(path)
            storage.sweep("n/m")

    monkeypatch.setattr(Path, "mkdir", crossed)
    storage.write("n/m/x", b"2")
    assert (storage.read("n/m/x"), len(swept)) == (b"2", 3)


def test_a_prefix_in_a_bucket_may_hold_any_character():
    s3 = open_storage("s3://bucket/chats #1/a?b%20c/", endpoint_url="http://127.0.0.1:1")
    assert isinstance(s3, S3Storage) and s3.prefix == "chats #1/a?b%20c"
