import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffr_core.index import rows
from ffr_core.index.bm25 import tokenize
from ffr_core.index.keys import (
    dialogue_key,
    dialogue_of,
    fragment_key,
    fragment_of,
    passage_key,
    tenant_key,
)
from ffr_core.index.rows import (
    MAX_TEXT_BYTES,
    pack_ids,
    searchable,
    searchable_parts,
    unpack_ids,
)


def test_a_dialogue_key_is_the_hash_of_length_prefixed_names():
    data = (2).to_bytes(8, "big") + b"t1" + (3).to_bytes(8, "big") + b"a/b"
    assert dialogue_key("t1", "a/b") == hashlib.sha256(data).hexdigest()[:32]


def test_borders_between_names_matter():
    keys = {dialogue_key("ab", "c"), dialogue_key("a", "bc"), dialogue_key("", "abc")}
    assert len(keys) == 3
    assert tenant_key("abc") not in keys


def test_parts_lead_back_to_their_parents():
    dialogue = dialogue_key("t", "d")
    fragment = fragment_key(dialogue, 7, 12)
    passage = passage_key(fragment, 3)
    assert re.fullmatch(r"[0-9a-f]{32}:7:12:3", passage)
    assert fragment_of(passage) == fragment
    assert dialogue_of(passage) == dialogue_of(fragment) == dialogue


def test_keys_of_older_versions_lead_back_too():
    dialogue = dialogue_key("t", "d")
    assert fragment_of(f"{dialogue}:12:3") == f"{dialogue}:12"
    assert dialogue_of(f"{dialogue}:12") == dialogue


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_has_a_key(tenant, dialogue_id):
    assert re.fullmatch(r"[0-9a-f]{32}", dialogue_key(tenant, dialogue_id))


def test_ids_are_packed_as_ranges():
    assert pack_ids([0, 1, 2, 7, 9, 10]) == "0-2,7,9-10"
    assert pack_ids([]) == ""


@given(st.sets(st.integers(0, 10_000), max_size=60))
def test_packed_ids_come_back(ids):
    assert unpack_ids(pack_ids(sorted(ids))) == tuple(sorted(ids))


def test_long_texts_are_cut_between_words():
    cut = searchable("wort " * 20_000)
    assert len(cut.encode()) <= MAX_TEXT_BYTES
    assert set(cut.split(" ")) == {"wort"}
    assert len(cut) > MAX_TEXT_BYTES - 5


def test_one_endless_word_is_cut_on_a_character():
    cut = searchable("ü" * 40_000)
    assert cut == "ü" * (MAX_TEXT_BYTES // 2)


@settings(deadline=None)
@given(st.text(max_size=60), st.integers(4, 20))
def test_parts_hold_every_word_once(text, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "MAX_TEXT_BYTES", limit)
        parts = searchable_parts(text)
    assert all(len(part.encode()) <= limit for part in parts)
    assert "".join(parts).replace(" ", "") == "".join(tokenize(text))


def test_parts_end_between_words():
    words = [f"word{i}" for i in range(20_000)]
    parts = searchable_parts(" ".join(words))
    assert len(parts) == 3
    assert " ".join(parts).split(" ") == words


def test_searchable_text_holds_lower_cased_words_of_both_languages():
    assert searchable("Ana: OK, 明天吃火锅!") == "ana ok 明天 火锅 吃火锅"
