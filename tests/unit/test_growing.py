"""A longer version of a known dialogue: what is read again, what is kept, what comes out."""

from dataclasses import replace

import numpy as np
import pytest

from ffr_core.building import Builder
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.embedding.memo import MemoEncoder
from ffr_core.growing import grow, has_grown
from ffr_core.index.exact import ExactIndex
from ffr_core.index.milvus import MilvusIndex
from ffr_core.index.payload import PayloadStore
from ffr_core.segmentation.texttiling import TextTilingSegmenter
from ffr_core.storage import open_storage
from ffr_core.types import Dialogue, Image, Turn, fragments_from_clusters
from ffr_core.writing import add_dialogue, write_dialogues


class ByTopic:
    """Segments by the first letter of a turn, so that fragments interleave; counts turns read."""

    fingerprint = "topic"

    def __init__(self):
        self.read = 0

    def segment(self, dialogues):
        found = []
        for dialogue in dialogues:
            self.read += len(dialogue.turns)
            topics = {}
            for turn in dialogue.turns:
                topics.setdefault(turn.text[0], []).append(turn.turn_id)
            found.append(fragments_from_clusters(list(topics.values())))
        return found


class Counting(HashingEncoder):
    """Counts passages that are really embedded."""

    count = 0

    def encode_passages(self, passages):
        self.count += len(passages)
        return super().encode_passages(passages)


def talk(num_turns, topic_turns=10):
    """Topics of ten turns, every third turn about something that runs through the dialogue."""
    turns = tuple(
        Turn(
            turn_id=i,
            speaker="A",
            text=f"{'z' if i % 3 == 2 else chr(97 + i // topic_turns)} word{i}",
        )
        for i in range(num_turns)
    )
    return Dialogue(dialogue_id="d", turns=turns)


def parts(tmp_path, kind="exact", vector="mean", window_tokens=0):
    builder = Builder(
        segmenter=ByTopic(),
        encoder=Counting(),
        fragment_vector=vector,
        window_tokens=window_tokens,
    )
    options = {"dim": builder.encoder.dim, "encoder_fingerprint": builder.encoder.fingerprint}
    index = (
        ExactIndex(**options) if kind == "exact" else MilvusIndex(str(tmp_path / "i.db"), **options)
    )
    return builder, index, PayloadStore(open_storage(str(tmp_path / "store")))


def content(stored):
    return [
        (s.fragment, s.vector_D.round(5).tolist(), [p.turn_ids for p in s.passages]) for s in stored
    ]


def test_only_a_dialogue_that_got_longer_has_grown():
    old = talk(20)
    assert has_grown(old, talk(21))
    assert not has_grown(old, old)
    assert not has_grown(old, talk(19))
    turns = (replace(old.turns[0], text="other"), *talk(21).turns[1:])
    assert not has_grown(old, replace(old, turns=turns))
    assert not has_grown(old, replace(talk(21), title="new"))


def test_an_old_turn_that_now_answers_a_new_one_is_a_change(tmp_path):
    new = talk(21)
    new = replace(new, turns=(new.turns[0], replace(new.turns[1], reply_to=20), *new.turns[2:]))
    assert not has_grown(talk(20), new)
    builder, index, payloads = parts(tmp_path)
    add_dialogue(builder, index, payloads, "t", talk(20))
    assert add_dialogue(builder, index, payloads, "t", new) == "updated"


def test_a_segmenter_that_takes_long_does_not_cost_the_stored_vectors(tmp_path):
    now = [0.0]

    class Slow(ByTopic):
        def segment(self, dialogues):
            now[0] += 1000.0
            return super().segment(dialogues)

    encoder = Counting()
    memo = MemoEncoder(encoder, clock=lambda: now[0])
    builder = Builder(segmenter=Slow(), encoder=memo)
    [old] = builder.build([talk(60)])
    index = ExactIndex(dim=encoder.dim, encoder_fingerprint=encoder.fingerprint)
    index.upsert("t", old, "p")
    encoder.count = 0
    grow(builder, talk(60), index.fragments("t", "d"), talk(64))
    assert encoder.count == 4


@pytest.mark.parametrize(
    ("kind", "vector"), [("exact", "mean"), ("exact", "encode"), ("milvus", "mean")]
)
def test_a_grown_dialogue_equals_one_indexed_whole(tmp_path, kind, vector):
    builder, index, payloads = parts(tmp_path, kind, vector)
    assert add_dialogue(builder, index, payloads, "t", talk(100)) == "indexed"
    assert content(index.fragments("t", "d")) == content(_whole(builder, 100))
    builder.segmenter.read = builder.encoder.count = 0
    assert add_dialogue(builder, index, payloads, "t", talk(104)) == "updated"
    assert content(index.fragments("t", "d")) == content(_whole(builder, 104))
    header = index.headers("t", ["d"])["d"]
    assert (header.num_passages, len(payloads.get("t", header.payload).turns)) == (104, 104)
    assert add_dialogue(builder, index, payloads, "t", talk(104)) == "unchanged"
    assert index.fragments("t", "nobody") == index.fragments("other", "d") == []
    index.close()


def _whole(builder, num_turns):
    fresh = Builder(
        segmenter=ByTopic(),
        encoder=HashingEncoder(),
        fragment_vector=builder.fragment_vector,
        window_tokens=builder.window_tokens,
    )
    index = ExactIndex(dim=fresh.encoder.dim, encoder_fingerprint=fresh.encoder.fingerprint)
    index.upsert_many("t", [(fresh.build([talk(num_turns)])[0], "p")])
    return index.fragments("t", "d")


