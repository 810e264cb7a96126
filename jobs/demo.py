"""Show the whole system on this machine: index through the Ray job API, serve, ask, print.

    make demo                   serves until Ctrl-C
    ONCE=1 make demo            writes the answers to demo/answers.jsonl and ends
    PROFILE=tiny make demo      the paper's system in miniature: vLLM segments and localizes

The laptop profile reads the sample corpus, the tiny one a synthetic corpus whose pictures have no
captions. Starts a Ray of its own (own ports, own token, own temporary folder) and stops all it
started.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx

from ffr_core.answers import describe_record
from ffr_core.config import read_toml
from ffr_core.profile import profile_path
from ffr_core.records import read_jsonl
from serve.runtime import free_port

SAMPLE_QUERIES: tuple[dict[str, Any], ...] = (
    {"query": "who dropped the car keys? 谁掉了车钥匙"},
    {"query": "photo of the score board from when Sunny learned pretzel twisting"},
    {"query": "why was the concreting postponed", "filters": {"participants": ["Abel (crane)"]}},
)
"""Asked of the sample corpus: text only, with images in the answer, with a filter."""
READY_SECONDS = 600.0
"""An engine on two busy cores takes minutes to start."""


def main() -> int:
    """Run the demo; the exit code is 0 only when every query has an answer."""
    once = os.environ.get("ONCE", "") not in ("", "0")
    profile = os.environ.get("PROFILE", "laptop")
    out = Path("demo")
    out.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        home = out.resolve() / "home"
        shutil.rmtree(home, ignore_errors=True)
        if profile == "tiny":
            corpus, queries = synthetic_corpus(home / "corpus")
        else:
            corpus = Path(str(resources.files("ffr_core"))) / "data" / "sample"
            queries = list(SAMPLE_QUERIES)
        ray_url, ray_address = stack.enter_context(own_ray())
        index_corpus(ray_url, home, profile, corpus)
        os.environ["RAY_ADDRESS"] = ray_address
        url = stack.enter_context(own_service(home, profile))
        answers = [ask(url, query) for query in queries]
        with (out / "answers.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(a, ensure_ascii=False) + "\n" for a in answers)
        print(f"\nanswers: {out / 'answers.jsonl'}\npage:    {url}/", flush=True)
        if not once:
            print("Ctrl-C stops everything.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    return 0 if all(answer["dialogues"] for answer in answers) else 1


@contextlib.contextmanager
def own_ray() -> Iterator[tuple[str, str]]:
    """A Ray head as a child process; yields the addresses of its job API and of the cluster."""
    step("starting Ray on this machine")
    token = secrets.token_hex(32)
    dashboard, gcs = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="ffrs-") as folder:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
        command = [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
            *("--port", str(gcs), "--dashboard-port", str(dashboard)),
            *("--dashboard-agent-listen-port", str(free_port())),
            *("--metrics-export-port", str(free_port())),
            *("--ray-client-server-port", str(free_port())),
            *("--dashboard-host", "127.0.0.1", "--temp-dir", folder),
            *("--object-store-memory", "500000000", "--disable-usage-stats"),
        ]
        with own_process(command, Path("demo/ray.log")) as process:
            url = f"http://127.0.0.1:{dashboard}"
            wait_for(f"{url}/api/version", process, 120, {200, 401})
            yield url, f"127.0.0.1:{gcs}"


def synthetic_corpus(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Held-out synthetic dialogues, short enough for the tiny model, and three of their queries."""
    from ffr_core.dataset.synthetic import SynthConfig, write

    step("drawing a synthetic corpus; its pictures have no captions")
    config = SynthConfig(dialogues=24, seed=5, turns=(6, 16), topics=(2, 3), split="heldout")
    print(f"   {write(config, folder).as_text().splitlines()[0]}", flush=True)
    dialogues = list(read_jsonl(folder / "dialogues.jsonl"))
    asked = []
    for kind in ("utterance-only", "multi-modal", "image-only"):
        dialogue, query = next(
            (d, q) for d in dialogues[len(asked) :] for q in d.queries or () if q.kind == kind
        )
        asked.append({"query": query.query})
        if kind == "image-only":
            asked[-1]["filters"] = {"has_image": True, "participants": [dialogue.participants[0]]}
    return folder / "dialogues.jsonl", asked


