"""Traces, audit log and structured logs of the running service, over its real processes."""

import json
import time

from service_calls import found
from service_process import SECRET, record

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT_SPAN = "0xb7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{PARENT_SPAN[2:]}-01"}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def spans_of(service, trace_id, wanted):
    """Spans of one trace, when those with the wanted names, and those above them, have come.

    A span is written when it ends, so after all that it holds.
    """
    deadline = time.monotonic() + 20
    while True:
        spans = [
            span
            for span in lines(service.folder / "spans.jsonl")
            if span["context"]["trace_id"] == f"0x{trace_id}"
        ]
        known = {span["context"]["span_id"] for span in spans} | {PARENT_SPAN, None}
        whole = all(span["parent_id"] in known for span in spans)
        if (wanted <= {span["name"] for span in spans} and whole) or time.monotonic() > deadline:
            return spans
        time.sleep(0.2)


def test_one_trace_goes_through_the_processes_of_a_search(service, a):
    answer = a.post("/v1/search", json={"query": "sailing boat"}, headers=PARENT)
    assert answer.json()["dialogues"]
    wanted = {"ingress", "recall", "search index", "localize", "read candidate", "aggregate"}
    spans = spans_of(service, TRACE, wanted)
    assert wanted <= {span["name"] for span in spans}
    by_id = {span["context"]["span_id"]: span for span in spans}

    def above(span):
        parent = by_id.get(span["parent_id"])
        return [] if parent is None else [parent["name"], *above(parent)]

    deployments = {
        "search index": ("IndexOwner", "recall"),
        "read candidate": ("Localizer", "localize"),
    }
    for span in spans:
        if span["name"] in deployments:
            process, step = deployments[span["name"]]
            names = above(span)
            assert any(name.startswith(f"replica_handle_request {process}") for name in names)
            assert step in names
            assert names[-1] == "ingress"


def test_calls_are_audited_and_no_text_is_anywhere(service, a, b):
    answer = b.post("/v1/search", json={"query": f"the {SECRET}"}, headers={"x-request-id": "r-7"})
    assert answer.json()["dialogues"]
    a.post("/v1/dialogues", json=record("audited", ["a quiet day"]))
    assert a.delete("/v1/dialogues/audited").status_code == 200
    found(a, "sailing boat")
    entries = lines(service.folder / "home" / "audit.jsonl")
    [search] = [entry for entry in entries if entry["request_id"] == "r-7"]
    assert (search["tenant"], search["key"], search["status"]) == ("tenant-b", "b", 200)
    assert set(search["dialogue_ids"]) <= {"hidden", "boats"}
    [gone] = [e for e in entries if e["method"] == "DELETE" and "audited" in e["dialogue_ids"]]
    assert (gone["tenant"], gone["key"]) == ("tenant-a", "a")
    for path in ("home/audit.jsonl", "spans.jsonl", "log"):
        assert SECRET not in (service.folder / path).read_text(), path
