"""One set of properties for all engines; vLLM starts once for the whole file."""

import asyncio
import importlib.util
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pictures

from ffr_core.engine.loading import load_model
from ffr_core.engine.openai import OpenAiEngine
from ffr_core.engine.scripted import ScriptedEngine
from ffr_core.engine.transformers import TransformersEngine
from ffr_core.errors import InputError, NotFoundError
from ffr_core.generation import Completion, GenerationRequest, Message, Sampling
from ffr_core.prompts import Prompts
from ffr_core.protocols import Engine
from ffr_core.types import Dialogue, Image, Turn
from jobs.tiny.architecture import build_config, build_processor, build_tokenizer, new_model

pytestmark = pytest.mark.timeout(420)  # a vLLM engine takes minutes to start on a busy machine
COMPACT = Prompts.load("compact")
GRAMMAR = r"<\|utt_ids_start\|>\[(0|1)\]<\|utt_ids_end\|>"
SCRIPT = {"": "<|utt_ids_start|>[0]<|utt_ids_end|>"}
MAX_LENGTH = 512
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra cpu or gpu)"
)


def picture(uri: str) -> Pictures.Image:
    if uri == "missing.png" or uri.startswith("HTTPS:"):
        raise NotFoundError(f"image {uri!r} does not exist; check the path")
    return Pictures.linear_gradient("L").resize((90, 60)).convert("RGB")


def prompt(text: str, uri: str | None = None, query: str = "red bicycle") -> tuple[Message, ...]:
    images = (Image(image_id=0, uri=uri),) if uri else ()
    first = Turn(turn_id=0, speaker="Ana", text=text, images=images)
    second = Turn(turn_id=1, speaker="Bo", text="see you on Saturday")
    return COMPACT.localize(Dialogue(dialogue_id="d", turns=(first, second)), query)


def request(name: str, messages: tuple[Message, ...], **sampling: Any) -> GenerationRequest:
    grammar, adapter = sampling.pop("grammar", None), sampling.pop("adapter", None)
    return GenerationRequest(
        request_id=name,
        messages=messages,
        sampling=Sampling(**{"max_new_tokens": 50, **sampling}),
        grammar=grammar,
        adapter=adapter,
    )


