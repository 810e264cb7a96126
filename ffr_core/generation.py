"""What goes into an engine and what comes out: messages with images, sampling, completions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ffr_core.errors import InputError
from ffr_core.types import Image

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a chat prompt: text parts and images in reading order."""

    role: Role
    parts: tuple[str | Image, ...]
    """Rendered text (typed text already escaped) and images, by reference."""


def has_bytes(image: Image) -> bool:
    """Whether a picture can be opened: it has a URI, and one that is no web reference.

    Those are never fetched; an engine leaves them out as it does images without a URI, and their
    marker stays in the prompt.
    """
    return image.uri is not None and not image.uri.lower().startswith(("http:", "https:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn."""

    sampling_temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int | None = None
    """Seed of this request alone; None leaves it to the engine."""
    banned_token_ids: tuple[int, ...] = ()
    """Tokens that are never drawn, beside the vision tokens that engines always ban."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.sampling_temperature < 0 or not 0 < self.top_p <= 1 or self.max_new_tokens < 1:
            raise InputError(
                f"sampling_temperature {self.sampling_temperature}, top_p {self.top_p},"
                f" max_new_tokens {self.max_new_tokens}: expected >= 0, in (0, 1], and >= 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One completion to make."""

    request_id: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    grammar: str | None = None
    """A regular expression that the whole completion must match; None leaves it free."""
    adapter: str | None = None
    """Name given to `load_adapter`; None is the bare base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer, in the order of the requests."""

    request_id: str
    text: str
    """Decoded with special tokens kept, without the end-of-turn token."""
    token_ids: tuple[int, ...] = ()
    """Sampled tokens, the end-of-turn token included when it was drawn."""
    logprobs: tuple[float, ...] = ()
    """Natural log-probability of each sampled token at sampling temperature 1 over the vocabulary
    without banned tokens, before any grammar mask and before top_p; empty where the engine cannot
    tell."""
    token_texts: tuple[str, ...] = ()
    """Text of each token that has a log-probability, for those who read them by place."""
    finish_reason: Literal["stop", "length", "error"] = "stop"
    error: str | None = None
    """Why there is no answer (an image that cannot be read, a prompt too long); text is empty."""
    unanswered: bool = False
    """The error is the engine's: it was away or too busy, and may answer the same request later."""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    """Of these, tokens whose computation the engine had kept from an earlier prompt."""
