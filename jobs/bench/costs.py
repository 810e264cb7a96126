"""What a search costs an engine: tokens and seconds, and how two ways compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ffr_core.generation import Completion, GenerationRequest
from ffr_core.protocols import Engine


@dataclass(slots=True)
class Spent:
    """What one search cost."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and output, cached prefixes included."""
        return self.prompt_tokens + self.output_tokens

    @property
    def computed(self) -> int:
        """Tokens that went through the model."""
        return self.tokens - self.cached_tokens


@dataclass(slots=True)
class Meter:
    """`Engine` that counts the tokens of another one."""

    engine: Engine
    spent: Spent = field(default_factory=Spent)

    @property
    def fingerprint(self) -> str:
        """As in `Engine`."""
        return self.engine.fingerprint

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Answer and count."""
        answers = self.engine.generate(requests)
        self.spent.requests += len(answers)
        for answer in answers:
            self.spent.prompt_tokens += answer.num_prompt_tokens
            self.spent.cached_tokens += answer.num_cached_tokens
            self.spent.output_tokens += len(answer.token_ids)
        return answers

    def load_adapter(self, name: str, path: str) -> None:
        """As in `Engine`."""
        self.engine.load_adapter(name, path)

    def unload_adapter(self, name: str) -> None:
        """As in `Engine`."""
        self.engine.unload_adapter(name)

    def close(self) -> None:
        """As in `Engine`."""
        self.engine.close()


def added(a: Spent, b: Spent) -> Spent:
    """Sum of two costs."""
    return Spent(
        seconds=a.seconds + b.seconds,
        prompt_tokens=a.prompt_tokens + b.prompt_tokens,
        cached_tokens=a.cached_tokens + b.cached_tokens,
        output_tokens=a.output_tokens + b.output_tokens,
        requests=a.requests + b.requests,
    )


def record(costs: Sequence[Spent]) -> dict[str, float]:
    """Means over queries."""
    names = ("seconds", "requests", "prompt_tokens", "output_tokens", "tokens", "computed")
    return {name: round(float(np.mean([getattr(c, name) for c in costs])), 3) for name in names}


def compared(two: Sequence[Spent], brute: Sequence[Spent]) -> dict[str, Any]:
    """Both sides and the paired ratios, their median and extremes over the queries."""
    ratios = {
        name: [
            getattr(b, name) / max(getattr(a, name), 1e-9) for a, b in zip(two, brute, strict=True)
        ]
        for name in ("tokens", "computed", "seconds")
    }
    return {
        "two_stages": record(two),
        "brute_force": record(brute),
        "speedup": {
            name: {
                "median": round(float(np.median(values)), 1),
                "lowest": round(min(values), 1),
                "highest": round(max(values), 1),
            }
            for name, values in ratios.items()
        },
    }


def draw(sizes: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds and tokens of a query over corpus size, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    count = [size["dialogues"] for size in sizes]
    for axis, name in zip(axes, ("seconds", "tokens"), strict=True):
        for way, label in (("brute_force", "brute force"), ("two_stages", "two stages")):
            axis.plot(count, [size[way][name] for size in sizes], marker="o", label=label)
        axis.set(xlabel="dialogues", ylabel=f"{name} of a query", xscale="log", yscale="log")
        axis.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
