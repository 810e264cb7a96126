import os

import pytest
import ray

from serve.runtime import ray_session

BUSY = "The current node timed out during startup. This could happen because ..."


@pytest.fixture
def starts(monkeypatch):
    """Folders of the starts of Ray; the first ones fail with the errors in `failures`."""
    folders, failures = [], []

    def init(**options):
        folders.append(options["_temp_dir"])
        if failures:
            raise RuntimeError(failures.pop(0))

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: folders.append("down"))
    return folders, failures


def test_a_busy_machine_gets_one_more_try(starts):
    folders, failures = starts
    failures.append(BUSY)
    with ray_session():
        assert folders == [folders[0], "down", f"{folders[0]}/2"]
    assert folders[3:] == ["down"]


@pytest.mark.parametrize(("errors", "tries"), [(["no memory"], 1), ([BUSY, BUSY], 2)])
def test_other_failures_and_a_second_one_are_told(starts, errors, tries):
    folders, failures = starts
    failures += errors
    with pytest.raises(RuntimeError), ray_session():
        pass
    assert len([folder for folder in folders if folder != "down"]) == tries


def test_the_level_of_the_logs_is_not_announced(starts, monkeypatch, capfd):
    def init(**_):
        os.write(2, b"[I] logging.cc:303: Set ray log level from environment variable X to 3\n")
        os.write(2, b"[E] something else\n")

    for address in ("", "ray.example.org:6379"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(ray, "init", init)
        with ray_session():
            os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "[E] something else\nafterwards\n" * 2
