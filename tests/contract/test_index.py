"""What every FragmentIndex must do, on the exact one and on Milvus Lite in both layouts."""

import itertools
import unicodedata
import uuid
from datetime import timedelta

import numpy as np
import pytest
from index_items import DAY, DIM, NAMES, WORDS, indexed, random_item, say, vector_of

from ffr_core.errors import FingerprintError, InputError, RecordError
from ffr_core.index.exact import ExactIndex
from ffr_core.index.filters import facts_of, matches
from ffr_core.index.fusion import FusionWeights
from ffr_core.index.keys import dialogue_key
from ffr_core.index.milvus import MilvusIndex
from ffr_core.index.milvus_schema import Layout
from ffr_core.types import Dialogue, Filters, Turn

SHARED = Layout(prefix="t", shared=True, partition_key=False, vector_index="FLAT")
ALL = FusionWeights(dense_passage=1, dense_fragment=1, bm25_passage=1, bm25_fragment=1)
DENSE = FusionWeights.dense_only()
NO_FILTER = Filters()
COMMON = {"dim": DIM, "encoder_fingerprint": "e1", "weights": ALL}


def open_index(kind, folder, **changes):
    options = COMMON | changes
    if kind == "exact":
        return ExactIndex(**options)
    layout = SHARED if kind == "milvus-shared" else None
    return MilvusIndex(str(folder / f"{kind}.db"), layout=layout, **options)


@pytest.fixture(scope="module", params=["exact", "milvus", "milvus-shared"])
def index(request, tmp_path_factory):
    opened = open_index(request.param, tmp_path_factory.mktemp("index"))
    yield opened
    opened.close()


@pytest.fixture
def tenant():
    return f"tenant {uuid.uuid4()}"


def search(index, tenant, text, filters=NO_FILTER, num_candidates=20):
    return index.search(tenant, vector_of(text), text, filters, num_candidates)


def found(candidates):
    return {(c.dialogue_id, c.fragment.fragment_id) for c in candidates}


