"""What `ffrs doctor` says of a data folder."""

import pytest

from jobs.doctor import _data_folder


def test_a_folder_and_one_that_is_not_there_yet(tmp_path):
    for folder in (tmp_path, tmp_path / "a" / "b"):
        assert str(folder) in _data_folder(folder).text
        assert "is a file" not in _data_folder(folder).text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_is_no_data_folder(tmp_path, below):
    file = tmp_path / "file"
    file.touch()
    found = _data_folder(file / below)
    assert found.state == "bad"
    assert found.text.endswith(f"{file} is a file")


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = _data_folder(tmp_path / "home")
    assert (found.state, found.text.endswith(f"{tmp_path} cannot be written to")) == ("bad", True)
