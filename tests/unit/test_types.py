import pickle
from dataclasses import replace

import numpy as np

from tests.contract.index_items import random_item


def test_an_indexed_dialogue_is_pickled_with_all_its_parts():
    item = random_item(np.random.default_rng(3), "d")
    found = pickle.loads(pickle.dumps(item))
    assert (found.dialogue, found.fingerprint) == (item.dialogue, item.fingerprint)
    assert len(found.fragments) == len(item.fragments)
    for part, twin in zip(item.fragments, found.fragments, strict=True):
        assert (part.fragment, part.text) == (twin.fragment, twin.text)
        np.testing.assert_array_equal(part.vector_D, twin.vector_D)
        assert [p.passage for p in part.passages] == [p.passage for p in twin.passages]
        for one, other in zip(part.passages, twin.passages, strict=True):
            np.testing.assert_array_equal(one.vector_D, other.vector_D)
    assert pickle.loads(pickle.dumps(replace(item, fragments=()))).fragments == ()