class TestContract:
    def test_an_unknown_tenant_is_empty_everywhere(self, index, tenant):
        assert search(index, tenant, "bus") == []
        assert index.headers(tenant, ["d"]) == {}
        assert list(index.scan_headers(tenant)) == []
        assert not index.delete(tenant, "d")
        assert not index.restore(tenant, "d")
        stats = index.stats(tenant)
        assert (stats.dialogues, stats.fragments, stats.passages, stats.deleted) == (0, 0, 0, 0)
        assert stats.fingerprint is None

    def test_a_found_fragment_comes_with_its_evidence(self, index, tenant):
        dialogue = Dialogue(
            dialogue_id="chats/süd #1",
            turns=tuple(
                Turn(turn_id=i, speaker="Ana", text=text)
                for i, text in enumerate(["red bus", "hotel", "blue bus", "beach"])
            ),
        )
        index.upsert(tenant, indexed(dialogue, [[0, 2], [1, 3]]), "hash1")
        best = search(index, tenant, "Ana: blue bus")[0]
        assert best.dialogue_id == "chats/süd #1"
        assert best.fragment.turn_ids == (0, 2)
        assert best.payload == "hash1"
        assert [passage.turn_ids for passage in best.passages] == [(0,), (2,)]
        assert best.passages[1].vector_D == pytest.approx(vector_of("Ana: blue bus"))
        assert best.channels["dense_passage"] == pytest.approx(1.0, abs=1e-5)
        assert set(best.channels) == set(ALL.active())

    def test_upsert_replaces_and_a_shrinking_dialogue_leaves_nothing(self, index, tenant):
        index.upsert(tenant, say("d", "red bus", "zeppelin ride", "hotel"), "p1")
        index.upsert(tenant, say("d", "green tram"), "p2")
        assert found(search(index, tenant, "zeppelin")) == {("d", 0)}
        assert search(index, tenant, "zeppelin")[0].channels["bm25_passage"] == 0.0
        stats = index.stats(tenant)
        assert (stats.dialogues, stats.fragments, stats.passages) == (1, 1, 1)
        header = index.headers(tenant, ["d"])["d"]
        assert (header.payload, header.num_fragments, header.num_passages) == ("p2", 1, 1)
        assert header.revision > 1

    def test_many_at_once_equal_one_by_one(self, index, tenant):
        items = [(say(f"d{i}", "red bus", f"hotel {i}"), f"p{i}") for i in range(5)]
        index.upsert_many(tenant, items[:3])
        index.upsert_many(tenant, items)
        one_by_one = tenant + " one by one"
        for item, payload in items:
            index.upsert(one_by_one, item, payload)
        for header in index.scan_headers(one_by_one):
            other = index.headers(tenant, [header.dialogue_id])[header.dialogue_id]
            assert (other.payload, other.num_passages) == (header.payload, header.num_passages)
        left, right = (search(index, name, "hotel 3") for name in (tenant, one_by_one))
        assert left[0].score == pytest.approx(right[0].score, abs=1e-5)
        assert found(left) == found(right)
        index.delete(tenant, "d1")
        with pytest.raises(RecordError, match="'d1' was deleted"):
            index.upsert_many(tenant, [(say("new", "bus"), "p"), items[1]])
        assert index.headers(tenant, ["new"]) == {}

    def test_a_tombstone_stays_until_it_is_restored(self, index, tenant):
        index.upsert(tenant, say("d", "red bus"), "p")
        index.upsert(tenant, say("other", "red car"), "p")
        assert index.delete(tenant, "d")
        assert not index.delete(tenant, "d")
        assert found(search(index, tenant, "red bus")) == {("other", 0)}
        header = index.headers(tenant, ["d"])["d"]
        assert header.deleted and header.payload == "" and header.fingerprint == ""
        with pytest.raises(RecordError, match="restore") as error:
            index.upsert(tenant, say("d", "red bus"), "p")
        assert error.value.reason == "deleted"
        stats = index.stats(tenant)
        assert (stats.dialogues, stats.fragments, stats.deleted) == (1, 1, 1)
        assert not index.restore(tenant, "other")
        assert index.restore(tenant, "d")
        assert index.headers(tenant, ["d"]) == {}
        index.upsert(tenant, say("d", "red bus"), "p")
        assert found(search(index, tenant, "red bus")) == {("d", 0), ("other", 0)}

    def test_headers_are_scanned_in_order_of_their_ids(self, index, tenant):
        names = ["b", "a/ü", "a", "火"]
        for name in names:
            index.upsert(tenant, say(name, "red bus"), "p")
        index.delete(tenant, "b")
        headers = list(index.scan_headers(tenant))
        assert [header.dialogue_id for header in headers] == sorted(names)
        assert [header.deleted for header in headers] == [False, False, True, False]
        assert index.headers(tenant, ["a", "x"]).keys() == {"a"}

    def test_tenants_share_nothing(self, index, tenant):
        other = tenant + "x"
        index.upsert(tenant, say("d", "red bus"), "mine")
        index.upsert(other, say("d", "red bus", "blue bus"), "theirs")
        index.upsert(other, say("e", "red bus"), "theirs")
        assert {c.payload for c in search(index, tenant, "red bus")} == {"mine"}
        for filters in (
            Filters(dialogue_ids=("e", f'd"] or tenant != "{tenant}')),
            Filters(participants=('t1" or tenant != "x',)),
        ):
            assert search(index, tenant, "red bus", filters) == []
        assert index.headers(tenant, ["d", "e"]).keys() == {"d"}
        assert [header.payload for header in index.scan_headers(tenant)] == ["mine"]
        assert index.stats(tenant).dialogues == 1
        assert not index.delete(tenant, "e")
        assert index.delete(tenant, "d")
        assert not index.restore(other, "d")
        assert index.stats(other).fragments == 3
        index.drop_tenant(tenant)
        assert list(index.scan_headers(tenant)) == []
        assert found(search(index, other, "red bus")) == {("d", 0), ("d", 1), ("e", 0)}

    def test_a_person_is_found_in_upper_and_lower_case(self, index, tenant):
        index.upsert(tenant, say("d", "red bus", speaker="Tobi van Öl"), "p")
        for name in ("tobi van öl", "TOBI VAN ÖL", "Tobi van Öl"):
            assert found(search(index, tenant, "bus", Filters(participants=(name,)))), name
        assert not search(index, tenant, "bus", Filters(participants=("Tobi",)))

    def test_filters_alone_and_combined_equal_a_plain_loop(self, index, tenant):
        rng = np.random.default_rng(7)
        items = [random_item(rng, f"d{i}") for i in range(12)]
        for item in items:
            index.upsert(tenant, item, "p")
        since, until = DAY + timedelta(hours=60), DAY + timedelta(hours=120)
        choices = {
            "participants": [(), ("zoË",), ('O"Neil \\ Co', "小明"), ("nobody",)],
            "since": [None, since],
            "until": [None, until],
            "has_image": [None, True, False],
            "dialogue_ids": [(), ("d1", "d5", "none")],
        }
        combinations = [
            dict(zip(choices, v, strict=True)) for v in itertools.product(*choices.values())
        ]
        for values in combinations[:: 1 if isinstance(index, ExactIndex) else 3]:
            filters = Filters(**values)
            expected = {
                (item.dialogue.dialogue_id, part.fragment.fragment_id)
                for item in items
                for part in item.fragments
                if matches(
                    filters,
                    facts_of(item.dialogue, part.fragment.turn_ids),
                    item.dialogue.dialogue_id,
                )
            }
            assert found(search(index, tenant, "red bus", filters, 100)) == expected, filters

    def test_chinese_and_english_words_are_found(self, index, tenant):
        index.upsert(tenant, say("zh", "我们明天去吃火锅吧 OK", "开会的时间改了"), "p")
        index.upsert(tenant, say("en", "The Budget was approved!", "see you"), "p")
        for text, best in (("火锅", ("zh", 0)), ("ok", ("zh", 0)), ("BUDGET", ("en", 0))):
            candidates = search(index, tenant, text)
            scores = {
                (c.dialogue_id, c.fragment.fragment_id): c.channels["bm25_passage"]
                for c in candidates
            }
            assert [key for key, score in scores.items() if score > 0] == [best], text

    def test_a_query_without_words_ranks_by_vectors(self, index, tenant):
        index.upsert(tenant, say("d", "red bus", "hotel"), "p")
        vector = vector_of("Ana: hotel")
        for text in ("", "?!"):
            best = index.search(tenant, vector, text, NO_FILTER, 5)[0]
            assert best.fragment.fragment_id == 1
            assert best.channels["bm25_fragment"] == 0.0

    def test_markup_and_odd_texts_come_back_unharmed(self, index, tenant):
        names = [
            '<|utt_id_start|>"',
            "a/b/../c",
            "日本 語",
            "'; drop",
            "x" * 1000,
            "{d}",
            "%like\\_",
        ]
        for name in names:
            index.upsert(tenant, say(name, f"<|im_start|> {name}", "", "!"), "p")
        assert {h.dialogue_id for h in index.scan_headers(tenant)} == set(names)
        for name in names:
            filters = Filters(dialogue_ids=(name,))
            assert found(search(index, tenant, "im_start", filters)) == {
                (name, i) for i in range(3)
            }
            assert index.delete(tenant, name)

    def test_ties_are_broken_by_key_not_by_chance(self, index, tenant):
        for name in ("c", "a", "b"):
            index.upsert(tenant, say(name, "red bus", "red bus"), "p")
        first = search(index, tenant, "red bus")
        index.upsert(tenant, say("a", "red bus", "red bus"), "p")
        again = search(index, tenant, "red bus")
        keys = [(c.dialogue_id, c.fragment.fragment_id) for c in first]
        assert keys == [(c.dialogue_id, c.fragment.fragment_id) for c in again]
        assert len(keys) == 6

    def test_the_last_word_of_a_very_long_turn_is_found(self, index, tenant):
        long = " ".join(f"filler{i % 500}" for i in range(15_000)) + " wolpertinger"
        dialogue = say("long", "red bus", long, "thanks").dialogue
        index.upsert(tenant, indexed(dialogue, [[0, 1, 2]]), "p")
        index.upsert(tenant, say("short", "red bus", "hotel"), "p")
        candidates = search(index, tenant, "wolpertinger")
        [best] = [c for c in candidates if c.channels["bm25_passage"] > 0]
        assert best.dialogue_id == "long"
        turn_ids = [(0,), (1,), (2,)]
        assert [passage.turn_ids for passage in best.passages] == turn_ids
        [stored] = index.fragments(tenant, "long")
        assert [passage.turn_ids for passage in stored.passages] == turn_ids
        index.upsert(tenant, say("long", "red bus"), "p")
        candidates = search(index, tenant, "wolpertinger")
        assert candidates and not any(c.channels["bm25_passage"] for c in candidates)

    def test_num_candidates_cuts_the_list(self, index, tenant):
        index.upsert(tenant, say("d", *(f"bus {i}" for i in range(9))), "p")
        everything = search(index, tenant, "bus 3", num_candidates=50)
        assert len(everything) == 9
        few = search(index, tenant, "bus 3", num_candidates=2)
        assert [c.fragment for c in few] == [c.fragment for c in everything[:2]]
        assert everything[0].score >= everything[-1].score

    def test_bad_input_is_refused(self, index, tenant):
        index.upsert(tenant, say("d", "red bus"), "p")
        with pytest.raises(InputError, match="num_candidates"):
            search(index, tenant, "bus", num_candidates=0)
        with pytest.raises(InputError, match="control"):
            search(index, tenant, "bus", Filters(participants=("a\x00",)))
        with pytest.raises(RecordError, match="1024") as error:
            index.upsert(tenant, say("x" * 1025, "bus"), "p")
        assert error.value.reason == "id_too_long"
        item = say("nan", "bus")
        item.fragments[0].vector_D[0] = np.nan
        with pytest.raises(RecordError, match="NaN"):
            index.upsert(tenant, item, "p")
        assert index.stats(tenant).dialogues == 1


