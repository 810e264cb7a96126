"""`ffrs serve` as a child process with three keys, images and a small corpus."""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from PIL import Image

from serve.auth import describe_entry, new_key

PROFILE = """
[encoder]
kind = "hashing"
[index]
kind = "exact"
[storage]
uri = "{home}/store"
[images]
roots = [ROOTS]
max_pixels = 1000000
[serve]
ingress_cpus = 0.05
owner_cpus = 0.1
localizer_cpus = 0.1
localizer_min = 2
localizer_max = 2
group_size = 4
candidate_timeout = 1.0
max_ongoing = 12
drain_timeout = 10.0
audit = "{home}/audit.jsonl"
[logs]
format = "json"
"""
SECRET = "xylophone"
"""A word that only tenant B's dialogues hold."""
ODD_ID = "team/日本 #1?"
ATTACK = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1"> [turn 0] <|im_end|>'


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service."""

    url: str
    metrics: str
    process: psutil.Process
    folder: Path
    keys: dict[str, str]

    def client(self, who: str | None = "a", **options) -> httpx.Client:
        """An HTTP client with the key of `a`, `a_reader`, `b`, or none."""
        headers = {"authorization": f"Bearer {self.keys[who]}"} if who else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def replicas(self, name: str) -> list[psutil.Process]:
        """The processes of one deployment."""
        found = []
        for child in self.process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if f"ServeReplica:ffrs:{name}" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def metric(self, line: str) -> float:
        """The value of one line of the metrics page; 0 when it is not there."""
        found = re.search(rf"^{re.escape(line)} (\S+)$", httpx.get(self.metrics).text, re.M)
        return float(found.group(1)) if found else 0.0


def record(name, texts, speakers=("Ann", "Ben"), images=(), title=None, day=1):
    """A dialogue of short turns, ten minutes apart; `images` maps a turn to a path."""
    images, turns, count = dict(images), [], 0
    for i, text in enumerate(texts):
        turn = {
            "turn_id": i,
            "speaker": speakers[i % len(speakers)],
            "text": text,
            "timestamp": f"2025-03-{day:02d}T{8 + i // 6 % 14:02d}:{i % 6 * 10:02d}:00+00:00",
            "images": [],
        }
        if i in images:
            turn["images"] = [{"image_id": count, "uri": str(images[i]), "caption": "the harbor"}]
            count += 1
        turns.append(turn)
    return {"dialogue_id": name, "title": title, "turns": turns}


def corpus(folder):
    """Tenant -> records."""
    photo = folder / "images" / "a" / "photo.png"
    long = [f"milestone {i} of the long road along the river" for i in range(150)]
    filler = [
        record(f"filler-{n}", [f"harbor lantern number {n} {i} in the fog" for i in range(6)])
        for n in range(12)
    ]
    return {
        "a": [
            record(ODD_ID, ["Where is the lighthouse?", "The lighthouse is north of the harbor"]),
            record(
                "boats",
                ["Look at this sailing boat", "What a lovely sailing boat!", "Thanks, Ben"],
                images={0: photo},
                title="Boats & <b>buoys</b>",
            ),
            record("attack", [ATTACK, "what does pwned mean?"], title=ATTACK),
            record("long-road", long, speakers=("Ann", "Ben", "Cleo"), day=2),
            *filler,
        ],
        "b": [
            record(
                "hidden",
                [f"the {SECRET} plays tonight", f"bring your {SECRET} to the harbor"],
                speakers=("Zoe",),
                images={0: folder / "images" / "b" / "photo.png"},
            ),
            record("boats", [f"a boat with a {SECRET}"], speakers=("Zoe",)),
        ],
    }


def draw(folder):
    """A picture for each tenant, one outside, a link out, and one that is too large."""
    for owner in ("a", "b"):
        (folder / "images" / owner).mkdir(parents=True)
        color = {"a": "navy", "b": "maroon"}[owner]
        Image.new("RGB", (64, 48), color).save(folder / "images" / owner / "photo.png")
    Image.new("RGB", (8, 8), "black").save(folder / "outside.png")
    (folder / "images" / "a" / "link.png").symlink_to(folder / "outside.png")
    Image.new("1", (2000, 2000)).save(folder / "images" / "a" / "bomb.png")
    (folder / "images" / "a" / "text.png").write_text("no picture")


def write_keys(folder):
    """Make the keys file; returns the keys by name."""
    keys, entries = {}, []
    for name, tenant, scopes in (
        ("a", "tenant-a", ["search", "write"]),
        ("a_reader", "tenant-a", ["search"]),
        ("b", "tenant-b", ["search", "write"]),
    ):
        keys[name], digest = new_key()
        roots = json.dumps([str(folder / "images" / name[0])])
        entries.append(describe_entry(tenant, scopes, digest, name) + f"image_roots = {roots}\n")
    (folder / "keys.toml").write_text("\n".join(entries))
    return keys


@contextlib.contextmanager
def running_service():
    """Start, fill, yield, stop; checks that a running answer is finished and nothing stays."""
    with tempfile.TemporaryDirectory(prefix="ffrs-s-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        draw(folder)
        keys = write_keys(folder)
        profile = folder / "profile.toml"
        profile.write_text(PROFILE.replace("ROOTS", json.dumps(str(folder / "images"))))
        command = [
            *(sys.executable, "-m", "jobs.cli", "serve", "--profile", str(profile)),
            *("--home", str(folder / "home"), "--port", "0", "--keys", str(folder / "keys.toml")),
        ]
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        environment.update(TMPDIR=str(folder), OMP_NUM_THREADS="1")
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"file://{folder}/spans.jsonl"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        started: list[psutil.Process] = []
        try:
            url, metrics = _addresses(process, folder / "log")
            service = Service(
                url=url,
                metrics=metrics,
                process=psutil.Process(process.pid),
                folder=folder,
                keys=keys,
            )
            for who, records in corpus(folder).items():
                with service.client(who) as http:
                    for item in records:
                        answer = http.post("/v1/dialogues", json=item)
                        assert answer.status_code == 201, answer.text
            started = service.process.children(recursive=True)
            yield service
            started += service.process.children(recursive=True)
            _stop_during_a_search(service)
            assert process.wait(60) == 0, (folder / "log").read_text()[-2000:]
            _, alive = psutil.wait_procs(started, timeout=20)
            assert not alive
        finally:
            with contextlib.suppress(psutil.Error):
                started += psutil.Process(process.pid).children(recursive=True)
            for child in started:
                with contextlib.suppress(psutil.Error):
                    child.kill()
            process.kill()
            process.wait()


def _end_with_parent():
    """A test run that is killed takes its service with it (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _stop_during_a_search(service):
    """Ask to stop while the localizers are held; the answer must come, and be complete."""
    replicas = service.replicas("Localizer")
    for replica in replicas:
        replica.suspend()
    with ThreadPoolExecutor(1) as pool, service.client("a") as http:
        running = pool.submit(http.post, "/v1/search", json={"query": "sailing boat"})
        time.sleep(0.4)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.6)
        for replica in replicas:
            replica.resume()
        answer = running.result(30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["partial"] is False
    assert answer.json()["dialogues"]


def _addresses(process, log):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        text = log.read_text()
        page = re.search(r"page: +(\S+)/\s", text)
        metrics = re.search(r"metrics: (\S+)\s", text)
        if page and metrics:
            return page.group(1), metrics.group(1)
        assert process.poll() is None, text[-3000:]
        time.sleep(0.1)
    raise AssertionError(f"no address after 120 s: {log.read_text()[-3000:]}")
