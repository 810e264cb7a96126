import asyncio
import base64
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import PIL.Image
import pytest

from ffr_core.engine.background import BackgroundEngine
from ffr_core.engine.openai import AsyncOpenAiEngine, OpenAiEngine
from ffr_core.engine.scripted import ScriptedEngine
from ffr_core.errors import ConfigError, InputError, NotFoundError
from ffr_core.generation import Completion, GenerationRequest, Message, Sampling
from ffr_core.types import Image

PICTURE = PIL.Image.new("RGB", (400, 200), "red")
GOOD = {
    "choices": [
        {
            "message": {"content": "ok"},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "ok", "logprob": -0.5}]},
        }
    ],
    "usage": {"prompt_tokens": 11},
}


class Endpoint(ThreadingHTTPServer):
    """Answers with the statuses in `plan`, then 200; keeps what it was sent."""

    plan: list[int]
    seen: list[tuple[str, Any, Any]]
    answer: Any = GOOD


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer_with(None)

    def do_POST(self) -> None:
        self.answer_with(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer_with(self, body: Any) -> None:
        self.server.seen.append((self.path, body, self.headers.get("Authorization")))
        status = self.server.plan.pop(0) if self.server.plan else 200
        data = json.dumps(self.server.answer if status == 200 else {"error": "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint(("127.0.0.1", 0), Handler)
    server.plan, server.seen = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def engine(endpoint: Endpoint, **options: Any) -> OpenAiEngine:
    url = f"http://127.0.0.1:{endpoint.server_port}/v1"
    return OpenAiEngine(url, "model", lambda uri: PICTURE, **{"backoff": 0.01, **options})


def ask(*parts: str | Image, **options: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id="r", messages=(Message(role="user", parts=parts),), **options
    )


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"max_pixels": 5_000}, [(100, 50), (100, 50)]),
        ({"max_total_pixels": 10_000}, [(100, 50), (100, 50)]),
        ({"max_total_pixels": 5_000, "max_images": 1}, [(100, 50)]),
        ({"max_total_pixels": 100, "max_pixels": 5_000}, [(10, 5), (10, 5)]),
    ],
)
def test_pictures_keep_to_the_limits_on_pixels(
    endpoint: Endpoint, limits: dict[str, int], sizes: list[tuple[int, int]]
) -> None:
    client = engine(endpoint, **limits)
    client.generate([ask("see ", *(Image(image_id=i, uri="a.png") for i in range(2)))])
    client.close()
    content = endpoint.seen[0][1]["messages"][0]["content"]
    assert [picture_of(part).size for part in content[1:]] == sizes


def picture_of(part: dict[str, Any]) -> PIL.Image.Image:
    data = part["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_wire_form(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    client = engine(endpoint, api_key_env="SOME_KEY", max_side=100, max_images=1)
    sampling = Sampling(sampling_temperature=0.5, top_p=0.9, max_new_tokens=7, seed=3)
    images = [Image(image_id=i, uri="a.png") for i in range(2)]
    [answer] = client.generate([ask("see ", *images, "now", sampling=sampling, grammar="ok")])
    client.close()
    [(path, body, key)] = endpoint.seen
    assert path == "/v1/chat/completions" and key == "Bearer secret"
    content = body.pop("messages")[0]["content"]
    assert body == {
        "model": "model",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 3,
        "logprobs": True,
        "structured_outputs": {"regex": "ok"},
        "skip_special_tokens": False,
    }
    assert [part["type"] for part in content] == ["text", "image_url", "text"]
    assert picture_of(content[1]).size == (100, 50)
    assert answer == Completion(
        request_id="r",
        text="ok",
        logprobs=(-0.5,),
        token_texts=("ok",),
        num_prompt_tokens=11,
    )


def test_an_adapter_that_another_client_has_loaded_is_used(endpoint: Endpoint) -> None:
    endpoint.plan = [400]
    endpoint.answer = {"data": [{"id": "lora", "root": "runs/a"}, {"id": "model", "root": "m"}]}
    client = engine(endpoint)
    client.load_adapter("lora", "runs/a")
    assert [path for path, _, _ in endpoint.seen] == ["/v1/load_lora_adapter", "/v1/models"]
    endpoint.answer = GOOD
    assert client.generate([ask("hi", adapter="lora")])[0].text == "ok"
    assert endpoint.seen[-1][1]["model"] == "lora"
    client.close()


def test_an_adapter_name_that_stands_for_another_folder_is_refused(endpoint: Endpoint) -> None:
    endpoint.plan = [400]
    endpoint.answer = {"data": [{"id": "lora", "root": "runs/b"}]}
    client = engine(endpoint)
    with pytest.raises(InputError, match="refused"):
        client.load_adapter("lora", "runs/a")
    client.close()


def test_passing_troubles_are_retried(endpoint: Endpoint) -> None:
    endpoint.plan = [503, 429]
    client = engine(endpoint)
    assert client.generate([ask("hi")])[0].text == "ok" and len(endpoint.seen) == 3
    endpoint.plan = [500] * 9
    [answer] = client.generate([ask("hi")])
    assert "4 attempts" in str(answer.error) and "500" in str(answer.error)
    client.close()


def test_refusals_are_not_retried(endpoint: Endpoint) -> None:
    endpoint.plan = [400]
    client = engine(endpoint)
    [bad, good] = [client.generate([ask("hi")])[0] for _ in range(2)]
    client.close()
    assert not bad.unanswered
    assert "refused" in str(bad.error) and good.text == "ok" and len(endpoint.seen) == 2


def test_several_threads_may_ask(endpoint: Endpoint) -> None:
    client = engine(endpoint)
    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda n: client.generate([ask(f"hi {n}")])[0].text, range(12))]
    client.close()
    assert answers == ["ok"] * 12