def test_only_the_tail_is_segmented_and_embedded(tmp_path):
    builder, index, payloads = parts(tmp_path)
    add_dialogue(builder, index, payloads, "t", talk(100))
    assert (builder.segmenter.read, builder.encoder.count) == (100, 100)
    add_dialogue(builder, index, payloads, "t", talk(104))
    assert (builder.segmenter.read - 100, builder.encoder.count - 100) == (15 + 4, 4)


@pytest.mark.parametrize("kind", ["exact", "milvus"])
def test_windows_of_a_grown_dialogue_equal_those_of_one_indexed_whole(tmp_path, kind):
    builder, index, payloads = parts(tmp_path, kind, window_tokens=12)
    add_dialogue(builder, index, payloads, "t", talk(100))
    builder.encoder.count = 0
    add_dialogue(builder, index, payloads, "t", talk(104))
    # Four new turns and the windows of the two fragments that they belong to, as far as they are
    # new; all others come from the index.
    assert builder.encoder.count < 4 + 4
    stored, whole = index.fragments("t", "d"), _whole(builder, 104)
    assert [s.vector_D.round(5).tolist() for s in stored] == [
        s.vector_D.round(5).tolist() for s in whole
    ]
    wide = {p.turn_ids for s in stored for p in s.passages if len(p.turn_ids) > 1}
    assert wide == {p.turn_ids for s in whole for p in s.passages if len(p.turn_ids) > 1} != set()
    index.close()


def test_what_is_not_growth_is_built_whole(tmp_path):
    builder, index, payloads = parts(tmp_path)
    add_dialogue(builder, index, payloads, "t", talk(50))
    changed = replace(talk(60), title="renamed")
    assert add_dialogue(builder, index, payloads, "t", changed) == "updated"
    assert builder.segmenter.read == 110
    builder.segmenter.fingerprint = "another"
    assert add_dialogue(builder, index, payloads, "t", replace(talk(70), title="renamed")) == (
        "updated"
    )
    assert builder.segmenter.read == 180


def test_text_that_ocr_read_stays_and_only_new_pictures_are_read(tmp_path):
    class Ocr:
        fingerprint = "ocr"
        seen = 0

        def read_all(self, dialogues):
            self.seen += sum(len(dialogue.images) for dialogue in dialogues)
            return [
                replace(
                    dialogue,
                    turns=tuple(
                        replace(
                            turn,
                            images=tuple(
                                replace(i, text=f"in {i.uri}", ocr=True) for i in turn.images
                            ),
                        )
                        for turn in dialogue.turns
                    ),
                )
                for dialogue in dialogues
            ]

    def pictured(num_turns):
        turns = tuple(
            replace(turn, images=(Image(image_id=turn.turn_id, uri=f"/p/{turn.turn_id}.png"),))
            for turn in talk(num_turns).turns
        )
        return replace(talk(num_turns), turns=turns)

    ocr = Ocr()
    builder = Builder(segmenter=ByTopic(), encoder=HashingEncoder(), ocr=ocr)
    [first] = builder.build([pictured(30)])
    index = ExactIndex(dim=builder.encoder.dim, encoder_fingerprint=builder.encoder.fingerprint)
    payloads = PayloadStore(open_storage(str(tmp_path)))
    write_dialogues(index, payloads, "t", [first])
    assert ocr.seen == 30
    assert add_dialogue(builder, index, payloads, "t", pictured(33)) == "updated"
    assert ocr.seen == 33
    stored = payloads.get("t", index.headers("t", ["d"])["d"].payload)
    assert [image.text for image in stored.images] == [f"in /p/{i}.png" for i in range(33)]
    assert all(image.ocr for image in stored.images)
    assert add_dialogue(builder, index, payloads, "t", pictured(33)) == "unchanged"


def test_growth_from_a_short_dialogue(tmp_path):
    builder, index, _ = parts(tmp_path)
    [old] = builder.build([talk(3)])
    index.upsert_many("t", [(old, "p")])
    built = grow(builder, talk(3), index.fragments("t", "d"), talk(12))
    assert [f.fragment for f in built.fragments] == [f.fragment for f in _whole(builder, 12)]
    assert all(np.isclose(np.linalg.norm(f.vector_D), 1, atol=1e-5) for f in built.fragments)


def test_text_tiling_reads_the_whole_dialogue_again_and_embeds_only_new_turns():
    encoder = Counting()
    memo = MemoEncoder(encoder)
    builder = Builder(segmenter=TextTilingSegmenter(memo), encoder=memo)
    [built] = builder.build([talk(60)])
    index = ExactIndex(dim=encoder.dim, encoder_fingerprint=encoder.fingerprint)
    index.upsert("t", built, "p")
    encoder.count = 0
    fresh = MemoEncoder(encoder)
    later = Builder(segmenter=TextTilingSegmenter(fresh), encoder=fresh)
    grown = grow(later, talk(60), index.fragments("t", "d"), talk(66))
    assert encoder.count == 6
    [whole] = builder.build([talk(66)])
    assert [f.fragment for f in grown.fragments] == [f.fragment for f in whole.fragments]
    assert len(grown.fragments) > 1
