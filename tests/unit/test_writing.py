"""What happens to payloads when a write is refused or crosses another one; writes and searches."""

import asyncio
import threading
from dataclasses import replace

import pytest

from ffr_core.building import Builder
from ffr_core.embedding.hashing import HashingEncoder
from ffr_core.errors import RecordError
from ffr_core.index.exact import ExactIndex
from ffr_core.index.payload import PayloadStore
from ffr_core.localization.embedding import EmbeddingLocalizer
from ffr_core.pipeline import System
from ffr_core.segmentation.texttiling import TextTilingSegmenter
from ffr_core.storage import open_storage
from ffr_core.types import Dialogue, Filters, Turn
from ffr_core.writing import add_dialogue, delete_dialogue, write_dialogues
from serve.workers import IndexWorker
from tests.unit.service_parts import profile_in


def talk(text, name="d"):
    return Dialogue(dialogue_id=name, turns=(Turn(turn_id=0, speaker="Ana", text=text),))


@pytest.fixture
def parts(tmp_path):
    encoder = HashingEncoder()
    builder = Builder(segmenter=TextTilingSegmenter(encoder), encoder=encoder)
    index = ExactIndex(dim=encoder.dim, encoder_fingerprint=encoder.fingerprint)
    return builder, index, PayloadStore(open_storage(str(tmp_path)))


def stored(payloads):
    return sorted(payloads._storage.list())


def test_a_dialogue_deleted_while_it_was_built_leaves_no_text(parts):
    builder, index, payloads = parts
    items = builder.build([talk("secret")])
    write_dialogues(index, payloads, "t", items)
    delete_dialogue(index, payloads, "t", "d")
    with pytest.raises(RecordError, match="deleted"):
        write_dialogues(index, payloads, "t", items)
    assert stored(payloads) == []


def test_a_slower_writer_keeps_what_the_header_points_to(parts, monkeypatch):
    builder, index, payloads = parts
    slow, quick = builder.build([talk("slow")]), builder.build([talk("quick")])
    upsert = index.upsert_many

    def crossed(tenant, items):
        upsert(tenant, items)
        monkeypatch.setattr(index, "upsert_many", upsert)
        write_dialogues(index, payloads, "t", quick)

    monkeypatch.setattr(index, "upsert_many", crossed)
    write_dialogues(index, payloads, "t", slow)
    header = index.headers("t", ["d"])["d"]
    assert payloads.get("t", header.payload).turns[0].text == "quick"
    assert len(stored(payloads)) == 1


def test_a_lost_payload_is_written_again(parts):
    builder, index, payloads = parts
    assert add_dialogue(builder, index, payloads, "t", talk("hello")) == "indexed"
    payloads.delete("t", "d")
    assert add_dialogue(builder, index, payloads, "t", talk("hello")) == "updated"
    assert add_dialogue(builder, index, payloads, "t", talk("hello")) == "unchanged"
    assert len(stored(payloads)) == 1


def test_a_search_leaves_out_what_vanished_or_changed_since_the_recall(parts, monkeypatch, caplog):
    builder, index, payloads = parts
    localizer = EmbeddingLocalizer(builder.encoder)
    system = System(builder=builder, index=index, payloads=payloads, localizer=localizer)
    for name in ("gone", "new", "same"):
        system.add(talk("zebra stripes", name))
    recall = index.search

    def crossed(*arguments):
        found = recall(*arguments)
        payloads.delete("default", "gone")
        changed = payloads.put(talk("giraffe", "new"), "default")
        # Two contents of one dialogue, as a recall finds them in the middle of an update.
        [new] = [c for c in found if c.dialogue_id == "new"]
        return [*found, replace(new, payload=changed)]

    monkeypatch.setattr(index, "search", crossed)
    found = system.search("zebra stripes")
    assert {answer.dialogue_id for answer in found} == {"new", "same"}
    assert "2 of 4 candidates are left out" in caplog.text
    for name in ("new", "same"):
        payloads.delete("default", name)
    monkeypatch.setattr(index, "search", recall)
    assert system.search("zebra stripes") == []


def test_searches_go_on_beside_many_waiting_writes(tmp_path, monkeypatch):
    started, release = threading.Event(), threading.Event()

    def slow(*arguments):
        started.set()
        release.wait(10)
        return add_dialogue(*arguments)

    monkeypatch.setattr("serve.workers.add_dialogue", slow)
    worker = IndexWorker(profile_in(tmp_path, owner_threads=2))

    async def scenario():
        writes = [
            asyncio.ensure_future(worker.add("t", talk("x", f"d{i}"), False)) for i in range(4)
        ]
        await asyncio.to_thread(started.wait, 10)
        found = await asyncio.wait_for(worker.recall("t", "hello", Filters(), 5), 5)
        assert found.candidates == []
        release.set()
        return await asyncio.gather(*writes)

    try:
        added = asyncio.run(scenario())
    finally:
        release.set()
        worker.close()
    assert [each.change for each in added] == ["indexed"] * 4