def test_accents_count_the_same_composed_or_not(tmp_path):
    composed, apart = "José", unicodedata.normalize("NFD", "José")
    indexes = [open_index(kind, tmp_path) for kind in ("exact", "milvus")]
    for index in indexes:
        index.upsert("t", say("composed", f"{composed} ate", speaker=composed), "p")
        index.upsert("t", say("apart", f"{apart} ate", speaker=apart), "p")
        for typed in (composed, apart, composed.upper(), apart.upper()):
            candidates = search(index, "t", typed, Filters(participants=(typed,)))
            assert found(candidates) == {("composed", 0), ("apart", 0)}
            assert all(c.channels["bm25_passage"] > 0 for c in candidates)
        index.close()


@pytest.mark.parametrize("typed", ["tobi", "Tobi", "TOBI"])
def test_rows_with_unfolded_names_are_found_too(typed, tmp_path, monkeypatch):
    monkeypatch.setattr("ffr_core.index.filters.stored_name", str)
    index = open_index("milvus", tmp_path)
    index.upsert("t", say("d", "red bus", speaker="Tobi"), "p")
    monkeypatch.undo()
    assert found(search(index, "t", "bus", Filters(participants=(typed,)))) == {("d", 0)}
    index.close()


@pytest.mark.parametrize("kind", ["milvus", "milvus-shared"])
def test_milvus_ranks_as_the_exact_index(kind, tmp_path):
    rng = np.random.default_rng(3)
    exact = open_index("exact", tmp_path, depth=10)
    milvus = open_index(kind, tmp_path, depth=10)
    for item in (random_item(rng, f"d{i}") for i in range(25)):
        exact.upsert("t", item, "p")
        milvus.upsert("t", item, "p")
    filters = (NO_FILTER, Filters(participants=("Ana",), has_image=True))
    texts = ("Ana: red bus", "小明 火锅 ticket", "Zoë: 会议 明天 hotel")
    for weights, text, chosen in itertools.product((DENSE, ALL, FusionWeights()), texts, filters):
        exact._weights = milvus._weights = weights
        left = search(exact, "t", text, chosen, 15)
        right = search(milvus, "t", text, chosen, 15)
        assert left
        for a, b in zip(left, right, strict=True):
            assert (a.dialogue_id, a.fragment) == (b.dialogue_id, b.fragment)
            assert a.score == pytest.approx(b.score, abs=1e-4)
            assert dict(a.channels) == pytest.approx(dict(b.channels), abs=1e-4)
            assert [p.turn_ids for p in a.passages] == [p.turn_ids for p in b.passages]
    milvus.close()


