"""Write synthetic dialogues to a folder: records, pictures, and what the report counts."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ffr_core.dataset.synthetic.config import SynthConfig, SyntheticDialogue
from ffr_core.dataset.synthetic.generate import generate
from ffr_core.dataset.synthetic.pictures import draw_picture
from ffr_core.errors import ConfigError
from ffr_core.records import record_from_dialogue

if TYPE_CHECKING:
    from PIL.Image import Image

_PALETTE = 48
Format = Literal["ffrs", "dialogcc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthReport:
    """What was written."""

    path: Path
    """The corpus file."""
    dialogues: int
    turns: int
    images: int
    fragments: int
    qa_pairs: int
    queries: Mapping[str, int] = field(default_factory=dict)
    """By kind."""
    defects: Mapping[str, int] = field(default_factory=dict)
    """By kind; empty where none are planted."""
    seconds: float = 0.0

    def as_text(self) -> str:
        """A few lines for the terminal."""
        counted = ", ".join(f"{kind} {count}" for kind, count in sorted(self.queries.items()))
        planted = ", ".join(f"{kind} {count}" for kind, count in sorted(self.defects.items()))
        lines = [
            f"{self.dialogues} dialogues, {self.turns} turns, {self.images} images"
            f" in {self.seconds:.1f} s: {self.path}"
        ]
        if self.fragments:
            lines.append(f"{self.fragments} fragments, {self.qa_pairs} QA pairs")
        if counted:
            lines.append(f"{sum(self.queries.values())} queries: {counted}")
        if planted:
            lines.append(f"planted defects: {planted}")
        return "\n".join(lines)


def write(config: SynthConfig, out: Path, form: Format = "ffrs") -> SynthReport:
    """Write a corpus into a folder; again with the same settings, and the same files result.

    `ffrs` writes `dialogues.jsonl`, each record with two more keys than the schema: `qa_pairs` and
    `pictures` (what each image shows). `dialogcc` writes what its release looks like, see
    `ffr_core.dataset.synthetic.dialogcc`. Pictures are PNG files in `images/`.

    Raises:
        ConfigError: Defects are asked for in the format `ffrs`.
        OSError: The folder cannot be made or written.
    """
    out.mkdir(parents=True, exist_ok=True)
    if form == "dialogcc":
        from ffr_core.dataset.synthetic.dialogcc import write_dialogcc

        return write_dialogcc(config, out)
    if config.defects:
        raise ConfigError(
            f"defects {config.defects} can only be planted in short dialogues before cleaning;"
            " add --format dialogcc"
        )
    started = time.perf_counter()
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    (out / "images").mkdir(exist_ok=True)

    def records() -> Iterator[dict[str, Any]]:
        for made in generate(config):
            for image, picture in zip(made.dialogue.images, made.pictures, strict=True):
                save_png(draw_picture(picture, config.picture_size), out / str(image.uri))
            counts.update(_counts(made))
            kinds.update(q.kind.value for q in made.dialogue.queries or () if q.kind)
            yield _record(made)

    path = out / "dialogues.jsonl"
    write_lines(path, (json.dumps(record, ensure_ascii=False) for record in records()))
    return SynthReport(
        path=path,
        dialogues=counts["dialogues"],
        turns=counts["turns"],
        images=counts["images"],
        fragments=counts["fragments"],
        qa_pairs=counts["qa_pairs"],
        queries=dict(kinds),
        seconds=time.perf_counter() - started,
    )


def _counts(made: SyntheticDialogue) -> dict[str, int]:
    return {
        "dialogues": 1,
        "turns": len(made.dialogue.turns),
        "images": len(made.pictures),
        "fragments": len(made.dialogue.fragments or ()),
        "qa_pairs": len(made.qa_pairs),
    }


def _record(made: SyntheticDialogue) -> dict[str, Any]:
    return {
        **record_from_dialogue(made.dialogue),
        "qa_pairs": [asdict(pair) for pair in made.qa_pairs],
        "pictures": [asdict(picture) for picture in made.pictures],
    }


def save_png(image: Image, path: Path) -> None:
    """Write a small palette PNG."""
    to_palette(image).save(path)


def to_palette(image: Image) -> Image:
    """Few colors; a flat drawing loses nothing that the eye would see."""
    from PIL import Image as Pillow

    return image.quantize(_PALETTE, Pillow.Quantize.FASTOCTREE, dither=Pillow.Dither.NONE)


def write_lines(path: Path, lines: Iterator[str]) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_suffix(path.suffix + ".part")
    with part.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(line + "\n")
    part.replace(path)
