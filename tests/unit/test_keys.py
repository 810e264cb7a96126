import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from ffr_core.index.keys import (
    dialogue_key,
    fragment_key,
    parent_key,
    passage_key,
    tenant_key,
)
from ffr_core.index.rows import MAX_TEXT_BYTES, pack_ids, searchable, unpack_ids


def test_a_dialogue_key_is_the_hash_of_length_prefixed_names():
    data = (2).to_bytes(8, "big") + b"t1" + (3).to_bytes(8, "big") + b"a/b"
    assert dialogue_key("t1", "a/b") == hashlib.sha256(data).hexdigest()[:32]


def test_borders_between_names_matter():
    keys = {dialogue_key("ab", "c"), dialogue_key("a", "bc"), dialogue_key("", "abc")}
    assert len(keys) == 3
    assert tenant_key("abc") not in keys


def test_parts_lead_back_to_their_parents():
    fragment = fragment_key(dialogue_key("t", "d"), 12)
    passage = passage_key(fragment, 3)
    assert re.fullmatch(r"[0-9a-f]{32}:12:3", passage)
    assert parent_key(passage) == fragment
    assert parent_key(fragment) == dialogue_key("t", "d")


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


def test_searchable_text_holds_lower_cased_words_of_both_languages():
    assert searchable("Ana: OK, 明天吃火锅!") == "ana ok 明天 火锅 吃火锅"