def index_corpus(ray_url: str, home: Path, profile: str, corpus: Path) -> None:
    """Submit the index job and wait for it; worker pools as the profile's folder says."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    step("indexing the corpus (a Ray job)")
    config = home / "index.toml"
    home.mkdir(parents=True, exist_ok=True)
    shipped = profile_path(profile).parent / "index.toml"
    values = read_toml(shipped) if shipped.is_file() else {}
    values |= {"input": [str(corpus)], "home": str(home), "profile": profile}
    config.write_text(as_toml(values))
    client = JobSubmissionClient(ray_url)
    job = client.submit_job(
        entrypoint=f'"{sys.executable}" -m jobs.index_corpus --config "{config}"',
        entrypoint_num_cpus=0,
    )
    ended = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}
    while (status := client.get_job_status(job)) not in ended:
        time.sleep(0.5)
    logs = client.get_job_logs(job)
    if status != JobStatus.SUCCEEDED:
        raise RuntimeError(f"the index job ended as {status}:\n{logs}")
    summary = json.loads((home / "runs" / "index" / "summary.json").read_text())
    print(
        f"   {summary['indexed']} dialogues, {summary['turns']} turns,"
        f" {summary['fragments']} fragments in {summary['seconds']:.0f} s",
        flush=True,
    )


def as_toml(values: dict[str, Any]) -> str:
    """Values and tables of values as TOML."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for name, table in values.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in table.items())]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def own_service(home: Path, profile: str) -> Iterator[str]:
    """`ffrs serve` as a child process; yields its address."""
    step("starting the service")
    port = free_port()
    command = [
        *(sys.executable, "-m", "jobs.cli", "serve", "--profile", profile),
        *("--home", str(home), "--port", str(port)),
    ]
    with own_process(command, Path("demo/serve.log")) as process:
        url = f"http://127.0.0.1:{port}"
        started = time.monotonic()
        wait_for(f"{url}/readyz", process, READY_SECONDS, {200})
        print(f"   ready after {time.monotonic() - started:.0f} s", flush=True)
        yield url


def ask(url: str, query: dict[str, Any]) -> dict[str, Any]:
    """Send one query, print its answer, return the response."""
    answer = httpx.post(f"{url}/v1/search", json={**query, "limit": 3}, timeout=150)
    answer.raise_for_status()
    response: dict[str, Any] = answer.json()
    filters = {key: value for key, value in query.get("filters", {}).items() if value}
    print(f"\n? {query['query']}" + (f"   {filters}" if filters else ""))
    for record in response["dialogues"][:2]:
        print(describe_record(_with_full_addresses(record, url)))
    print(f"  ({response['took_ms']:.0f} ms)", flush=True)
    return response


def _with_full_addresses(record: dict[str, Any], url: str) -> dict[str, Any]:
    """The dialogue with pictures by addresses to open, without signatures: the demo has no keys."""
    turns = [
        turn
        | {
            "images": [
                image | {"url": image["url"] and f"{url}{image['url']}".partition("?")[0]}
                for image in turn["images"]
            ]
        }
        for turn in record["turns"]
    ]
    return record | {"turns": turns}


@contextlib.contextmanager
def own_process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child with its output in a log file; ask it to stop at the end, then make it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float, ready: set[int]) -> None:
    """Wait for one of the status codes; RuntimeError when the process ends or time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}; see demo/*.log")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=2).status_code in ready:
                return
        time.sleep(0.3)
    raise RuntimeError(f"{url} is not ready after {seconds:.0f} s; see demo/*.log")


def step(text: str) -> None:
    """Announce a step."""
    print(f"-- {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
