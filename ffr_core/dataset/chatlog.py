"""Prepare real chat logs: clean, merge, anonymise and split them.

Source: Sec 4.2, as stated: emojis, sensitive text, profanity and utterances without meaning go;
consecutive messages of one speaker are merged; dialogues with at least two images stay; those above
100 turns are split. Our reading: profane words are removed and the message stays, a sensitive
message goes as a whole, a split falls on the longest pause, and every removal is counted. The
numbers add up: messages in = turns out + merged + reasons, dialogues in = kept + reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ffr_core.dataset.chat_text import ChatRules, WordLists, clean_text
from ffr_core.dataset.names import NameTable, name_table, replace_names
from ffr_core.dataset.privacy import Pseudonyms, mask_identifiers
from ffr_core.types import Dialogue, Image, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The outcome for one dialogue."""

    pieces: tuple[Dialogue, ...]
    """What is kept, in order; empty when the dialogue is dropped."""
    reason: str = ""
    """Why it is dropped."""
    messages: int = 0
    """Turns of the input."""
    counts: Counter[str] = field(default_factory=Counter)
    """Of messages: `merged`, `turn_<reason>`; `images_dropped` with the latter; of places: `emoji`,
    `profanity_removed`, `identifier_<kind>`, `name`; `gold_labels` when the input had some, which
    do not survive."""


def prepare(
    dialogue: Dialogue, rules: ChatRules, words: WordLists, pseudonyms: Pseudonyms | None
) -> Prepared:
    """Clean one dialogue; see the module text.

    With `pseudonyms` the dialogue id becomes a code too: exports make it of the chat's name, which
    holds people's names or numbers. The names of pictures are left to `ChatPictures`. None when
    nothing is masked.
    """
    counts: Counter[str] = Counter()
    if dialogue.fragments or dialogue.queries:
        counts["gold_labels"] = 1
    table = name_table(dialogue.participants, pseudonyms) if pseudonyms else NameTable()
    kept: list[Turn] = []
    for turn in dialogue.turns:
        text, problem = clean_text(turn.text, rules, words, counts)
        if problem == "drop_dialogue":
            return Prepared(
                pieces=(), reason="forbidden_text", messages=len(dialogue.turns), counts=counts
            )
        if not problem and not text and not turn.images:
            problem = "empty" if not turn.text.strip() else "void"
        if problem:
            counts[f"turn_{problem}"] += 1
            counts["images_dropped"] += len(turn.images)
            continue
        kept.append(_anonymous(replace(turn, text=text), rules, pseudonyms, table, counts))
    merged = merge_consecutive(kept)
    counts["merged"] = len(kept) - len(merged)
    dropped = Prepared(pieces=(), messages=len(dialogue.turns), counts=counts)
    if not merged:
        return replace(dropped, reason="nothing_left")
    if sum(len(turn.images) for turn in merged) < rules.min_images:
        return replace(dropped, reason="too_few_images")
    dialogue_id, title = dialogue.dialogue_id, dialogue.title
    if pseudonyms:
        dialogue_id = pseudonyms.dialogue(dialogue_id)
        title = _safe(title, rules, pseudonyms, table, counts)
    whole = Dialogue(
        dialogue_id=dialogue_id,
        turns=renumber(merged),
        title=title,
        language=dialogue.language,
    )
    return replace(dropped, pieces=split_long(whole, rules.max_turns))


def merge_consecutive(turns: Sequence[Turn]) -> list[Turn]:
    """Join neighbors of one speaker: texts by line breaks, images in order, the first one's time.

    Turn ids are still those of the input; a `reply_to` between joined messages disappears.
    """
    groups: list[list[Turn]] = []
    for turn in turns:
        if groups and groups[-1][0].speaker == turn.speaker:
            groups[-1].append(turn)
        else:
            groups.append([turn])
    group_of = {turn.turn_id: group[0].turn_id for group in groups for turn in group}
    merged: list[Turn] = []
    for group in groups:
        replies = [group_of.get(t.reply_to) for t in group if t.reply_to is not None]
        reply = next((r for r in replies if r is not None and r != group[0].turn_id), None)
        merged.append(
            replace(
                group[0],
                text="\n".join(turn.text for turn in group if turn.text),
                images=tuple(image for turn in group for image in turn.images),
                reply_to=reply,
            )
        )
    return merged


def renumber(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Turn and image ids from 0; replies to turns that are gone disappear."""
    new_id = {turn.turn_id: position for position, turn in enumerate(turns)}
    result: list[Turn] = []
    num_images = 0
    for position, turn in enumerate(turns):
        images: list[Image] = []
        for image in turn.images:
            images.append(replace(image, image_id=num_images))
            num_images += 1
        reply = None if turn.reply_to is None else new_id.get(turn.reply_to)
        result.append(replace(turn, turn_id=position, images=tuple(images), reply_to=reply))
    return tuple(result)


def split_long(dialogue: Dialogue, max_turns: int) -> tuple[Dialogue, ...]:
    """Cut a dialogue above `max_turns` into pieces of at most that many, at the longest pauses.

    Each cut falls between half of `max_turns` and `max_turns` after the one before, where the time
    between two turns is longest; without times, in the middle of that range.
    """
    cuts = [0]
    while len(dialogue.turns) - cuts[-1] > max_turns:
        cuts.append(_best_cut(dialogue.turns, cuts[-1], max_turns))
    if len(cuts) == 1:
        return (dialogue,)
    pieces: list[Dialogue] = []
    for number, (start, end) in enumerate(
        zip(cuts, [*cuts[1:], len(dialogue.turns)], strict=True), start=1
    ):
        pieces.append(
            replace(
                dialogue,
                dialogue_id=f"{dialogue.dialogue_id}-part{number}",
                turns=renumber(dialogue.turns[start:end]),
                fragments=None,
                queries=None,
            )
        )
    return tuple(pieces)


def _best_cut(turns: Sequence[Turn], start: int, max_turns: int) -> int:
    half = max(1, max_turns // 2)
    low = start + half
    high = max(low, min(start + max_turns, len(turns) - half))
    middle = (low + high) // 2

    def pause(cut: int) -> tuple[float, int]:
        before, after = turns[cut - 1].timestamp, turns[cut].timestamp
        seconds = (after - before).total_seconds() if before and after else 0.0
        return seconds, -abs(cut - middle)

    return max(range(low, high + 1), key=pause)


def _anonymous(
    turn: Turn,
    rules: ChatRules,
    pseudonyms: Pseudonyms | None,
    table: NameTable,
    counts: Counter[str],
) -> Turn:
    if pseudonyms is None:
        return turn
    speaker = table.names[turn.speaker] if rules.anonymise else turn.speaker
    images = tuple(
        replace(
            image,
            caption=_safe(image.caption, rules, pseudonyms, table, counts),
            text=_safe(image.text, rules, pseudonyms, table, counts),
        )
        for image in turn.images
    )
    text = _safe(turn.text, rules, pseudonyms, table, counts) or ""
    return replace(turn, speaker=speaker, text=text, images=images)


def _safe(
    text: str | None,
    rules: ChatRules,
    pseudonyms: Pseudonyms,
    table: NameTable,
    counts: Counter[str],
) -> str | None:
    """A text with identifiers and names replaced."""
    if not text:
        return text
    if rules.mask_identifiers:
        text, found = mask_identifiers(text, pseudonyms)
        counts.update({f"identifier_{kind}": number for kind, number in found.items()})
    if rules.anonymise:
        text, number = replace_names(text, table)
        counts["name"] += number
    return text
