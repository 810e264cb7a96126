"""What a request passes before it is read, on a small application in memory."""

import asyncio
import json

import httpx
import pytest
from fastapi import FastAPI, Request
from ray.exceptions import ActorUnavailableError
from ray.serve.exceptions import ReplicaUnavailableError

from ffr_core.errors import BusyError, ForbiddenError, LimitError, NotFoundError, RecordError
from serve import guards
from serve.auth import LOCAL
from serve.guards import POLICY, Guard, GuardRules, Load
from serve.problems import DeletedError, Problem, install_handlers, problem_of
from serve.runtime import is_loopback


def make_app(open_access=True, authenticate=lambda headers: LOCAL, allowed_hosts=(), max_body=1000):
    app = FastAPI()
    app.state.load = Load()
    install_handlers(app, retry_after=7)
    app.state.hold = asyncio.Event()

    @app.get("/v1/fails")
    async def fails():
        raise ValueError("a private text")

    @app.get("/v1/waits")
    async def waits():
        await app.state.hold.wait()
        return {}

    @app.post("/v1/echo")
    async def echo(body: dict):
        return body

    @app.put("/")
    @app.head("/")
    @app.get("/")
    async def who(request: Request):
        return {"tenant": getattr(request.state.principal, "tenant", None)}

    rules = GuardRules(
        load=app.state.load,
        open_access=open_access,
        max_ongoing=2,
        retry_after=7,
        max_body=lambda path: max_body,
        authenticate=authenticate,
        allowed_hosts=allowed_hosts,
    )
    app.add_middleware(Guard, rules=rules)
    return app


def ask(app, method="GET", path="/", client="127.0.0.1", host="localhost:8000", **options):
    headers = {"host": host, **options.pop("headers", {})}

    async def send():
        transport = httpx.ASGITransport(app=app, client=(client, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.request(method, path, headers=headers, **options)

    return asyncio.run(send())


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"])
def test_this_machine_may_call(host):
    assert ask(make_app(), host=host).json() == {"tenant": "default"}


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8000",
        "",
        "10.0.0.5",
        "[",
        "[x]:8000",
    ],
)
def test_another_name_for_this_machine_is_refused(host):
    assert code(ask(make_app(), host=host)) == (403, "bad_host")


def test_another_machine_is_refused():
    assert code(ask(make_app(), client="10.0.0.5")) == (403, "not_local")


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:9000", "https://localhost", "http://["],
)
def test_another_page_is_refused(origin):
    answer = ask(make_app(), "POST", "/v1/echo", json={}, headers={"origin": origin})
    assert code(answer) == (403, "bad_origin")


def test_our_own_page_may_call():
    headers = {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}
    assert ask(make_app(), "POST", "/v1/echo", json={"a": 1}, headers=headers).json() == {"a": 1}


def test_a_cross_site_read_is_refused():
    answer = ask(make_app(), path="/v1/waits", headers={"sec-fetch-site": "cross-site"})
    assert code(answer) == (403, "bad_origin")


def test_with_keys_other_machines_and_names_are_welcome():
    app = make_app(open_access=False)
    assert ask(app, client="10.0.0.5", host="search.example").status_code == 200


def test_allowed_hosts_are_the_only_ones():
    app = make_app(open_access=False, allowed_hosts=("search.example",))
    assert ask(app, client="10.0.0.5", host="Search.Example:443").status_code == 200
    assert code(ask(app, client="10.0.0.5", host="other.example")) == (403, "bad_host")


def test_a_write_without_a_key_is_refused_before_its_body_is_parsed():
    app = make_app(open_access=False, authenticate=lambda headers: None)
    answer = ask(app, "POST", "/v1/echo", content=b"{broken", headers={"content-type": "x/y"})
    assert code(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read(kind):
    answer = ask(make_app(), "POST", "/v1/echo", content=b"{}", headers={"content-type": kind})
    assert code(answer) == (415, "not_json")


def test_a_large_body_is_refused_by_its_announced_length():
    answer = ask(make_app(), "POST", "/v1/echo", json={"a": "x" * 2_000_000})
    assert code(answer) == (413, "too_large")
    assert "1000" in answer.json()["error"]["message"]


def test_a_large_body_is_refused_while_it_arrives():
    async def parts():
        for _ in range(50):
            yield b"x" * 100

    headers = {"content-type": "application/json"}
    answer = ask(make_app(), "POST", "/v1/echo", content=parts(), headers=headers)
    assert code(answer) == (413, "too_large")


def test_broken_json_is_a_400():
    headers = {"content-type": "application/json"}
    answer = ask(make_app(), "POST", "/v1/echo", content=b'{"a": ', headers=headers)
    assert code(answer) == (400, "bad_json")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": "\xff"}', "UTF-8"),
        (b"[" * 50_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "too many digits"),
    ],
)
def test_what_the_json_reader_cannot_hold_is_bad_json_too(body, reason):
    headers = {"content-type": "application/json"}
    app = make_app(max_body=100_000)
    answer = ask(app, "POST", "/v1/echo", content=body, headers=headers)
    assert code(answer) == (400, "bad_json")
    assert reason in answer.json()["error"]["message"]