def test_a_dead_endpoint_is_an_error_of_the_request(endpoint: Endpoint) -> None:
    client = OpenAiEngine("http://127.0.0.1:9/v1", "m", lambda uri: PICTURE, backoff=0.01)
    [answer] = client.generate([ask("hi")])
    client.close()
    assert answer.finish_reason == "error" and "did not answer" in str(answer.error)
    assert answer.unanswered


def test_strange_answers_are_errors(endpoint: Endpoint) -> None:
    client = engine(endpoint)
    assert "grammar" in str(client.generate([ask("hi", grammar="other")])[0].error)
    parts = [{"type": "text", "text": "ok"}]
    for answer in (
        [],
        {"choices": []},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": parts}}]},
    ):
        endpoint.answer = answer
        assert "not a chat completion" in str(client.generate([ask("hi")])[0].error)
    client.close()


def test_an_answer_that_was_cut_off_under_a_grammar_is_no_error(endpoint: Endpoint) -> None:
    choice = {"message": {"content": "yes, y"}, "finish_reason": "length"}
    endpoint.answer = {"choices": [choice]}
    client = engine(endpoint)
    [answer] = client.generate([ask("hi", grammar="(yes, )*yes")])
    assert (answer.finish_reason, answer.text, answer.error) == ("length", "yes, y", None)
    endpoint.answer = {"choices": [{**choice, "finish_reason": "stop"}]}
    [answer] = client.generate([ask("hi", grammar="(yes, )*yes")])
    client.close()
    assert answer.finish_reason == "error" and "grammar" in str(answer.error)


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="SOME_KEY"):
        AsyncOpenAiEngine("http://x", "m", lambda uri: PICTURE, api_key_env="SOME_KEY")


def test_background_answers_what_waits_as_one_batch() -> None:
    class Counting(ScriptedEngine):
        sizes: list[int]

        def generate(self, requests: Any) -> list[Completion]:
            self.sizes.append(len(requests))
            return super().generate(requests)

    inner = Counting({"": "ok"})
    inner.sizes = []

    async def run() -> None:
        background = BackgroundEngine(inner)
        tasks = [asyncio.ensure_future(background.generate(ask("hi"))) for _ in range(5)]
        tasks[4].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [a.text for a in done[:4]] == ["ok"] * 4
        assert isinstance(done[4], asyncio.CancelledError)
        mixed = [background.generate(ask("hi", adapter=name)) for name in ("nobody", None)]
        bad, good = await asyncio.gather(*mixed, return_exceptions=True)
        assert isinstance(bad, NotFoundError) and good.text == "ok"

    asyncio.run(run())
    assert inner.sizes == [4, 2, 1, 1]  # the batch of two fails and is asked again one by one
