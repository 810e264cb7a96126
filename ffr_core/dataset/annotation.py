"""Two-level shared tags for every utterance and image of a long dialogue, by an engine.

Source: App. B.1 (multi-granularity annotation), as stated: each element has a coarse tag (domain)
and a fine tag (activity), each shared by at least two elements. Our reading: a fine tag belongs to
one coarse tag. An element of an answer names its two tags, or in `as` an earlier element that has
the same ones, so that tags that are meant to be shared are not spelled twice. Failures have
reasons: `unknown_element`, `missing_element`, `repeated_element`, `unshared_tag`,
`split_fine_tag`, `long_tag`, `empty_text`, `bad_shape`, `not_json`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ffr_core.dataset.asking import AnswerError, Assignment, json_phrase, listed, phrase_of
from ffr_core.dataset.dataset_prompts import LANGUAGE_NAMES, DatasetPrompts
from ffr_core.dataset.long_dialogue import LongDialogue, Tags
from ffr_core.markup import unescape
from ffr_core.types import Dialogue

MAX_TAG_CHARACTERS = 60
_ELEMENT = re.compile(r"([ui])(0|[1-9]\d*)")


def tag_assignment(
    item: LongDialogue, prompts: DatasetPrompts, *, structured: bool = False
) -> Assignment[LongDialogue]:
    """The question for one long dialogue; its answer is the dialogue with tags."""
    dialogue = item.dialogue
    language = LANGUAGE_NAMES.get(dialogue.language or "", "the language of the input")
    payload = {"tag_language": language, "elements": _elements(dialogue)}

    def check(answer: Any) -> LongDialogue:
        utterance_tags, image_tags = check_tags(dialogue, answer)
        return replace(item, utterance_tags=utterance_tags, image_tags=image_tags)

    return Assignment(
        key=dialogue.dialogue_id,
        messages=prompts.messages("tag", payload),
        check=check,
        grammar=tag_grammar(dialogue) if structured else None,
    )


def element_ids(dialogue: Dialogue) -> list[str]:
    """`u3` for an utterance with text, `i0` for an image, in reading order."""
    ids: list[str] = []
    for turn in dialogue.turns:
        if turn.text:
            ids.append(f"u{turn.turn_id}")
        ids.extend(f"i{image.image_id}" for image in turn.images)
    return ids


def _elements(dialogue: Dialogue) -> list[dict[str, Any]]:
    topic_of = {i: number for number, ids in enumerate(dialogue.fragments or ()) for i in ids}
    elements: list[dict[str, Any]] = []
    for turn in dialogue.turns:
        topic = topic_of.get(turn.turn_id, 0)
        if turn.text:
            elements.append({"id": f"u{turn.turn_id}", "topic": topic, "text": turn.text})
        elements.extend(
            {"id": f"i{image.image_id}", "topic": topic, "image": image.caption or "(no caption)"}
            for image in turn.images
        )
    return elements


def tag_grammar(dialogue: Dialogue) -> str:
    """A regular expression of answers that name each element once, in order, and share each tag.

    Inside a topic the elements go two by two. The first of two may name tags, which the second
    shares then; all others are `as` the first of two that stand earlier. So no tag is alone
    whatever an engine picks, and elements far apart may still share one. A topic begins with tags.
    """
    entries: list[str] = []
    firsts: list[str] = []
    for names in _topics(dialogue):
        for at in range(0, len(names), 2):
            first, *second = names[at : at + 2]
            own = ", ".join([_named(first), *(_like(name, [first]) for name in second)])
            earlier = ", ".join(_like(name, firsts) for name in (first, *second))
            if at == 0:
                entries.append(own)
            else:
                entries.append(f"(?:{own}|{earlier})" if second else earlier)
            firsts.append(first)
    return rf'\{{"elements": \[{", ".join(entries)}\]\}}'


def _topics(dialogue: Dialogue) -> list[list[str]]:
    """Element ids by topic, in order; a topic of one element goes with the one after or before."""
    topics: list[list[str]] = []
    last = -1
    for element in _elements(dialogue):
        if not topics or (element["topic"] != last and len(topics[-1]) > 1):
            topics.append([])
        topics[-1].append(element["id"])
        last = element["topic"]
    if len(topics) > 1 and len(topics[-1]) == 1:
        topics[-2:] = [topics[-2] + topics[-1]]
    return topics


def _named(name: str) -> str:
    # The fine tag first: whoever repeats one then repeats its coarse tag, too.
    tag = json_phrase(MAX_TAG_CHARACTERS)
    return rf'\{{"id": "{name}", "fine": {tag}, "coarse": {tag}\}}'


def _like(name: str, choices: Sequence[str]) -> str:
    return rf'\{{"id": "{name}", "as": "(?:{"|".join(choices)})"\}}'


def check_tags(dialogue: Dialogue, answer: Any) -> tuple[dict[int, Tags], dict[int, Tags]]:
    """Tags by turn id and by image id; AnswerError with a reason when a rule is broken."""
    expected = element_ids(dialogue)
    found: dict[str, Tags] = {}
    for entry in listed(answer, "elements"):
        name = entry.get("id")
        if name not in expected:
            raise AnswerError("unknown_element", f"{name!r:.40} is no element of the input")
        if name in found:
            raise AnswerError("repeated_element", f"element {name} is tagged twice")
        found[name] = _tags(entry, found)
    missing = [name for name in expected if name not in found]
    if missing:
        raise AnswerError("missing_element", f"elements without tags: {', '.join(missing)}")
    _check_shared(found)
    by_kind: dict[str, dict[int, Tags]] = {"u": {}, "i": {}}
    for name, tags in found.items():
        match = _ELEMENT.fullmatch(name)
        assert match is not None
        by_kind[match[1]][int(match[2])] = tags
    return by_kind["u"], by_kind["i"]


def _tags(entry: Mapping[str, Any], found: Mapping[str, Tags]) -> Tags:
    """The tags that an element names, or those of the element that it is `as`."""
    if "as" not in entry:
        return Tags(coarse=_tag(entry, "coarse"), fine=_tag(entry, "fine"))
    name, like = entry["id"], entry["as"]
    if "coarse" in entry or "fine" in entry:
        raise AnswerError("bad_shape", f'{name} has "as" and tags of its own; give one of the two')
    if not isinstance(like, str) or like not in found:
        raise AnswerError(
            "unknown_element", f'{name} is "as" {like!r:.40}, which is no element before it'
        )
    return found[like]


def _tag(entry: Mapping[str, Any], key: str) -> str:
    tag = unescape(phrase_of(entry, key))
    if len(tag) > MAX_TAG_CHARACTERS:
        raise AnswerError(
            "long_tag", f"a tag has at most {MAX_TAG_CHARACTERS} characters: {tag!r:.80}"
        )
    return tag


def _check_shared(found: Mapping[str, Tags]) -> None:
    """Each coarse and each fine tag has at least two elements; a fine tag has one coarse tag."""
    coarse = Counter(tags.coarse for tags in found.values())
    fine = Counter(tags.fine for tags in found.values())
    for level, counts in (("coarse", coarse), ("fine", fine)):
        alone = sorted(tag for tag, times in counts.items() if times < 2)
        if alone:
            raise AnswerError(
                "unshared_tag",
                f"{level} tags that only one element has: {', '.join(map(repr, alone))};"
                " each tag must be shared by at least two elements",
            )
    parents: dict[str, str] = {}
    for tags in found.values():
        if parents.setdefault(tags.fine, tags.coarse) != tags.coarse:
            raise AnswerError(
                "split_fine_tag", f"the fine tag {tags.fine!r} stands under two coarse tags"
            )
