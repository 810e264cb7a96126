"""Small dialogues for the tests of the dataset steps."""

from ffr_core.dataset.long_dialogue import LongDialogue, Tags
from ffr_core.types import Dialogue, Image, Turn


def short(dialogue_id, texts, images=None, speakers=("Ann", "Bo"), language="en"):
    """A dialogue whose speakers alternate; `images` maps a turn id to captions."""
    turns, count = [], 0
    for turn_id, text in enumerate(texts):
        captions = (images or {}).get(turn_id, ())
        turns.append(
            Turn(
                turn_id=turn_id,
                speaker=speakers[turn_id % len(speakers)],
                text=text,
                images=tuple(
                    Image(image_id=count + i, uri=f"{dialogue_id}/{count + i}.png", caption=c)
                    for i, c in enumerate(captions)
                ),
            )
        )
        count += len(captions)
    return Dialogue(dialogue_id=dialogue_id, turns=tuple(turns), language=language)


PARTS = (
    short("a", ["the red boat", "which boat?", "at the lake"], {0: ["a red boat"]}),
    short("b", ["bake bread", "with flour?", "yes flour"], {1: ["bread", "an oven"]}),
    short("c", ["train to Oslo", "when?", "the train at nine"]),
)
KEYS = (("ka",), ("kb0", "kb1"), ())


def merged_answer():
    """A right answer for PARTS: one transition between two parts."""
    turns = []
    for number, part in enumerate(PARTS):
        if number:
            turns.append(
                {"source": "transition", "speaker": "User2", "text": "by the way", "images": []}
            )
        for turn in part.turns:
            label = "ABC"[number]
            turns.append(
                {
                    "source": f"{label}{turn.turn_id}",
                    "speaker": f"User{1 + turn.turn_id % 2}",
                    "text": turn.text.upper(),
                    "images": [f"{label}.img{image.image_id}" for image in turn.images],
                }
            )
    return {"turns": turns}


def tagged(dialogue, utterances, images=None, members=None, fragments=None):
    """A long dialogue with tags given as `(coarse, fine)` by id."""
    from dataclasses import replace

    dialogue = replace(dialogue, fragments=fragments)
    return LongDialogue(
        dialogue=dialogue,
        members=tuple(members or (dialogue.dialogue_id,)),
        image_keys=tuple(f"{dialogue.dialogue_id}-{i}" for i in range(len(dialogue.images))),
        sources=tuple((dialogue.dialogue_id, i) for i in range(len(dialogue.turns))),
        utterance_tags={i: Tags(coarse=c, fine=f) for i, (c, f) in utterances.items()},
        image_tags={i: Tags(coarse=c, fine=f) for i, (c, f) in (images or {}).items()},
        qa={},
    )
