"""Short calls of the running service."""

import json
from urllib.parse import quote

SEARCH = "/v1/search"
BOATS = {"query": "sailing boat"}


def path_of(dialogue_id):
    return f"/v1/dialogues/{quote(dialogue_id, safe='')}"


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def found(http, query, **options):
    answer = http.post(SEARCH, json={"query": query, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer):
    return [dialogue["dialogue_id"] for dialogue in answer["dialogues"]]


def events(http, body):
    """(event, data) of a stream, in order."""
    with http.stream("POST", "/v1/search/stream", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join(answer.iter_text())
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(lines[0][len("event: ") :], json.loads(lines[1][len("data: ") :])) for lines in blocks]
