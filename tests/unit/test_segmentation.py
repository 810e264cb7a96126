"""The laptop segmenter on dialogues whose right fragments are obvious."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffr_core.errors import ConfigError
from ffr_core.metrics.segmentation import pairwise
from ffr_core.segmentation import TextTilingSegmenter
from ffr_core.segmentation.texttiling import blocks, join_replies
from ffr_core.segmentation.weights import Weights
from ffr_core.types import Dialogue, Turn

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPICS = {
    "rent": "the rent and the flat and the landlord raised our rent again",
    "bike": "my bike has a flat tyre and the bike shop closes at six",
    "soup": "this soup needs salt and the soup recipe says two onions",
    "票": "周末的电影票还没买电影院只剩前排的票",
    "猫": "猫又不吃饭了要不要带猫去看兽医",
}


class TopicEncoder:
    """One direction for each topic word, found in the text, plus a little noise from its hash."""

    dim, max_tokens, fingerprint = 32, 512, "topics"

    def __init__(self):
        self.calls = 0

    def encode_passages(self, passages):
        self.calls += 1
        rows = np.zeros((len(passages), self.dim), np.float32)
        for row, passage in zip(rows, passages, strict=True):
            for axis, topic in enumerate(TOPICS):
                row[axis] = passage.text.count(topic)
            row += 0.1 * np.random.default_rng(len(passage.text)).normal(size=self.dim)
            row /= np.linalg.norm(row)
        return rows

    def encode_queries(self, texts):
        raise AssertionError("a segmenter asks no queries")


class SameEncoder(TopicEncoder):
    """Everything alike."""

    fingerprint = "same"

    def encode_passages(self, passages):
        return np.full((len(passages), self.dim), self.dim**-0.5, np.float32)


def dialogue(lines, minutes=None, reply_to=None):
    turns = tuple(
        Turn(
            turn_id=i,
            speaker=speaker,
            text=text,
            timestamp=NOON + timedelta(minutes=minutes[i]) if minutes else None,
            reply_to=(reply_to or {}).get(i),
        )
        for i, (speaker, text) in enumerate(lines)
    )
    return Dialogue(dialogue_id="d", turns=turns)


def talk(*topics_and_lengths):
    lines = []
    for topic, length in topics_and_lengths:
        lines += [("AB"[i % 2], TOPICS[topic] + "." * i) for i in range(length)]
    return lines


def segment(one, encoder=None):
    (fragments,) = TextTilingSegmenter(encoder or TopicEncoder()).segment([one])
    return [fragment.turn_ids for fragment in fragments]


def assert_partition(one, fragments):
    assert sorted(i for turn_ids in fragments for i in turn_ids) == list(range(len(one.turns)))


@pytest.mark.parametrize("topics", [("rent", "bike", "soup"), ("票", "猫", "票")])
def test_topics_that_follow_one_another_are_cut_apart(topics):
    one = dialogue(talk(*[(topic, 9) for topic in topics]))
    gold = [range(9), range(9, 18), range(18, 27)]
    fragments = segment(one)
    assert {9, 18} <= {turn_ids[0] for turn_ids in fragments}
    assert pairwise(fragments, gold).f1 > 0.85


def test_a_topic_that_returns_after_hours_joins_its_fragment():
    lines = talk(("rent", 8), ("bike", 8), ("rent", 8))
    minutes = [*range(8), *range(600, 608), *range(1200, 1208)]
    fragments = segment(dialogue(lines, minutes))
    assert pairwise(fragments, [(*range(8), *range(16, 24)), range(8, 16)]).f1 > 0.85
    assert any({1, 20} <= set(turn_ids) for turn_ids in fragments)


def test_without_times_fragments_are_contiguous():
    fragments = segment(dialogue(talk(("rent", 8), ("bike", 8), ("rent", 8))))
    assert all(ids == tuple(range(ids[0], ids[-1] + 1)) for ids in fragments)


def channel():
    """Two pairs, each with a helper, talking at the same time, and a fifth who only greets."""
    lines, gold = [("eve", "hello everybody")], [[0], [], []]
    for i in range(12):
        lines += [
            ("ann", f"bob: {TOPICS['rent']}" if i else f"{TOPICS['rent']}, who can help?"),
            ("cid", f"dora: {TOPICS['bike']}" if i else f"{TOPICS['bike']}, any idea?"),
            ("bob", f"ann: {TOPICS['rent']}"),
            ("dora", f"cid: {TOPICS['bike']}"),
        ]
        gold[1] += [1 + 4 * i, 3 + 4 * i]
        gold[2] += [2 + 4 * i, 4 + 4 * i]
    return dialogue(lines), gold


def test_replies_by_name_pull_interleaved_talks_apart():
    one, gold = channel()
    assert pairwise(segment(one), gold).f1 > 0.9


def test_a_crowd_read_in_parts_keeps_its_talks_apart():
    one, gold = channel()
    (fragments,) = TextTilingSegmenter(TopicEncoder(), max_block=20).segment([one])
    assert pairwise([f.turn_ids for f in fragments], gold).f1 > 0.9


def test_names_pull_talks_apart_in_a_channel_with_times():
    one, gold = channel()
    turns = tuple(
        replace(turn, timestamp=NOON + timedelta(seconds=40 * turn.turn_id)) for turn in one.turns
    )
    assert pairwise(segment(replace(one, turns=turns)), gold).f1 > 0.9


def test_names_alone_pull_talks_apart_when_all_vectors_are_alike():
    one, gold = channel()
    assert pairwise(segment(one, SameEncoder()), gold).f1 > 0.8


def test_a_marked_reply_joins_the_fragment_of_what_it_answers():
    lines = [*talk(("rent", 8), ("bike", 8)), ("A", TOPICS["rent"])]
    with_reply = segment(dialogue(lines, reply_to={16: 2}))
    assert next(ids for ids in with_reply if 2 in ids)[-1] == 16


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_short_dialogues_are_partitioned(count):
    one = dialogue([("A", f"turn {i}") for i in range(count)])
    assert_partition(one, segment(one))


@pytest.mark.parametrize("timed", [False, True])
def test_empty_texts_and_equal_vectors_are_partitioned(timed):
    one = dialogue([("A", "")] * 40, list(range(40)) if timed else None)
    assert_partition(one, segment(one, SameEncoder()))


def test_long_dialogues_are_read_in_blocks():
    one = dialogue(talk(*[("rent", 20), ("bike", 20)] * 4))
    (fragments,) = TextTilingSegmenter(TopicEncoder(), max_block=50).segment([one])
    assert_partition(one, [f.turn_ids for f in fragments])
    assert max(len(f.turn_ids) for f in fragments) <= 50
    assert {0, 20, 40, 60, 80, 100, 120, 140} <= {f.turn_ids[0] for f in fragments}


def test_all_dialogues_are_encoded_in_one_call():
    encoder = TopicEncoder()
    some = [dialogue(talk(("rent", 4))), dialogue(talk(("bike", 5), ("soup", 5)))]
    both = TextTilingSegmenter(encoder).segment(some)
    assert encoder.calls == 1
    assert both == [TextTilingSegmenter(encoder).segment([one])[0] for one in some]
    assert TextTilingSegmenter(encoder).segment([]) == []


def test_gold_fragments_are_never_read():
    one = dialogue(talk(("rent", 6), ("bike", 6)))
    assert segment(replace(one, fragments=((0, 1), (2, 3)))) == segment(one)


def test_fingerprint_changes_with_everything_that_changes_the_output():
    text = Weights.shipped().text
    other = json.loads(text)
    other["gaps"]["bias"] += 0.5
    prints = {
        TextTilingSegmenter(TopicEncoder()).fingerprint,
        TextTilingSegmenter(SameEncoder()).fingerprint,
        TextTilingSegmenter(TopicEncoder(), crowd_share=0.5).fingerprint,
        TextTilingSegmenter(TopicEncoder(), max_block=99).fingerprint,
        TextTilingSegmenter(TopicEncoder(), weights=Weights.parse(json.dumps(other))).fingerprint,
    }
    assert len(prints) == 5
    assert TextTilingSegmenter(TopicEncoder()).fingerprint in prints


def test_a_block_of_one_turn_is_refused():
    with pytest.raises(ConfigError, match="at least 2 turns"):
        TextTilingSegmenter(TopicEncoder(), max_block=1)


def test_broken_weights_name_the_command_that_writes_them():
    with pytest.raises(ConfigError, match=r"segmentation\.training"):
        Weights.parse('{"gaps": {}}')


def test_blocks_cut_at_the_likeliest_gap_of_their_second_half():
    boundary = np.full(99, 0.01)
    boundary[[29, 64]] = 0.9  # before turns 30 and 65
    assert blocks(boundary, 40) == [(0, 30), (30, 65), (65, 100)]
    assert blocks(boundary, 100) == [(0, 100)]


def test_join_replies_ignores_answers_to_later_turns():
    assert join_replies(np.array([0, 1, 1, 2]), [None, 3, None, 0]).tolist() == [0, 1, 1, 0]


words = st.text(alphabet="ab?：:@，, 猫票\n", max_size=12)
turn = st.tuples(st.sampled_from(["a", "b", "ab", "Bo Li", "猫", "x y"]), words)


@settings(max_examples=40, deadline=None)
@given(st.lists(turn, min_size=1, max_size=30), st.booleans(), st.data())
def test_any_dialogue_is_partitioned(lines, timed, data):
    minutes = None
    if timed:
        steps = st.lists(st.integers(-5, 900), min_size=len(lines), max_size=len(lines))
        minutes = np.cumsum(data.draw(steps)).tolist()
    replies = data.draw(st.dictionaries(*[st.integers(0, len(lines) - 1)] * 2, max_size=3))
    one = dialogue(lines, minutes, replies)
    fragments = segment(one)
    assert_partition(one, fragments)
    assert fragments == segment(one)
