"""Small indexed dialogues with vectors that depend on nothing but the text."""

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np

from ffr_core.passages import passage_of
from ffr_core.types import (
    Dialogue,
    Fragment,
    Image,
    IndexedDialogue,
    IndexedFragment,
    IndexedPassage,
    Turn,
)

DIM = 16
DAY = datetime(2024, 3, 1, tzinfo=UTC)
NAMES = ["Ana", "Ben", "Zoë", "小明", 'O"Neil \\ Co', "a/b"]
WORDS = ["red", "blue", "bus", "car", "train", "ticket", "hotel", "rain", "火锅", "明天", "会议"]


def vector_of(text):
    """A unit vector that a text always gets."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def indexed(dialogue, groups, fingerprint="f1"):
    """Rows of a dialogue: one passage a turn, one fragment a group of turn ids."""
    fragments = []
    for number, ids in enumerate(groups):
        passages = tuple(
            IndexedPassage(passage=passage, vector_D=vector_of(passage.text))
            for passage in (passage_of(dialogue, [i]) for i in ids)
        )
        text = passage_of(dialogue, ids).text
        fragments.append(
            IndexedFragment(
                fragment=Fragment(fragment_id=number, turn_ids=tuple(ids)),
                text=text,
                vector_D=vector_of(text),
                passages=passages,
            )
        )
    return IndexedDialogue(dialogue=dialogue, fingerprint=fingerprint, fragments=tuple(fragments))


def say(dialogue_id, *lines, speaker="Ana"):
    """A dialogue of plain lines, a fragment a line."""
    turns = tuple(
        Turn(turn_id=i, speaker=speaker, text=line, timestamp=DAY + timedelta(days=i))
        for i, line in enumerate(lines)
    )
    dialogue = Dialogue(dialogue_id=dialogue_id, turns=turns)
    return indexed(dialogue, [[i] for i in range(len(lines))])


def random_item(rng, dialogue_id):
    """Turns with random speakers, words, times and images, in interleaved fragments."""
    num_turns, num_images = int(rng.integers(3, 12)), 0
    turns = []
    for i in range(num_turns):
        images = ()
        if rng.random() < 0.2:
            images, num_images = (
                (Image(image_id=num_images, uri=None, caption="map"),),
                num_images + 1,
            )
        turns.append(
            Turn(
                turn_id=i,
                speaker=str(rng.choice(NAMES)),
                text=" ".join(rng.choice(WORDS, size=int(rng.integers(1, 6)))),
                timestamp=None
                if rng.random() < 0.3
                else DAY + timedelta(hours=int(rng.integers(0, 240))),
                images=images,
            )
        )
    owner = rng.integers(0, 3, size=num_turns)
    groups = [[i for i in range(num_turns) if owner[i] == k] for k in range(3)]
    dialogue = Dialogue(dialogue_id=dialogue_id, turns=tuple(turns))
    return indexed(dialogue, sorted(group for group in groups if group))
