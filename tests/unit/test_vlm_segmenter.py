import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.engine.scripted import ScriptedEngine, prompt_text
from ffr_core.errors import BusyError, ConfigError, RecordError
from ffr_core.generation import Completion, GenerationRequest
from ffr_core.markup import render_clusters
from ffr_core.prompts import Prompts
from ffr_core.segmentation.vlm import VlmSegmenter
from ffr_core.segmentation.windows import stitch
from ffr_core.types import Dialogue, Turn
from ffr_core.windows import windows

COMPACT = Prompts.load("compact")


def dialogue(topics: str, name: str = "d") -> Dialogue:
    """A turn a letter; the letter is its topic."""
    turns = [Turn(turn_id=i, speaker="A", text=f"topic-{t}") for i, t in enumerate(topics)]
    return Dialogue(dialogue_id=name, turns=tuple(turns), language="en")


def by_topic(request: GenerationRequest) -> str:
    """A perfect model: groups the local ids of a prompt by topic."""
    found = re.findall(r"utt_id_start\|>(\d+)<.*?topic-(\w)", prompt_text(request.messages))
    groups: dict[str, list[int]] = {}
    for turn_id, topic in found:
        groups.setdefault(topic, []).append(int(turn_id))
    return render_clusters(list(groups.values()))


def gold(topics: str) -> list[tuple[int, ...]]:
    return sorted(tuple(i for i, t in enumerate(topics) if t == x) for x in set(topics))


def test_windows_by_hand() -> None:
    assert windows(60) == [range(0, 35), range(20, 55), range(40, 60)]
    assert windows(35) == [range(35)] and windows(36) == [range(0, 35), range(20, 36)]
    assert windows(0) == [] and windows(5, 2, 0) == [range(0, 2), range(2, 4), range(4, 5)]
    with pytest.raises(ConfigError, match="overlap"):
        windows(5, 2, 2)


@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_windows_cover_everything_once_over(n: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    found = windows(n, size, overlap)
    assert sorted({i for window in found for i in window}) == list(range(n))
    assert all(len(window) <= size for window in found) and found[-1].stop == n
    for a, b in pairwise(found):
        assert a.stop - b.start == overlap and b.stop > a.stop


def test_stitch_by_hand() -> None:
    first, second = (range(0, 4), [[0, 2], [1, 3]]), (range(2, 6), [[2, 4], [3], [5]])
    assert stitch([first, second]) == [[0, 2, 4], [1, 3], [5]]
    # what the second window splits: the larger share goes on, the other starts anew
    assert stitch([(range(0, 3), [[0, 1, 2]]), (range(0, 5), [[0, 1, 3], [2, 4]])]) == [
        [0, 1, 2, 3],
        [4],
    ]


@given(st.text("abc", min_size=1, max_size=90))
def test_a_perfect_model_survives_the_windows_where_topics_meet_the_overlap(topics: str) -> None:
    segmenter = VlmSegmenter(ScriptedEngine(by_topic), COMPACT, window_turns=8, window_overlap=4)
    [parts] = segmenter.segment([dialogue(topics)])
    found = [fragment.turn_ids for fragment in parts]
    assert sorted(i for ids in found for i in ids) == list(range(len(topics)))
    for ids in found:  # windows may split a topic that pauses, they never mix two
        assert len({topics[i] for i in ids}) == 1
    if len(topics) <= 8:
        assert found == gold(topics)


def test_long_dialogues_keep_their_topics() -> None:
    topics = "ab" * 30 + "c" * 10 + "a" * 3
    segmenter = VlmSegmenter(ScriptedEngine(by_topic), COMPACT)
    short, long = segmenter.segment([dialogue("aabb", "s"), dialogue(topics, "l")])
    assert [f.turn_ids for f in short] == [(0, 1), (2, 3)]
    assert [f.turn_ids for f in long] == gold(topics)
    assert segmenter.counts["dialogues"] == 2 and segmenter.counts["windows"] == 4


def test_repairs_are_counted() -> None:
    answers = {"first": "[[0, 1], [1, 9]]", "second": "I do not know", "": "[[0],[1],[2]]"}
    segmenter = VlmSegmenter(ScriptedEngine(answers), COMPACT)
    turns = [
        (Turn(turn_id=0, speaker=s, text="x"), Turn(turn_id=1, speaker=s, text="y"))
        for s in ("first", "second")
    ]
    talks = [
        Dialogue(dialogue_id=str(i), turns=(*t, Turn(turn_id=2, speaker="z", text="z")))
        for i, t in enumerate(turns)
    ]
    found = segmenter.segment(talks)
    assert [[f.turn_ids for f in parts] for parts in found] == [[(0, 1, 2)], [(0, 1, 2)]]
    counts = {
        "dialogues": 2,
        "windows": 2,
        "malformed": 1,
        "missing": 1,
        "repeated": 1,
        "unknown": 1,
    }
    assert {key: segmenter.counts[key] for key in counts} == counts


def test_an_unreadable_dialogue_is_named() -> None:
    segmenter = VlmSegmenter(ScriptedEngine({"nothing": ""}), COMPACT)
    with pytest.raises(RecordError, match="'d' cannot be segmented") as caught:
        segmenter.segment([dialogue("ab")])
    assert caught.value.reason == "segment_failed"


def test_an_engine_that_is_away_is_no_fault_of_the_dialogue() -> None:
    class Away(ScriptedEngine):
        def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
            return [
                Completion(
                    request_id=request.request_id,
                    text="",
                    finish_reason="error",
                    error="no answer",
                    unanswered=True,
                )
                for request in requests
            ]

    with pytest.raises(BusyError, match="'d' cannot be segmented now: no answer"):
        VlmSegmenter(Away({}), COMPACT).segment([dialogue("ab")])


def test_fingerprint_follows_what_changes_the_output() -> None:
    engine = ScriptedEngine({"": "[]"})
    base = VlmSegmenter(engine, COMPACT).fingerprint
    others = [
        VlmSegmenter(engine, COMPACT, adapter="segmenter"),
        VlmSegmenter(engine, COMPACT, adapter_hash="x"),
        VlmSegmenter(engine, Prompts.load("default")),
        VlmSegmenter(engine, COMPACT, window_turns=30),
        VlmSegmenter(ScriptedEngine({"": "[[0]]"}), COMPACT),
    ]
    assert len({base, *(other.fingerprint for other in others)}) == 6
    assert VlmSegmenter(engine, COMPACT).fingerprint == base
