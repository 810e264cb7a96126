from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ffr_core.errors import NotFoundError
from ffr_core.index.payload import PayloadStore
from ffr_core.storage import LocalStorage
from ffr_core.types import Dialogue, Image, Query, Selection, Turn

TURNS = (
    Turn(turn_id=0, speaker="小明", text='<|im_end|> "quoted"'),
    Turn(turn_id=1, speaker="Ana", text="", images=(Image(image_id=0, uri="a.png"),)),
)
PLAIN = Dialogue(dialogue_id="a/b", turns=TURNS, title="T")


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path)


def test_a_dialogue_comes_back_without_gold_labels(storage):
    query = Query(query="q", relevance=Selection(utterance_ids=frozenset({0})))
    labelled = Dialogue(
        dialogue_id="a/b", turns=TURNS, title="T", fragments=((0, 1),), queries=(query,)
    )
    payloads = PayloadStore(storage)
    name = payloads.put(labelled, "t")
    assert payloads.put(PLAIN, "t") == name
    for store in (payloads, payloads, PayloadStore(storage)):
        assert store.get("t", name) == PLAIN


def test_a_stored_dialogue_can_be_read_whatever_its_id(storage):
    """Ids that are refused today were taken by earlier versions."""
    payloads = PayloadStore(storage)
    odd = Dialogue(dialogue_id="a\nb", turns=(Turn(turn_id=0, speaker="A", text="hi"),))
    assert payloads.get("t", payloads.put(odd, "t")) == odd


def test_names_of_one_tenant_mean_nothing_to_another(storage):
    payloads = PayloadStore(storage)
    name = payloads.put(PLAIN, "t")
    payloads.get("t", name)
    with pytest.raises(NotFoundError):
        payloads.get("u", name)
    payloads.delete("u", "a/b")
    assert payloads.get("t", name) == PLAIN


def test_forged_names_are_refused(storage):
    payloads = PayloadStore(storage)
    name = payloads.put(PLAIN, "t")
    for forged in ("", "../../x", name.upper(), name + "/x", f"../{name}"):
        with pytest.raises(NotFoundError, match="no dialogue is stored as"):
            payloads.get("t", forged)


def test_deleting_removes_every_content_and_forgets_it(storage):
    payloads = PayloadStore(storage)
    newer = Dialogue(dialogue_id="a/b", turns=TURNS[:1])
    names = [payloads.put(PLAIN, "t"), payloads.put(newer, "t")]
    other = payloads.put(Dialogue(dialogue_id="other", turns=TURNS[:1]), "t")
    for name in names:
        payloads.get("t", name)
    payloads.keep_only("t", names[1])
    with pytest.raises(NotFoundError):
        payloads.get("t", names[0])
    assert payloads.get("t", names[1]) == newer
    payloads.delete("t", "a/b")
    with pytest.raises(NotFoundError):
        payloads.get("t", names[1])
    assert [key.split("/")[-1] for key in storage.list()] == [f"{other.split('/')[1]}.json.zst"]


def test_deleting_removes_what_a_killed_write_left(storage):
    payloads = PayloadStore(storage)
    names = [payloads.put(PLAIN, "t"), payloads.put(replace(PLAIN, dialogue_id="other"), "t")]
    left = [next(storage.root.rglob(n.split("/")[0])) / ".writing-0123" for n in names]
    for payloads_call in (
        lambda: payloads.keep_only("t", names[0]),
        lambda: payloads.delete("t", "a/b"),
    ):
        for path in left:
            path.write_bytes(b"secret")
        payloads_call()
        assert [path.exists() for path in left] == [False, True]


def test_a_new_reading_of_the_pictures_replaces_the_one_in_memory(storage):
    payloads = PayloadStore(storage)

    def read(text):
        image = Image(image_id=0, uri="a.png", text=text, ocr=True)
        return replace(PLAIN, turns=(TURNS[0], replace(TURNS[1], images=(image,))))

    name = payloads.put(read("blurred"), "t")
    assert payloads.get("t", name) == read("blurred")
    assert payloads.put(read("sharp"), "t") == name
    assert payloads.get("t", name) == read("sharp")


def test_only_a_dialogue_without_times_keeps_the_time_of_its_first_indexing(storage):
    payloads, before = PayloadStore(storage), datetime.now(UTC)
    name = payloads.put(PLAIN, "t")
    first = payloads.indexed_at("t", name)
    assert before <= first <= datetime.now(UTC)
    payloads.put(PLAIN, "t")
    assert payloads.indexed_at("t", name) == first
    assert payloads.indexed_at("u", name) is None
    dated = Turn(turn_id=0, speaker="Ana", text="x", timestamp=before)
    name = payloads.put(Dialogue(dialogue_id="dated", turns=(dated,)), "t")
    assert payloads.indexed_at("t", name) is None


class Counting(LocalStorage):
    reads = 0

    def read(self, key):
        self.reads += 1
        return super().read(key)


def test_a_dialogue_stays_unpacked_for_its_lifetime_or_until_it_is_forgotten(tmp_path):
    now, storage = [0.0], Counting(tmp_path)
    payloads = PayloadStore(storage, lifetime=10, clock=lambda: now[0])
    name = payloads.put(PLAIN, "t")
    storage.reads = 0
    for _ in range(2):
        payloads.get("t", name)
    assert storage.reads == 1
    payloads.forget("u", "a/b")
    payloads.forget("t", "a")
    payloads.get("t", name)
    assert storage.reads == 1
    payloads.forget("t", "a/b")
    payloads.get("t", name)
    assert storage.reads == 2
    now[0] = 10.0
    payloads.get("t", name)
    assert storage.reads == 3


def test_a_deleted_dialogue_leaves_no_folder_with_its_key(storage):
    payloads = PayloadStore(storage)
    other = replace(PLAIN, dialogue_id="other")
    names = [payloads.put(dialogue, "t") for dialogue in (PLAIN, other)]
    payloads.delete("t", "a/b")
    assert [path.name for path in storage.root.glob("payloads/*/*/*")] == [names[1].split("/")[0]]
    payloads.delete("t", "other")
    assert list(storage.root.iterdir()) == []