TALK = prompt("look at the beach", uri="a.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose heads have 32 dimensions; vLLM on CPUs takes no fewer."""
    out = tmp_path_factory.mktemp("tiny")
    sentences = ["Ana: look at the red bicycle on the beach, we meet on Saturday"] * 20
    tokenizer = build_tokenizer(sentences, vocab_size=640)
    sizes = {"hidden_size": 64, "num_heads": 2, "num_layers": 2, "intermediate_size": 128}
    config = build_config(tokenizer, **sizes, vision_size=32, vision_depth=1)
    build_processor(tokenizer).save_pretrained(out)
    new_model(config, seed=0).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A LoRA that changes answers, in the form that training writes."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    names = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    model = get_peft_model(load_model(folder), LoraConfig(r=4, lora_alpha=8, target_modules=names))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    out = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(out)
    return str(out)


class _Server(BaseHTTPRequestHandler):
    """Speaks the OpenAI protocol for a scripted engine."""

    engine = ScriptedEngine(SCRIPT, max_prompt_characters=MAX_LENGTH)

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("lora_adapter"):
            return self._send(200, {})
        parts: list[str] = []
        for message in body["messages"]:
            content = message["content"]
            for part in [{"text": content}] if isinstance(content, str) else content:
                url = part.get("image_url", {"url": "data:image/jpeg;base64,"})["url"]
                assert url.startswith("data:image/jpeg;base64,")
                parts.append(part.get("text", ""))
        [answer] = self.engine.generate(
            [
                request(
                    "x",
                    (Message(role="user", parts=("".join(parts),)),),
                    max_new_tokens=body["max_tokens"],
                    grammar=body.get("structured_outputs", {}).get("regex"),
                )
            ]
        )
        if answer.error:
            return self._send(400, {"error": answer.error})
        message = {"role": "assistant", "content": answer.text}
        choice = {"message": message, "finish_reason": answer.finish_reason}
        self._send(200, {"choices": [choice], "usage": {"prompt_tokens": 7}})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture(scope="module")
def vllm_engine(folder: Path) -> Iterator[Any]:
    from ffr_core.engine.vllm import VllmEngine

    engine = VllmEngine(folder, picture, dtype="float32", max_model_len=MAX_LENGTH, max_num_seqs=16)
    yield engine
    engine.close()


@pytest.fixture(
    scope="module",
    params=["scripted", "openai", "transformers", pytest.param("vllm", marks=needs_vllm)],
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "scripted":
        yield ScriptedEngine(SCRIPT, images=picture, max_prompt_characters=MAX_LENGTH)
    elif request.param == "openai":
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = OpenAiEngine(f"http://127.0.0.1:{server.server_port}/v1", "m", picture)
        yield client
        client.close()
        server.shutdown()
        server.server_close()
    elif request.param == "transformers":
        folder = request.getfixturevalue("folder")
        yield TransformersEngine.open(folder, picture, max_model_len=MAX_LENGTH)
    else:
        yield request.getfixturevalue("vllm_engine")


class TestEngine:
    def test_answers_come_in_order_and_say_what_they_are(self, engine: Engine) -> None:
        texts = ["the station", "look at the beach", "we meet on Saturday"]
        requests = [request(f"r{i}", prompt(text, "a.png")) for i, text in enumerate(texts)]
        answers = engine.generate(requests)
        assert [answer.request_id for answer in answers] == ["r0", "r1", "r2"]
        for answer in answers:
            assert answer.error is None and answer.finish_reason in ("stop", "length")
            assert answer.text and answer.num_prompt_tokens > 0
            assert "<|im_end|>" not in answer.text
            assert len(answer.logprobs) in (0, len(answer.token_ids))
            assert all(logprob <= 1e-6 for logprob in answer.logprobs)
        assert engine.generate([]) == []

    def test_greedy_answers_repeat(self, engine: Engine) -> None:
        [first], twice = engine.generate([request("a", TALK)]), [request("a", TALK)] * 2
        assert [answer.text for answer in engine.generate(twice)] == [first.text] * 2

    def test_seeded_samples_repeat(self, engine: Engine) -> None:
        hot = [request(str(i), TALK, sampling_temperature=1.0, top_p=0.9, seed=i) for i in range(3)]
        together = [answer.text for answer in engine.generate(hot)]
        assert together == [engine.generate([one])[0].text for one in hot]

    def test_long_answers_are_cut(self, engine: Engine) -> None:
        [answer] = engine.generate([request("a", TALK, max_new_tokens=3)])
        assert answer.finish_reason == "length" and len(answer.token_ids) in (0, 3)

    def test_a_grammar_rules_the_whole_answer(self, engine: Engine) -> None:
        requests = [
            request("greedy", TALK, grammar=GRAMMAR),
            request("hot", TALK, grammar=GRAMMAR, sampling_temperature=1.0, seed=5),
            request("free", TALK),
        ]
        answers = engine.generate(requests)
        for answer in answers[:2]:
            assert re.fullmatch(GRAMMAR, answer.text) and answer.finish_reason == "stop"
        assert answers[2].error is None

    def test_pictures_never_enter_an_answer(self, engine: Engine) -> None:
        hot = [request(str(i), TALK, sampling_temperature=2.0, seed=i) for i in range(12)]
        for answer in engine.generate(hot):
            assert answer.error is None
            assert not re.search(r"<\|(vision_|image_pad|video_pad)", answer.text)

    def test_banned_tokens_are_never_drawn(self, engine: Engine) -> None:
        [free] = engine.generate([request("a", TALK)])
        if not free.token_ids:
            pytest.skip("this engine does not show token ids")
        banned = request("a", TALK, banned_token_ids=free.token_ids[:1])
        assert free.token_ids[0] not in engine.generate([banned])[0].token_ids

    def test_errors_stay_with_their_request(self, engine: Engine) -> None:
        requests = [
            request("lost", prompt("x", uri="missing.png")),
            request("long", prompt("beach " * MAX_LENGTH)),
            request("odd", TALK, grammar="(unfinished"),
            request("good", TALK),
        ]
        *bad, good = engine.generate(requests)
        assert [answer.finish_reason for answer in bad] == ["error"] * 3
        assert all(answer.text == "" and answer.error for answer in bad)
        assert "missing.png" in str(bad[0].error)
        assert good.error is None and good.text == engine.generate([requests[3]])[0].text

    def test_a_web_reference_is_left_out_as_an_image_without_bytes(self, engine: Engine) -> None:
        [message] = prompt("x", uri="missing.png")
        answers = []
        for uri in ("HTTPS://example.com/a.png", None):
            parts = [p if isinstance(p, str) else replace(p, uri=uri) for p in message.parts]
            assert len(parts) == 3
            messages = (replace(message, parts=tuple(parts)),)
            answers += engine.generate([request("a", messages)])
        assert answers[0].error is None and answers[0].text == answers[1].text

    def test_adapters_come_and_go(self, engine: Engine, adapter: str) -> None:
        [bare] = engine.generate([request("a", TALK)])
        engine.load_adapter("first", adapter)
        with pytest.raises(InputError, match="first"):
            engine.load_adapter("first", adapter)
        mixed = [request("a", TALK, adapter="first"), request("a", TALK)]
        adapted, same = engine.generate(mixed)
        assert adapted.error is None and same.text == bare.text
        engine.unload_adapter("first")
        with pytest.raises(NotFoundError, match="first"):
            engine.generate(mixed)
        with pytest.raises(NotFoundError, match="first"):
            engine.unload_adapter("first")
        assert engine.generate([request("a", TALK)])[0].text == bare.text

    def test_fingerprint_is_stable(self, engine: Engine) -> None:
        assert engine.fingerprint and engine.fingerprint == engine.fingerprint


@needs_vllm
def test_vllm_and_transformers_agree(vllm_engine: Any, folder: Path, adapter: str) -> None:
    reference = TransformersEngine.open(folder, picture, max_model_len=MAX_LENGTH)
    for engine in (reference, vllm_engine):
        engine.load_adapter("agree", adapter)
    requests = [
        request("picture", TALK),
        request("text", prompt("we meet at the station")),
        request("ruled", TALK, grammar=GRAMMAR),
        request("adapted", TALK, adapter="agree"),
        request("banned", TALK, banned_token_ids=(20, 30, 40, 50)),
    ]
    pairs = zip(vllm_engine.generate(requests), reference.generate(requests), strict=True)
    for ours, theirs in pairs:
        assert ours.token_ids == theirs.token_ids and ours.text == theirs.text
        assert ours.num_prompt_tokens == theirs.num_prompt_tokens
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=2e-3)


@needs_vllm
def test_vllm_adapters_act_or_are_refused(vllm_engine: Any, adapter: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(Path(adapter) / "adapter_model.safetensors")
    config = (Path(adapter) / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(config)
    foreign = {key.replace("layers.", "layers.9"): value for key, value in weights.items()}
    save_file(foreign, tmp_path / "adapter_model.safetensors")
    with pytest.raises(InputError, match="foreign"):
        vllm_engine.load_adapter("foreign", str(tmp_path))
    with pytest.raises(InputError, match="fresh name"):
        vllm_engine.load_adapter("foreign", adapter)
    vllm_engine.load_adapter("once", adapter)
    vllm_engine.unload_adapter("once")
    with pytest.raises(InputError, match="fresh name"):
        vllm_engine.load_adapter("once", adapter)


@needs_vllm
def test_vllm_stops_what_is_canceled(vllm_engine: Any) -> None:
    async def cancel_one() -> tuple[bool, Completion]:
        long = request("long", TALK, max_new_tokens=400, banned_token_ids=(2,))
        task = asyncio.ensure_future(vllm_engine.engine.generate(long))
        await asyncio.sleep(0.3)
        task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        after = await vllm_engine.engine.generate(request("after", TALK))
        assert not vllm_engine.engine._llm.output_processor.has_unfinished_requests()
        return isinstance(outcome, asyncio.CancelledError), after

    canceled, after = vllm_engine.submit(cancel_one()).result()
    assert canceled and after.error is None
