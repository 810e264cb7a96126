"""The commit that results name."""

import subprocess

import pytest

from jobs import checkout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "__file__", str(tmp_path / "code.py"))
    (tmp_path / "code.py").write_text("pass\n")

    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=e@e")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return git


def test_changed_files_are_marked_and_no_checkout_is_unknown(repository, tmp_path):
    assert checkout.commit() == "unknown"
    repository("init")
    repository("add", "code.py")
    repository("commit", "-m", "first")
    repository("tag", "-a", "v1", "-m", "a tag is no commit")
    full = repository("rev-parse", "HEAD")
    assert (checkout.commit(), checkout.commit(digits=7)) == (full, full[:7])
    (tmp_path / "code.py").write_text("1\n")
    assert checkout.commit() == f"{full}+"
