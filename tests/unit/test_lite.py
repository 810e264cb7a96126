import subprocess
import sys

from ffr_core.index import lite


class Manager:
    """Like milvus-lite's: its `stop` gives up when a killed child does not go in time."""

    def __init__(self, path, seconds):
        self._servers = {str(path): self}
        code = f"import time; time.sleep({seconds})"
        self._p = subprocess.Popen([sys.executable, "-c", code])
        self.calls = 0

    def release_server(self, path):
        self.calls += 1
        self._p.wait(timeout=0.05)
        del self._servers[path]


def test_a_child_that_goes_late_is_waited_for(tmp_path, monkeypatch):
    path = tmp_path.resolve() / "i.db"
    manager = Manager(path, 0.4)
    monkeypatch.setattr(lite, "_manager", lambda: manager)
    lite.release_child(path)
    assert (manager.calls, manager._servers, manager._p.returncode) == (2, {}, 0)
    lite.release_child(path)
    assert manager.calls == 2
