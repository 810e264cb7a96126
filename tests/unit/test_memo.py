import numpy as np

from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.embedding.memo import MemoEncoder
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


def test_no_passage():
    assert MemoEncoder(Counting()).encode_passages([]).shape == (0, HashingEncoder().dim)
