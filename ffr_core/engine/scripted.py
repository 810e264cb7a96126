"""The honest simple engine: answers come from a function; a token is a marker or a character.

It ships for demonstrations, dry runs and tests of everything around a model. It obeys the contract:
grammars, bans, adapters, limits and errors act as in the real engines; it has no log-probabilities.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import zlib
from collections.abc import Callable, Mapping, Sequence

from ffr_core.errors import FfrError, InputError, NotFoundError
from ffr_core.generation import Completion, GenerationRequest, Message, has_bytes

Script = Callable[[GenerationRequest], str] | Mapping[str, str]
_TOKENS = re.compile(r"<\|\w+\|>|.", re.DOTALL)
_VISION = re.compile(r"<\|(?:vision_start|vision_end|vision_pad|image_pad|video_pad)\|>")


class ScriptedEngine:
    """`Engine` that answers from a function of the request, or from a mapping.

    A mapping is searched for the first key that the prompt's text contains; the key "" answers the
    rest. A request that nothing answers gets an error of its own.
    """

    def __init__(
        self,
        script: Script,
        images: Callable[[str], object] | None = None,
        max_prompt_characters: int = 1_000_000,
    ) -> None:
        """Keep the script.

        Args:
            script: The answers.
            images: Opens each image of a prompt, so that unreadable ones give errors here too.
            max_prompt_characters: Longer prompts give an error.
        """
        self._script, self._images = script, images
        self._max_prompt_characters = max_prompt_characters
        self._adapters: dict[str, str] = {}
        self.requests: list[GenerationRequest] = []
        """Everything that was asked, in order."""

    @property
    def fingerprint(self) -> str:
        """Hash of the mapping, or of the function's source."""
        if isinstance(self._script, Mapping):
            content = repr(sorted(self._script.items()))
        else:
            try:
                content = inspect.getsource(self._script)
            except (OSError, TypeError):
                content = repr(type(self._script))
        return f"scripted:{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer all requests, in their order; an unknown adapter raises NotFoundError."""
        for request in requests:
            if request.adapter is not None and request.adapter not in self._adapters:
                raise NotFoundError(f"adapter {request.adapter!r} is not loaded; load it first")
        return [self._answer(request) for request in requests]

    def load_adapter(self, name: str, path: str) -> None:
        """Remember a name; nothing is read."""
        if name in self._adapters:
            raise InputError(f"adapter name {name!r} is in use; load it under a fresh name")
        self._adapters[name] = path

    def unload_adapter(self, name: str) -> None:
        """Forget a name."""
        if self._adapters.pop(name, None) is None:
            raise NotFoundError(f"adapter {name!r} is not loaded; nothing to unload")

    def close(self) -> None:
        """Nothing to release."""

    def _answer(self, request: GenerationRequest) -> Completion:
        self.requests.append(request)
        try:
            text = self._text(request)
        except FfrError as error:
            return Completion(
                request_id=request.request_id, text="", finish_reason="error", error=str(error)
            )
        limit = request.sampling.max_new_tokens
        tokens = _TOKENS.findall(text)
        stopped = len(tokens) < limit
        ids = tuple(_token_id(token) for token in tokens[:limit])
        return Completion(
            request_id=request.request_id,
            text="".join(tokens[:limit]),
            token_ids=(*ids, 0) if stopped else ids,
            finish_reason="stop" if stopped else "length",
            num_prompt_tokens=len(prompt_text(request.messages)),
        )

    def _text(self, request: GenerationRequest) -> str:
        prompt = prompt_text(request.messages)
        if len(prompt) >= self._max_prompt_characters:
            raise InputError(
                f"the prompt has {len(prompt)} tokens, the model reads"
                f" {self._max_prompt_characters} with the answer; send a shorter dialogue"
            )
        for message in request.messages:
            for part in message.parts:
                if not isinstance(part, str) and has_bytes(part) and self._images is not None:
                    assert part.uri is not None
                    self._images(part.uri)
        banned = set(request.sampling.banned_token_ids)
        text = _VISION.sub("", self._look_up(request, prompt))
        text = "".join(t for t in _TOKENS.findall(text) if _token_id(t) not in banned)
        if request.grammar is not None:
            _check_grammar(request.grammar, text)
        return text

    def _look_up(self, request: GenerationRequest, prompt: str) -> str:
        if not isinstance(self._script, Mapping):
            return self._script(request)
        for key, answer in self._script.items():
            if key in prompt:
                return answer
        raise InputError("the script has no answer for this prompt; add a key that it contains")


def prompt_text(messages: Sequence[Message]) -> str:
    """All text of a prompt, an image as `<image URI>`."""
    return "\n".join(
        "".join(part if isinstance(part, str) else f"<image {part.uri}>" for part in message.parts)
        for message in messages
    )


def _token_id(token: str) -> int:
    """A character's code point, a marker's checksum above all code points."""
    return ord(token) if len(token) == 1 else 0x110000 + zlib.crc32(token.encode())


def _check_grammar(pattern: str, text: str) -> None:
    try:
        matches = re.fullmatch(pattern, text) is not None
    except re.error as error:
        raise InputError(f"grammar {pattern!r:.80} is not a regular expression: {error}") from error
    if not matches:
        raise InputError(
            f"the script's answer {text!r:.80} does not match the request's grammar; change one"
        )
