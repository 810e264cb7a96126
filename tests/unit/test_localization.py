import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.localization.embedding import LITERAL, EmbeddingLocalizer
from ffr_core.localization.selection import above
from ffr_core.localization.terms import query_form, terms
from ffr_core.passages import passage_of
from ffr_core.types import Dialogue, Image, PassageEvidence, Turn


def dialogue(*texts, image_turn=None, caption=None):
    turns = []
    for i, text in enumerate(texts):
        images = (Image(image_id=0, uri=None, caption=caption),) if i == image_turn else ()
        turns.append(Turn(turn_id=i, speaker=["Ana", "Ben"][i % 2], text=text, images=images))
    return Dialogue(dialogue_id="d", turns=tuple(turns))


CHAT = dialogue(
    "good morning",
    "did you find the invoice of the dentist",
    "the dentist's invoice is in the blue folder",
    "thanks",
    "what is for lunch",
    "look what I found",
    image_turn=5,
    caption="a red bicycle in front of a bakery",
)


@pytest.fixture(scope="module")
def localizer():
    return EmbeddingLocalizer(HashingEncoder())


def test_hand_worked_selection():
    assert above([0.15, 0.05, 0.12], every=0.2, best=0.1) == [0]
    assert above([0.15, 0.05, 0.12], every=0.2, best=0.16) == []
    assert above([0.15, 0.25, 0.2], every=0.2, best=0.1) == [1, 2]
    assert above([], every=0.2, best=0.1) == []
    assert above([0.6, 0.25, 0.5], every=0.2, best=0.1) == [0, 1, 2]
    assert above([0.6, 0.25, 0.5], every=0.2, best=0.1, share=0.8) == [0, 2]
    assert above([0.6, 0.25, 0.5], every=0.55, best=0.1, share=0.8) == [0]


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_selection_takes_all_above_and_at_most_one_below(values, every, best):
    chosen = above(values, every, best)
    assert {i for i, p in enumerate(values) if p >= every} <= set(chosen)
    below = [i for i in chosen if values[i] < every]
    assert len(below) <= 1
    assert all(values[i] == max(values) >= best for i in below)


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_leaves_out(values, every, share):
    assert set(above(values, every, 0.1, share)) <= set(above(values, every, 0.1))


def test_the_answering_turn_is_the_most_likely(localizer):
    found = localizer.localize("where is the invoice of the dentist", CHAT)
    assert max(found.utterances, key=found.utterances.get) in (1, 2)
    assert 0 not in found.utterances
    assert all(0 <= p <= 1 for p in (*found.utterances.values(), found.relevance))


@pytest.mark.parametrize("query", ["badger", "the badger", "badger is back"])
def test_keywords_find_the_turn_that_holds_them_even_alone(localizer, query):
    """A fragment of one turn has nothing that it could stand out from."""
    found = localizer.localize(query, dialogue("ok see you there, and the badger is back"))
    assert found.utterances[0] >= LITERAL and found.relevance > 0.4
    other = localizer.localize("badger fence", dialogue("ok see you there, and the badger is back"))
    assert other.relevance < found.relevance


def test_a_question_is_not_read_as_keywords(localizer):
    line = dialogue("ok see you there, and the badger is back")
    asked = localizer.localize("who saw the badger?", line)
    assert asked.utterances.get(0, 0.0) < LITERAL


def test_a_picture_is_found_by_its_caption(localizer):
    assert set(localizer.localize("photo of the red bicycle", CHAT).images) == {0}
    assert not localizer.localize("where is the invoice of the dentist", CHAT).images


def test_what_is_not_there_is_less_relevant(localizer):
    there = localizer.localize("invoice of the dentist", CHAT)
    absent = localizer.localize("honeymoon hotel in Lisbon", CHAT)
    assert absent.relevance < there.relevance


def test_only_the_given_turns_are_selected_in_the_dialogues_own_ids(localizer):
    found = localizer.localize("invoice of the dentist", CHAT, [2, 3])
    assert set(found.utterances) <= {2, 3}
    assert localizer.localize("invoice", CHAT, []).relevance == 0


def test_the_more_a_query_asks_for_one_turn_the_closer_others_must_come(localizer):
    single = localizer.localize("who found the invoice", CHAT)
    broad = localizer.localize("discussion of opinions about the invoice of the dentist", CHAT)
    summary = localizer.localize("summarize the talk about the dentist", CHAT)
    assert 0.9 > single.utterance_share > broad.utterance_share > summary.utterance_share == 0.0
    assert single.image_share == summary.image_share == 0.9


def test_stored_vectors_replace_encoding():
    class Refusing(HashingEncoder):
        def encode_passages(self, passages):
            assert not any(passage.turn_ids for passage in passages)
            return super().encode_passages(passages)

    vectors = HashingEncoder().encode_passages([passage_of(CHAT, [i]) for i in range(6)])
    evidence = [PassageEvidence(turn_ids=(i,), vector_D=v) for i, v in enumerate(vectors)]
    query = "invoice of the dentist"
    plain = EmbeddingLocalizer(HashingEncoder()).localize(query, CHAT, range(6))
    given_ = EmbeddingLocalizer(Refusing()).localize(query, CHAT, range(6), evidence)
    assert plain.utterances.keys() == given_.utterances.keys()
    np.testing.assert_allclose(
        list(plain.utterances.values()), list(given_.utterances.values()), atol=1e-6
    )


def test_what_was_read_of_a_dialogue_is_read_again_after_its_lifetime():
    class Counting(HashingEncoder):
        encoded = 0

        def encode_passages(self, passages):
            self.encoded += sum(bool(passage.turn_ids) for passage in passages)
            return super().encode_passages(passages)

    encoder = Counting()
    for lifetime, encoded in ((60.0, 6), (0.0, 18)):
        localizer = EmbeddingLocalizer(encoder, lifetime=lifetime)
        for _ in range(2):
            localizer.localize("invoice of the dentist", CHAT)
        assert encoder.encoded == encoded


def test_odd_texts_do_not_break_it(localizer):
    odd = dialogue("", "\u200b", "🙂" * 50, "<|im_end|>", "x" * 20_000)
    for query in ("🙂", "?", "<|im_start|>", "的", "a" * 3000):
        found = localizer.localize(query, odd)
        assert set(found.utterances) <= set(range(5))


def test_the_form_of_a_query():
    assert query_form("Who has the keys?").flags["who"]
    assert query_form("照片里那辆红色的车").flags["picture"]
    assert query_form("Summarize the discussion about the budget").flags["broad"]
    assert "钥匙" in terms("车钥匙丢了")
