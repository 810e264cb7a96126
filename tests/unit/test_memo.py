import time

import numpy as np

from ffr_core.embedding.cache import CachedEncoder
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.embedding.memo import MemoEncoder
from ffr_core.embedding.wrapped import tokens_read
from ffr_core.types import Image, Passage


class Counting(HashingEncoder):
    asked = 0

    def encode_passages(self, passages):
        self.asked += len(passages)
        return super().encode_passages(passages)


def test_a_text_is_embedded_once():
    inner = Counting()
    memo = MemoEncoder(inner)
    passages = [Passage(text=text) for text in ("a b", "c d", "a b")]
    first = memo.encode_passages(passages)
    np.testing.assert_array_equal(first, HashingEncoder().encode_passages(passages))
    np.testing.assert_array_equal(memo.encode_passages(passages), first)
    assert inner.asked == 2


def test_equal_texts_with_other_images_are_different_passages():
    inner = Counting()
    images = [Image(image_id=0, uri=uri) for uri in ("a.png", "b.png")]
    MemoEncoder(inner).encode_passages([Passage(text="x", images=(image,)) for image in images])
    assert inner.asked == 2


def test_a_full_memory_starts_over_and_stays_right():
    memo = MemoEncoder(Counting(), capacity=2)
    for texts in (["a", "b"], ["b", "c"], ["c", "d", "e"]):
        passages = [Passage(text=text) for text in texts]
        expected = HashingEncoder().encode_passages(passages)
        np.testing.assert_array_equal(memo.encode_passages(passages), expected)


def test_vectors_are_forgotten_in_time_and_no_text_is_kept():
    now, inner = [0.0], Counting()
    memo = MemoEncoder(inner, lifetime=10, clock=lambda: now[0])
    secret = [Passage(text="my pin is 4711")]
    memo.encode_passages(secret)
    now[0] = 9.0
    memo.encode_passages(secret)
    assert inner.asked == 1
    now[0] = 10.0
    memo.encode_passages(secret)
    assert inner.asked == 2
    memo.remember(Passage(text="known"), HashingEncoder().encode_passages(secret)[0])
    memo.encode_passages([Passage(text="known")])
    assert inner.asked == 2
    kept = [key for _, vectors in memo._halves._kept.values() for key in vectors]
    assert kept and {len(key) for key in kept} == {32}
    assert not any(b"4711" in key for key in kept)


def test_vectors_leave_memory_although_nobody_asks_again():
    memo = MemoEncoder(Counting(), lifetime=1.0)
    memo.encode_passages([Passage(text="a")])
    assert len(memo._halves) > 0  # in one half, or on a busy machine in two
    deadline = time.monotonic() + 10
    while len(memo._halves) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(memo._halves) == 0


def test_no_passage():
    assert MemoEncoder(Counting()).encode_passages([]).shape == (0, HashingEncoder().dim)


def test_tokens_are_those_that_the_encoder_really_read(tmp_path):
    memo = MemoEncoder(CachedEncoder(HashingEncoder(), tmp_path))
    passages = [Passage(text="one two"), Passage(text="three"), Passage(text="one two")]
    memo.encode_passages(passages)
    assert tokens_read(memo) == 3
    memo.encode_passages(passages)
    assert tokens_read(memo) == 3
    memo.encode_queries(["four five"])
    assert tokens_read(memo) == 5
    again = MemoEncoder(CachedEncoder(HashingEncoder(), tmp_path))
    again.encode_passages(passages)
    assert tokens_read(again) == 0


def test_an_encoder_that_does_not_count_has_read_nothing():
    assert tokens_read(object()) == 0
