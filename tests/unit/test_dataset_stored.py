import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.dataset.nearest import cell_blocks, exact_neighbors
from ffr_core.dataset.stored import KeySets, StoredRows, StoredSets


@pytest.fixture
def stored(tmp_path):
    """3,000 rows of a file in reverse, every second one, and the same in memory."""
    values = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float16)
    (tmp_path / "v.f16").write_bytes(values.tobytes())
    order = np.arange(2999, -1, -2)
    return StoredRows(tmp_path / "v.f16", 8, order), values[order]


def test_stored_rows_read_as_an_array_does(stored):
    rows, expected = stored
    assert len(rows) == 1500 and rows.shape == expected.shape
    picked = np.random.default_rng(1).integers(1500, size=2500)
    for key in (picked, slice(5, 1300), slice(0, 0), 7, -1, np.array([], dtype=np.int64)):
        assert np.array_equal(rows[key], expected[key])
    assert np.array_equal(np.asarray(rows, dtype=np.float32), expected.astype(np.float32))


def test_neighbors_of_stored_rows_are_those_of_an_array(stored):
    rows, expected = stored
    found = [cell_blocks(r, 5, seed=0, cell_size=64, num_probes=4) for r in (rows, expected)]
    for (here, ours), (there, theirs) in zip(*found, strict=True):
        assert np.array_equal(here, there) and np.array_equal(ours.rows_NK, theirs.rows_NK)
    exact = exact_neighbors(rows, 5).rows_NK
    assert np.array_equal(exact, exact_neighbors(expected, 5).rows_NK)


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "v.f16").write_bytes(b"")
    rows = StoredRows(tmp_path / "v.f16", 8, np.array([], dtype=np.int64))
    assert rows[:].shape == (0, 8)


SETS = st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=5), max_size=8)


@given(sets=SETS)
def test_sets_come_back_one_by_one_and_in_blocks(tmp_path_factory, sets):
    stored = StoredSets(tmp_path_factory.mktemp("sets") / "s.u32")
    for values in sets:
        stored.append(np.array(values, dtype=np.uint32))
    assert len(stored) == len(sets)
    assert [found.tolist() for found in stored] == sets
    for start in range(len(sets) + 1):
        assert [found.tolist() for found in stored[start : start + 3]] == sets[start : start + 3]
    stored.close()


def test_equal_keys_have_equal_hashes():
    keys = KeySets([["a", "b"], [], ["b", "c"], ["a", "b"]])
    assert len(keys) == 4 and keys[0] == keys[3] and not keys[1]
    assert len(keys[0] & keys[2]) == 1 and len(keys[0] | keys[2]) == 3
    assert list(keys.some([2, 1])) == [keys[2], keys[1]]
