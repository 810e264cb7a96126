"""Short image-sharing dialogues in the form of DialogCC's release, with planted defects if wanted.

An entry holds `dialogue_id`, `split` and `dialogue`, a list of `{utterance_idx, utterance, speaker,
rationale, shared_image, description}`; `shared_image` lists `{image_url, caption}`. Two speakers
alternate, and the utterance that shares an image says what it shows.

With defects a share of the dialogues gets one each, the kinds in turn; `defects.json` lists them
with the reason under which a cleaning step should count them.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffr_core.dataset.synthetic.config import SynthConfig
from ffr_core.dataset.synthetic.defects import KINDS, Defect, Short, SizedPicture, plant
from ffr_core.dataset.synthetic.generate import generate_one
from ffr_core.dataset.synthetic.pictures import describe_picture, draw_sized
from ffr_core.dataset.synthetic.write import SynthReport, save_png, write_lines

_SPLITS = {"train": "train", "heldout": "test"}


def short_dialogue(config: SynthConfig, number: int) -> Short:
    """The dialogue with a number, without defects."""
    made = generate_one(config, number)
    language = made.dialogue.language or "en"
    first, second = made.dialogue.participants[:2]
    entries: list[dict[str, Any]] = []
    for turn in made.dialogue.turns:
        pictures = [made.pictures[image.image_id] for image in turn.images]
        captions = [describe_picture(spec, language, spec.style // 2) for spec in pictures]
        entries.append(
            {
                "utterance_idx": turn.turn_id,
                "utterance": captions[0] if captions else turn.text,
                "speaker": (first, second)[turn.turn_id % 2],
                "rationale": "",
                "shared_image": [
                    {"image_url": image.uri, "caption": caption}
                    for image, caption in zip(turn.images, captions, strict=True)
                ],
                "description": captions[0] if captions else "",
            }
        )
    size = config.picture_size
    files = {
        str(image.uri): SizedPicture(picture=spec, width=size, height=size)
        for image, spec in zip(made.dialogue.images, made.pictures, strict=True)
    }
    return Short(
        dialogue_id=made.dialogue.dialogue_id, language=language, entries=entries, files=files
    )


def short_dialogues(config: SynthConfig) -> Iterator[tuple[Short, Defect | None]]:
    """All dialogues of a configuration, each with the defect that was planted in it."""
    planted = clean = 0
    for number in range(config.dialogues):
        made = short_dialogue(config, number)
        # One every 1 / rate dialogues; never the first, a copy needs a clean one before it.
        due = int(number * config.defects) > int((number - 1) * config.defects) and number > 0
        if not due:
            clean = number
            yield made, None
            continue
        other = short_dialogue(config, clean)
        yield plant(KINDS[planted % len(KINDS)], made, other, config.split)
        planted += 1


def write_dialogcc(config: SynthConfig, out: Path) -> SynthReport:
    """Write `train.json` or `test.json` (a JSON array), `images/` and `defects.json`."""
    started = time.perf_counter()
    (out / "images").mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    defects: list[Defect] = []
    split = _SPLITS[config.split]

    def lines() -> Iterator[str]:
        for number, (made, defect) in enumerate(short_dialogues(config)):
            for uri, sized in made.files.items():
                save_png(draw_sized(sized.picture, sized.width, sized.height), out / uri)
            if defect is not None:
                defects.append(defect)
            counts.update(dialogues=1, turns=len(made.entries), images=len(made.files))
            entry = {
                "dialogue_id": made.dialogue_id,
                "split": split,
                "language": made.language,
                "dialogue": made.entries,
            }
            yield ("[" if number == 0 else ",") + json.dumps(entry, ensure_ascii=False)
        yield "]"

    path = out / f"{split}.json"
    write_lines(path, lines())
    listed = {"seed": config.seed, "split": config.split, "defects": [d.record() for d in defects]}
    write_lines(out / "defects.json", iter([json.dumps(listed, ensure_ascii=False, indent=1)]))
    return SynthReport(
        path=path,
        dialogues=counts["dialogues"],
        turns=counts["turns"],
        images=counts["images"],
        fragments=0,
        qa_pairs=0,
        defects=dict(Counter(defect.kind for defect in defects)),
        seconds=time.perf_counter() - started,
    )
