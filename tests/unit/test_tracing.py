"""Spans of a search: what is inside what, and that nothing happens where nobody asked."""

import json
import subprocess
import sys

import pytest
from service_parts import keys_in, profile_in, run_service

from ffr_core.errors import ConfigError
from serve import tracing

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NAMES = ("the red lamp", "a green lamp", "lamps at noon", "no lamp today", "lamp oil")


@pytest.fixture(autouse=True)
def untraced(monkeypatch):
    for name in (*tracing.ENDPOINTS, tracing.SHARE):
        monkeypatch.delenv(name, raising=False)
    yield
    tracing.switch_on(False)


@pytest.fixture
def exported(monkeypatch):
    """Spans that the SDK's exporter holds; the provider is ours alone."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def search(folder):
    """Add dialogues and search them, inside a caller's trace."""
    keys, ring = keys_in(folder, ("k", "acme", "search", "write"))

    async def work(ask):
        for number, text in enumerate(NAMES):
            turn = {"turn_id": 0, "speaker": "Ana", "text": text}
            record = {"dialogue_id": f"d{number}", "turns": [turn]}
            assert (await ask("k", "POST", "/v1/dialogues", json=record)).status_code == 201
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        call = ask("k", "POST", "/v1/search", json={"query": "a lamp"}, headers=headers)
        return (await call).json()

    return run_service(profile_in(folder), ring, work, keys)


def test_a_search_is_one_trace_through_all_steps(exported, tmp_path):
    tracing.switch_on()
    assert len(search(tmp_path)["dialogues"]) == 5
    every = exported.get_finished_spans()
    spans = [span for span in every if span.context.trace_id == int(TRACE, 16)]
    assert {span.name for span in every if span not in spans} == {"ingress"}
    by_id = {span.context.span_id: span for span in spans}
    [root] = [span for span in spans if span.name == "ingress"]
    assert root.parent.span_id == int(CALLER, 16)

    def path(span):
        above = by_id.get(span.parent.span_id)
        return (*path(above), span.name) if above else (span.name,)

    counted = {}
    for span in spans:
        counted[path(span)] = counted.get(path(span), 0) + 1
    assert counted == {
        ("ingress",): 1,
        ("ingress", "recall"): 1,
        ("ingress", "recall", "encode query"): 1,
        ("ingress", "recall", "search index"): 1,
        ("ingress", "localize"): 3,
        ("ingress", "localize", "read candidate"): 5,
        ("ingress", "aggregate"): 5,
    }
    groups = [s.attributes["ffrs.candidates"] for s in spans if s.name == "localize"]
    assert sorted(groups) == [1, 2, 2]
    text = " ".join(span.to_json() for span in spans)
    assert "lamp" not in text and "d0" not in json.dumps([dict(s.attributes) for s in spans])


def test_an_error_leaves_its_kind_and_not_its_text(exported):
    tracing.switch_on()
    with pytest.raises(ValueError, match="private"), tracing.span("localize"):
        raise ValueError("a private text")
    [span] = exported.get_finished_spans()
    assert span.attributes["error.type"] == "ValueError"
    assert "private" not in span.to_json()


def test_nothing_happens_without_an_endpoint(exported, tmp_path):
    assert tracing.tracing_config() is None
    assert tracing.span_processors() == []
    assert tracing.span("recall") is tracing.span("localize", candidates=3)
    assert len(search(tmp_path)["dialogues"]) == 5
    assert exported.get_finished_spans() == ()


def test_without_the_extra_an_endpoint_does_nothing(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setattr(tracing, "EXPORTER", "opentelemetry.exporter.nowhere.http")
    assert tracing.tracing_config() is None
    assert tracing.span_processors() == []


def test_serve_is_told_how_to_export(monkeypatch, tmp_path):
    from ray._common.utils import import_attr
    from ray.serve.schema import TracingConfig

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"file://{tmp_path}/spans.jsonl")
    config = TracingConfig(**tracing.tracing_config())
    assert (config.enabled, config.sampling_ratio) == (True, 1.0)
    assert import_attr(config.exporter_import_path) is tracing.span_processors
    monkeypatch.setenv(tracing.SHARE, "0.25")
    assert tracing.tracing_config()["sampling_ratio"] == 0.25
    monkeypatch.setenv(tracing.SHARE, "often")
    with pytest.raises(ConfigError, match="often"):
        tracing.tracing_config()


def test_spans_go_to_a_file_one_a_line(monkeypatch, tmp_path):
    from opentelemetry.sdk.trace import TracerProvider

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"file://{tmp_path}/spans.jsonl")
    provider = TracerProvider()
    for processor in tracing.span_processors():
        provider.add_span_processor(processor)
    for name in ("recall", "localize"):
        provider.get_tracer("ffrs").start_span(name).end()
    provider.shutdown()
    lines = (tmp_path / "spans.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["recall", "localize"]


def test_the_module_loads_no_library_of_traces():
    code = "import sys, serve.tracing as t; t.span('x'); print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