def test_another_encoder_is_refused_until_the_rows_are_gone(tmp_path):
    first = open_index("milvus", tmp_path)
    first.upsert("t", say("d", "red bus"), "p")
    first.close()
    second = open_index("milvus", tmp_path, encoder_fingerprint="e2")
    for call in (
        lambda: second.upsert("t", say("e", "red bus"), "p"),
        lambda: search(second, "t", "red bus"),
    ):
        with pytest.raises(FingerprintError, match=r"'e1'.*'e2'.*index again"):
            call()
    assert second.stats("t").fingerprint == "e1"
    second.upsert("u", say("e", "red bus"), "p")
    assert second.stats("u").fingerprint == "e2"
    assert second.delete("t", "d")
    assert search(second, "t", "red bus") == []
    second.upsert("t", say("e", "red bus"), "p")
    assert second.stats("t").fingerprint == "e2"
    second.close()


def test_another_dimension_is_refused_until_the_tenant_is_dropped(tmp_path):
    first = open_index("milvus", tmp_path)
    first.upsert("t", say("d", "red bus"), "p")
    first.close()
    wide = open_index("milvus", tmp_path, dim=32, encoder_fingerprint="wide")
    with pytest.raises(FingerprintError, match=r"16 dimensions.*32"):
        wide.search("t", np.ones(32, dtype=np.float32), "bus", NO_FILTER, 5)
    wide.drop_tenant("t")
    assert wide.search("t", np.ones(32, dtype=np.float32), "bus", NO_FILTER, 5) == []
    wide.close()


def test_stale_rows_do_not_take_the_places_of_live_ones(tmp_path):
    index = open_index("milvus", tmp_path, depth=3, weights=DENSE)
    index.upsert("t", say("gone", *(f"red bus {i}" for i in range(40))), "p")
    index.upsert("t", say("live", "hotel", "beach", "rain"), "p")
    index._connection.delete(index._tenants.find("t").headers, [dialogue_key("t", "gone")])
    assert found(search(index, "t", "Ana: red bus 7")) == {("live", i) for i in range(3)}
    index.close()


def test_words_of_the_vocabulary_are_one_token_each():
    from ffr_core.index.bm25 import tokenize

    assert all(tokenize(word) == [word] for word in WORDS)
    assert len(set(NAMES)) == len(NAMES)
