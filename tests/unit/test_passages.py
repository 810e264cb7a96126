import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.building import Builder, dialogue_fingerprint
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.passages import make_passages, passage_windows
from ffr_core.types import Dialogue, Fragment, Turn, fragments_from_clusters


def talk(sizes):
    """Turns whose text form has the given number of bytes."""
    turns = [Turn(turn_id=i, speaker="A", text="x" * (n - 3)) for i, n in enumerate(sizes)]
    return Dialogue(dialogue_id="d", turns=tuple(turns))


class Fixed:
    fingerprint = "fixed"

    def segment(self, dialogues):
        return [fragments_from_clusters([[0, 1, 3], [2, 4]]) for _ in dialogues]


def test_a_window_holds_neighbors_up_to_its_size():
    dialogue = talk([100, 100, 400, 40, 40])
    # Tokens: 25, 25, 100, 10, 10.
    assert passage_windows(dialogue, range(5), 60) == [(0, 1), (2,), (3, 4)]
    assert passage_windows(dialogue, range(5), 110) == [(0, 1), (2, 3), (4,)]
    assert passage_windows(dialogue, (0, 2, 4), 128) == [(0, 2), (4,)]
    assert passage_windows(dialogue, range(5), 0) == [(0,), (1,), (2,), (3,), (4,)]
    assert passage_windows(dialogue, (), 60) == []


def test_chinese_counts_three_bytes_a_character():
    turns = tuple(Turn(turn_id=i, speaker="A", text="好" * 19) for i in range(3))
    # "A: " and 57 bytes: 15 tokens a turn.
    assert passage_windows(Dialogue(dialogue_id="d", turns=turns), range(3), 30) == [(0, 1), (2,)]


@given(st.lists(st.integers(4, 400), min_size=1, max_size=30), st.integers(0, 200))
def test_windows_partition_the_turns_and_none_could_be_joined(sizes, limit):
    dialogue = talk(sizes)
    found = passage_windows(dialogue, range(len(sizes)), limit)
    assert [i for window in found for i in window] == list(range(len(sizes)))
    tokens = [sum(sizes[i] for i in window) / 4 for window in found]
    assert all(t <= limit for t, window in zip(tokens, found, strict=True) if len(window) > 1)
    for t, after in zip(tokens, found[1:], strict=False):
        assert t + sizes[after[0]] / 4 > limit


def test_passages_are_turns_then_windows_of_several_turns():
    fragment = Fragment(fragment_id=0, turn_ids=(0, 1, 2))
    found = make_passages(talk([100, 100, 400]), fragment, 60)
    assert [p.turn_ids for p in found] == [(0,), (1,), (2,), (0, 1)]
    assert found[3].text == f"{found[0].text}\n{found[1].text}"
    assert [p.turn_ids for p in make_passages(talk([9, 9, 9]), fragment)] == [(0,), (1,), (2,)]


def test_a_fragment_is_the_mean_of_its_windows():
    encoder = HashingEncoder()
    builder = Builder(segmenter=Fixed(), encoder=encoder, window_tokens=60)
    [built] = builder.build([talk([100, 100, 40, 400, 400])])
    first = built.fragments[0]
    vectors = {p.passage.turn_ids: p.vector_D for p in first.passages}
    assert list(vectors) == [(0,), (1,), (3,), (0, 1)]
    mean = vectors[0, 1] + vectors[(3,)]
    assert first.vector_D == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    single = Builder(segmenter=Fixed(), encoder=encoder)
    [plain] = single.build([talk([100, 100, 40, 400, 400])])
    assert [len(f.passages) for f in plain.fragments] == [3, 2]
    mean = sum(vectors[(i,)] for i in (0, 1, 3))
    assert plain.fragments[0].vector_D == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_another_window_size_is_another_recipe():
    builders = [
        Builder(segmenter=Fixed(), encoder=HashingEncoder(), window_tokens=n) for n in (0, 60, 61)
    ]
    assert len({dialogue_fingerprint(talk([9]), b.recipe) for b in builders}) == 3
