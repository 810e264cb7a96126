"""Any OpenAI-compatible endpoint as an engine: a hosted model, or a vLLM server that runs already.

Images travel as data URLs. Sampling with log-probabilities, a grammar or banned tokens depends on
the server: log-probabilities are what it returns, grammars are sent as vLLM's
`structured_outputs.regex` and checked when the answer is back, banned tokens as `logit_bias`.
"""

from __future__ import annotations

import asyncio
import base64
import io
import math
import os
import re
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from ffr_core.errors import BusyError, ConfigError, FfrError, InputError, NotFoundError
from ffr_core.generation import Completion, GenerationRequest, Message, has_bytes

if TYPE_CHECKING:
    import PIL.Image

T = TypeVar("T")
_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)


class AsyncOpenAiEngine:
    """`AsyncEngine` over `/chat/completions`; canceling a task closes its connection."""

    def __init__(
        self,
        url: str,
        model: str,
        images: Callable[[str], PIL.Image.Image],
        *,
        api_key_env: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 3,
        max_parallel: int = 16,
        max_side: int = 1024,
        max_images: int | None = None,
        max_pixels: int | None = None,
        max_total_pixels: int | None = None,
        logprobs: bool = True,
        backoff: float = 0.5,
    ) -> None:
        """Remember the endpoint; nothing is sent.

        Args:
            url: Up to and without `/chat/completions`, such as `http://host:8000/v1`.
            model: The server's name for the model; an adapter's name replaces it.
            images: URI to RGB picture; its errors stay with their request.
            api_key_env: Environment variable with the key; secrets never stand in a file.
            timeout: Seconds for one attempt.
            max_retries: Further attempts after a refused connection, a time-out, 429 or 5xx.
            max_parallel: Requests in flight.
            max_side: Pictures are scaled down to this many pixels on the longer side.
            max_images: Further images of a prompt are left out, their markers stay.
            max_pixels: Larger pictures are scaled down.
            max_total_pixels: Pixels that the pictures of one prompt share.
            logprobs: Ask for log-probabilities; off for servers that refuse the parameter.
            backoff: Seconds before the first retry, doubled each time.
        """
        headers = {}
        if api_key_env is not None:
            key = os.environ.get(api_key_env)
            if not key:
                raise ConfigError(f"environment variable {api_key_env} is empty; set the API key")
            headers["Authorization"] = f"Bearer {key}"
        self._url, self._model, self._images = url.rstrip("/"), model, images
        self._headers, self._timeout = headers, timeout
        self._max_retries, self._backoff = max_retries, backoff
        self._max_parallel, self._max_side, self._max_images = max_parallel, max_side, max_images
        self._max_pixels, self._max_total_pixels = max_pixels, max_total_pixels
        self._logprobs = logprobs
        self._adapters: dict[str, str] = {}
        self._client: httpx.AsyncClient | None = None

    @property
    def fingerprint(self) -> str:
        """Endpoint, model and pictures; what the server changes behind them is not seen."""
        limits = (self._max_side, self._max_images, self._max_pixels, self._max_total_pixels)
        return ":".join(map(str, ("openai", self._url, self._model, *limits)))

    async def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request."""
        if request.adapter is not None and request.adapter not in self._adapters:
            raise NotFoundError(f"adapter {request.adapter!r} is not loaded; load it first")
        try:
            body = await asyncio.to_thread(self._body, request)
            answer = await self._send("/chat/completions", body)
            return read_answer(request, answer)
        except FfrError as error:
            return Completion(
                request_id=request.request_id,
                text="",
                finish_reason="error",
                error=str(error),
                unanswered=isinstance(error, BusyError),
            )

    async def load_adapter(self, name: str, path: str) -> None:
        """Ask a vLLM server (with runtime LoRA updating on) to load a folder that it can see."""
        if name in self._adapters:
            raise InputError(f"adapter name {name!r} is in use; load it under a fresh name")
        try:
            await self._send("/load_lora_adapter", {"lora_name": name, "lora_path": path})
        except InputError:
            # Another client of this server may have loaded the same folder under this name.
            if await self._served_from(name) != path:
                raise
        self._adapters[name] = path

    async def unload_adapter(self, name: str) -> None:
        """As in `Engine`."""
        if name not in self._adapters:
            raise NotFoundError(f"adapter {name!r} is not loaded; nothing to unload")
        await self._send("/unload_lora_adapter", {"lora_name": name})
        del self._adapters[name]

    async def _served_from(self, name: str) -> str | None:
        """Folder of a model or adapter that the server has; None when it has no such name."""
        listed = await self._send("/models")
        models = listed.get("data") if isinstance(listed, dict) else None
        return next((model.get("root") for model in models or () if model.get("id") == name), None)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": request.adapter or self._model,
            "messages": self._chat(request.messages),
            "temperature": sampling.sampling_temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if self._logprobs:
            body["logprobs"] = True
        if sampling.banned_token_ids:
            body["logit_bias"] = {str(i): -100 for i in sampling.banned_token_ids}
        if request.grammar is not None:
            body["structured_outputs"] = {"regex": request.grammar}
        if request.grammar is not None or request.adapter is not None:
            # Markers such as <|utt_ids_start|> are special tokens, which vLLM leaves out. Sent
            # where only vLLM can answer anyway: others refuse parameters that they do not know.
            body["skip_special_tokens"] = False
        return body

    def _chat(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages in the wire form; pictures as data URLs."""
        images = sum(has_bytes(p) for m in messages for p in m.parts if not isinstance(p, str))
        if self._max_images is not None:
            images = min(images, self._max_images)
        limits = [
            self._max_pixels,
            self._max_total_pixels and self._max_total_pixels // max(1, images),
        ]
        pixels = min((limit for limit in limits if limit is not None), default=None)
        num_images = 0
        chat: list[dict[str, Any]] = []
        for message in messages:
            content: list[dict[str, Any]] = []
            for part in message.parts:
                if isinstance(part, str):
                    content.append({"type": "text", "text": part})
                elif has_bytes(part) and num_images != self._max_images:
                    assert part.uri is not None
                    num_images += 1
                    url = data_url(self._images(part.uri), self._max_side, pixels)
                    content.append({"type": "image_url", "image_url": {"url": url}})
            texts = [part["text"] for part in content if part["type"] == "text"]
            chat.append(
                {
                    "role": message.role,
                    "content": "".join(texts) if len(texts) == len(content) else content,
                }
            )
        return chat

    async def _send(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST a body or GET, with retries; FfrError when the server refuses or stays away."""
        if self._client is None:
            limits = httpx.Limits(max_connections=self._max_parallel)
            self._client = httpx.AsyncClient(
                headers=self._headers,
                limits=limits,
                timeout=httpx.Timeout(self._timeout, pool=None),
            )
        problem = ""
        for attempt in range(self._max_retries + 1):
            if attempt:
                await asyncio.sleep(self._backoff * 2 ** (attempt - 1))
            try:
                method = "GET" if body is None else "POST"
                response = await self._client.request(method, self._url + path, json=body)
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__} {error}".strip()
                continue
            if response.status_code < 400:
                return _json(response)
            problem = f"status {response.status_code}: {response.text[:200]}"
            if response.status_code not in _RETRIED:
                raise InputError(f"{self._url}{path} refused the request, {problem}; change it")
        raise BusyError(
            f"{self._url}{path} did not answer in {self._max_retries + 1} attempts, last"
            f" {problem}; check that the server runs"
        )


class OpenAiEngine:
    """`Engine` over an OpenAI-compatible endpoint, with an event loop of its own in a thread.

    Several threads may call it. Options as of `AsyncOpenAiEngine`.
    """

    def __init__(
        self, url: str, model: str, images: Callable[[str], PIL.Image.Image], **options: Any
    ) -> None:
        """Remember the endpoint; nothing is sent."""
        self._engine = AsyncOpenAiEngine(url, model, images, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def fingerprint(self) -> str:
        """As in `AsyncOpenAiEngine`."""
        return self._engine.fingerprint

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests, in their order."""

        async def together() -> list[Completion]:
            return list(await asyncio.gather(*(self._engine.generate(r) for r in requests)))

        return self._run(together())

    def load_adapter(self, name: str, path: str) -> None:
        """As in `AsyncOpenAiEngine`."""
        self._run(self._engine.load_adapter(name, path))

    def unload_adapter(self, name: str) -> None:
        """As in `AsyncOpenAiEngine`."""
        self._run(self._engine.unload_adapter(name))

    def close(self) -> None:
        """Close the connections."""
        self._run(self._engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def read_answer(request: GenerationRequest, answer: Any) -> Completion:
    """The completion in a server's JSON; InputError when it has another form."""
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError(f"content is a {type(text).__name__}")
        entries = (choice.get("logprobs") or {}).get("content") or []
        logprobs = tuple(float(entry["logprob"]) for entry in entries)
        num_prompt_tokens = int((answer.get("usage") or {}).get("prompt_tokens", 0))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the server's answer {answer!r:.200} is not a chat completion; check the URL"
        ) from error
    cut_off = choice.get("finish_reason") == "length"
    # A text that was cut off is a beginning of what the grammar admits.
    if request.grammar and not cut_off and re.fullmatch(request.grammar, text) is None:
        raise InputError(
            f"the server's answer {text!r:.80} does not match the grammar; it may not support"
            " structured_outputs, leave the grammar out"
        )
    return Completion(
        request_id=request.request_id,
        text=text,
        logprobs=logprobs,
        token_texts=tuple(str(entry.get("token", "")) for entry in entries),
        finish_reason="length" if cut_off else "stop",
        num_prompt_tokens=num_prompt_tokens,
    )


def data_url(picture: PIL.Image.Image, max_side: int, max_pixels: int | None = None) -> str:
    """A JPEG data URL: at most `max_side` pixels on the longer side, `max_pixels` in all."""
    if max_pixels is not None:
        scale = math.sqrt(max_pixels / (picture.width * picture.height))
        max_side = max(1, min(max_side, int(scale * max(picture.size))))
    smaller = picture.copy()
    smaller.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    smaller.save(buffer, format="JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return {}