def test_a_packed_body_is_refused_by_its_name():
    headers = {"content-encoding": "gzip"}
    answer = ask(make_app(), "POST", "/v1/echo", json={}, headers=headers)
    assert code(answer) == (415, "bad_encoding")
    assert "Content-Encoding 'gzip'" in answer.json()["error"]["message"]
    assert answer.headers["accept-encoding"] == "identity"
    headers = {"content-encoding": "identity"}
    assert ask(make_app(), "POST", "/v1/echo", json={}, headers=headers).status_code == 200


def test_too_many_requests_are_turned_away_at_once():
    app = make_app()

    async def crowd():
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            waiting = [asyncio.create_task(http.get("/v1/waits")) for _ in range(2)]
            await asyncio.sleep(0.05)
            third = await http.get("/v1/waits")
            app.state.hold.set()
            return third, [answer.status_code for answer in await asyncio.gather(*waiting)]

    third, others = asyncio.run(crowd())
    assert code(third) == (429, "overloaded")
    assert third.headers["retry-after"] == "7"
    assert others == [200, 200]


@pytest.mark.parametrize(("method", "size", "status"), [("POST", 10, 401), ("GET", 2000, 413)])
def test_a_refused_body_that_never_comes_takes_no_place(monkeypatch, method, size, status):
    monkeypatch.setattr(guards, "DRAIN_SECONDS", 0.5)
    app = make_app(open_access=False, authenticate=lambda headers: None)
    app.state.hold.set()

    async def never():
        await asyncio.Event().wait()
        yield b""

    async def crowd():
        transport = httpx.ASGITransport(app=app)
        headers = {"content-length": str(size)}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            silent = [
                asyncio.create_task(
                    http.request(method, "/v1/echo", content=never(), headers=headers)
                )
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            third = await http.get("/v1/waits")
            assert not any(task.done() for task in silent)
            async with asyncio.timeout(5):
                return third, [answer.status_code for answer in await asyncio.gather(*silent)]

    third, others = asyncio.run(crowd())
    assert third.status_code == 200
    assert others == [status, status]


def test_a_stopping_service_takes_nothing_new():
    app = make_app()
    app.state.load.draining = True
    answer = ask(app, "POST", "/v1/echo", json={})
    assert code(answer) == (503, "unavailable")
    assert answer.headers["retry-after"] == "7"
    assert ask(app, path="/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1/fails"])
def test_every_answer_carries_the_security_headers(path):
    headers = ask(make_app(), path=path).headers
    assert headers["content-security-policy"] == POLICY
    assert "'unsafe-inline'" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_defect_is_answered_and_logged_without_its_text(caplog):
    answer = ask(make_app(), path="/v1/fails")
    assert code(answer) == (500, "internal")
    assert "private" not in answer.text
    assert "private" not in caplog.text
    assert "ValueError" in caplog.text


def test_an_unknown_address_and_method_are_explained():
    assert code(ask(make_app(), path="/nothing")) == (404, "not_found")
    answer = ask(make_app(), "DELETE", "/")
    assert code(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, PUT"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RecordError("no_turns", "a record has no turns"), 422),
        (ForbiddenError("outside"), 403),
        (LimitError("too large"), 413),
        (NotFoundError("not here"), 404),
        (DeletedError("deleted"), 409),
        (BusyError("full"), 429),
        (TimeoutError(), 504),
        (Problem(418, "tea"), 418),
        (KeyError("secret"), 500),
    ],
)
def test_errors_have_their_status(error, status):
    problem = problem_of(error)
    assert problem.status == status
    assert "secret" not in json.dumps(problem.body)


@pytest.mark.parametrize(
    "error",
    [ActorUnavailableError("away", b"a" * 16), ReplicaUnavailableError("away")],
    ids=lambda error: type(error).__name__,
)
def test_a_process_out_of_reach_is_a_part_that_restarts(error):
    assert problem_of(error).status == 503


def test_loopback_is_recognized():
    for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "LOCALHOST."):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com", ""):
        assert not is_loopback(host)
