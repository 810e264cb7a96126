"""A deterministic stand-in for the LLM of the dataset steps: it answers the same prompts by rules.

It merges source turns in order with a plain transition sentence, tags elements with content words
that they share, and pairs neighboring turns as questions and answers. It neither polishes nor
translates: a prompt that asks for another language gets the input's language, and the check
refuses that. What it writes is honest but poor; a real engine is one configuration value away.
`ScriptedEngine(scripted_answer)` is the engine.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ffr_core.dataset.content_words import content_words
from ffr_core.dataset.dataset_prompts import payload_of
from ffr_core.generation import GenerationRequest
from ffr_core.markup import escape

_TRANSITIONS = {
    "en": (
        "By the way, that reminds me of something else.",
        "On another note, there is something I wanted to bring up.",
        "Before I forget, can we switch to another subject?",
        "Speaking of which, something different came to my mind.",
    ),
    "zh": (
        "对了，我突然想起另一件事。",
        "说到这个，我还有件别的事想聊聊。",
        "趁我还没忘，我们换个话题吧。",
        "顺便问一下，还有一件事想跟你说。",
    ),
}
_NAMES = {
    "en": ("general talk {}", "more on {}", "pictures: {}"),
    "zh": ("闲聊{}", "{}的其他内容", "{}的图片"),
}


def scripted_answer(request: GenerationRequest) -> str:
    """The JSON answer to a prompt of `dataset_prompts`."""
    payload = payload_of(request.messages)
    answer = {"merge": _merge, "tag": _tag, "qa": _qa}[payload["task"]](payload)
    return json.dumps(answer, ensure_ascii=False)


def _merge(payload: dict[str, Any]) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    for number, part in enumerate(payload["dialogues"]):
        if number:
            said = turns[-1]["speaker"]
            text = " ".join(turn["text"] for turn in part["turns"])
            turns.append(
                {
                    "source": "transition",
                    "speaker": "User1" if said != "User1" else "User2",
                    "text": _pick(_TRANSITIONS[_language(text)], text),
                    "images": [],
                }
            )
        for turn in part["turns"]:
            turns.append(
                {
                    "source": turn["source"],
                    "speaker": turn["speaker"],
                    "text": escape(turn["text"]),
                    "images": [image["id"] for image in turn["images"]],
                }
            )
    if "captions" not in payload:
        return {"turns": turns}
    images = [i for part in payload["dialogues"] for turn in part["turns"] for i in turn["images"]]
    return {
        "turns": turns,
        "captions": [
            {"id": image["id"], "caption": escape(image["caption"])}
            for image in images
            if image["id"] in payload["captions"]
        ],
    }


def _tag(payload: dict[str, Any]) -> dict[str, Any]:
    topics: dict[int, list[dict[str, Any]]] = {}
    for element in payload["elements"]:
        topics.setdefault(element["topic"], []).append(element)
    taken: set[str] = set()
    tags: dict[str, tuple[str, str]] = {}
    for number, elements in topics.items():
        words = {e["id"]: content_words(e.get("text") or e.get("image") or "") for e in elements}
        language = _language(" ".join(e.get("text", "") for e in elements))
        coarse = _coarse(words, taken, language, number)
        for ids, fine in _fine_groups(elements, words, coarse, taken, language):
            tags.update(dict.fromkeys(ids, (coarse, fine)))
    return {
        "elements": [
            {"id": e["id"], "coarse": escape(tags[e["id"]][0]), "fine": escape(tags[e["id"]][1])}
            for e in payload["elements"]
        ]
    }


def _coarse(words: dict[str, list[str]], taken: set[str], language: str, number: int) -> str:
    """The two words that most elements of the topic share."""
    counts = Counter(word for found in words.values() for word in set(found))
    best = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    name = ("" if language == "zh" else " ").join(best[:2]) or _NAMES[language][0].format(
        number + 1
    )
    return _unused(name[:50], taken)


def _fine_groups(
    elements: Sequence[dict[str, Any]],
    words: dict[str, list[str]],
    coarse: str,
    taken: set[str],
    language: str,
) -> list[tuple[list[str], str]]:
    """Groups of at least two elements: pictures (sometimes), a shared word, the rest."""
    _, rest_name, picture_name = _NAMES[language]
    groups: list[tuple[list[str], str]] = []
    open_ids = [e["id"] for e in elements]
    images = [name for name in open_ids if name.startswith("i")]
    if len(images) >= 2 and len(open_ids) - len(images) != 1 and zlib.crc32(coarse.encode()) % 2:
        groups.append((images, _unused(picture_name.format(coarse), taken)))
        open_ids = [name for name in open_ids if name not in images]
    counts = Counter(word for name in open_ids for word in set(words[name]))
    for word, times in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        members = [name for name in open_ids if word in words[name]]
        if 2 <= times <= len(open_ids) - 2 and word not in coarse.split():
            groups.append((members, _unused(word, taken)))
            open_ids = [name for name in open_ids if name not in members]
            break
    if open_ids:
        groups.append((open_ids, _unused(rest_name.format(coarse), taken)))
    return groups


def _qa(payload: dict[str, Any]) -> dict[str, Any]:
    pairs: list[dict[str, Any]] = []
    for fragment in payload["fragments"]:
        turns = fragment["turns"]
        answers: set[str] = set()
        for asked, said in pairwise(turns):
            question, answer = _saying(asked), _saying(said)
            if not question or not answer or answer in answers:
                continue
            answers.add(answer)
            pairs.append(
                {
                    "fragment": fragment["fragment"],
                    "question": escape(question),
                    "answer": escape(answer),
                    "turns": [said["turn"]],
                    "images": [image["image"] for image in said["images"]],
                }
            )
    return {"pairs": pairs}


def _saying(turn: dict[str, Any]) -> str:
    return " ".join([turn["text"], *(i["caption"] for i in turn["images"] if i["caption"])]).strip()


def _unused(name: str, taken: set[str]) -> str:
    """The name, numbered where another topic of this dialogue has it."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name} {number}"
    taken.add(candidate)
    return candidate


def _language(text: str) -> str:
    return "zh" if sum("\u4e00" <= c <= "\u9fff" for c in text) * 4 > len(text) else "en"


def _pick(choices: Sequence[str], text: str) -> str:
    return choices[zlib.crc32(text.encode()) % len(choices)]
