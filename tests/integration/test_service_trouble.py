"""The running service under load and with broken workers; what it keeps to itself."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
from service_calls import BOATS, SEARCH, code, found, ids
from service_process import SECRET

# ---- load, failures


def test_overload_is_a_429_with_advice(service):
    async def crowd():
        headers = {"authorization": f"Bearer {service.keys['a']}"}
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(headers=headers, timeout=60, limits=limits) as http:
            body = {"query": "harbor lantern", "num_candidates": 50}
            url = service.url + SEARCH
            return await asyncio.gather(*(http.post(url, json=body) for _ in range(200)))

    answers = asyncio.run(crowd())
    assert {answer.status_code for answer in answers} == {200, 429}
    for refused in (answer for answer in answers if answer.status_code == 429):
        assert code(refused) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1


def test_a_client_that_leaves_ends_its_search(service, a):
    broken = 'ffrs_searches_total{outcome="broken_off"}'
    before = service.metric(broken)
    replicas = service.replicas("Localizer")
    for replica in replicas:
        replica.suspend()
    try:
        headers = {"authorization": f"Bearer {service.keys['a']}"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{service.url}/v1/search/stream", json=BOATS, headers=headers, timeout=0.5)
        deadline = time.monotonic() + 5
        while service.metric(broken) == before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert service.metric(broken) == before + 1
    finally:
        for replica in replicas:
            replica.resume()
    assert found(a, "sailing boat")["dialogues"]


def test_localizers_that_do_not_answer_make_the_answer_partial(service, a):
    replicas = service.replicas("Localizer")
    assert len(replicas) == 2
    for replica in replicas:
        replica.suspend()
    try:
        answer = found(a, "sailing boat", num_candidates=1)
    finally:
        for replica in replicas:
            replica.resume()
    assert answer["partial"] is True
    assert answer["dialogues"] == []
    again = found(a, "sailing boat", num_candidates=1)
    assert again["partial"] is False
    assert "boats" in ids(again)


def test_a_localizer_that_dies_is_replaced_within_the_search(service, a):
    expected = ids(found(a, "harbor lantern"))
    first, _ = service.replicas("Localizer")
    first.suspend()

    async def search_while_it_dies():
        headers = {"authorization": f"Bearer {service.keys['a']}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            body = {"query": "harbor lantern"}
            searches = [
                asyncio.create_task(http.post(service.url + SEARCH, json=body)) for _ in range(4)
            ]
            await asyncio.sleep(0.3)
            os.kill(first.pid, signal.SIGKILL)
            return [answer.json() for answer in await asyncio.gather(*searches)]

    answers = asyncio.run(search_while_it_dies())
    assert [ids(answer) for answer in answers] == [expected] * 4
    assert not any(answer["partial"] for answer in answers)


# ---- what is kept to itself


def test_metrics_count_and_name_nobody(service, a):
    found(a, "sailing boat")
    text = httpx.get(service.metrics).text
    assert 'ffrs_searches_total{outcome="complete"}' in text
    assert 'route="/v1/search"' in text
    assert "boats" not in text
    assert "tenant-a" not in text


def test_logs_hold_no_text_and_no_key(service):
    words = [SECRET, "sailing boat", "pwned", *service.keys.values()]
    files = [path for path in service.folder.rglob("*") if path.suffix in (".log", ".err", ".out")]
    assert len(files) > 5
    for path in [*files, service.folder / "log"]:
        text = path.read_text(errors="replace")
        assert not [word for word in words if word in text], path


def test_an_open_address_needs_keys(tmp_path):
    command = [sys.executable, "-m", "jobs.cli", "serve", "--host", "0.0.0.0", "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if k != "FFRS_KEYS"}
    ended = subprocess.run(
        [*command, "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "without API keys" in ended.stderr
