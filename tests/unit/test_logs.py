"""Logs as JSON lines with the ids of the request, and without texts of errors."""

import io
import json
import logging

import pytest

from ffr_core.operations.config import LogConfig
from ffr_core.operations.logs import PACKAGES, setup_logs, tell
from serve.problems import log_failure

JSON = LogConfig(format="json", level="INFO")


@pytest.fixture(autouse=True)
def same_logging_afterwards():
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, state in zip(loggers, before, strict=True):
        logger.handlers, logger.level, logger.propagate = state


def test_a_line_says_when_where_what_and_in_which_request():
    stream = io.StringIO()
    setup_logs(JSON, "Ingress", lambda: {"request_id": "r1", "trace_id": "t1"}, stream)
    logging.getLogger("serve.x").info("line one\nline two, 火锅")
    logging.getLogger("serve.x").debug("too small")
    logging.getLogger("httpx").info("not ours")
    [line] = stream.getvalue().splitlines()
    values = json.loads(line)
    assert values.pop("time").endswith("+00:00")
    assert values == {
        "level": "INFO",
        "logger": "serve.x",
        "component": "Ingress",
        "message": "line one\nline two, 火锅",
        "request_id": "r1",
        "trace_id": "t1",
    }


def test_an_exception_is_its_kind_and_place_without_its_text():
    stream = io.StringIO()
    setup_logs(JSON, "IndexOwner", stream=stream)
    try:
        raise ValueError("a private text")
    except ValueError as error:
        logging.getLogger("ffr_core.x").exception("failed")
        log_failure(error)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["error"] == "ValueError"
    assert first["frames"][0].endswith("without_its_text")
    assert second["message"].startswith("ValueError")
    assert "private" not in stream.getvalue()


def test_text_leaves_logging_as_it_is():
    setup_logs(LogConfig(), "Ingress")
    assert all(logging.getLogger(name).propagate for name in PACKAGES)


def test_progress_of_a_job_is_text_or_numbers(capsys):
    tell(LogConfig(), "index", "50%  3 dialogues", {"read": 3})
    assert capsys.readouterr() == ("", "50%  3 dialogues\n")
    tell(JSON, "index", "50%  3 dialogues", {"read": 3})
    values = json.loads(capsys.readouterr().err)
    assert (values["component"], values["read"]) == ("index", 3)
    assert len(values["run_id"]) == 12
