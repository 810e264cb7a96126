"""What the load benchmark counts."""

import asyncio
import time
from collections import Counter

import httpx

from ffr_core.types import Dialogue, Query, Selection, Turn
from jobs.bench.load import TENANTS, Load


def test_refused_requests_count_as_failed_and_not_as_quick_answers():
    dialogue = Dialogue(
        dialogue_id="d",
        turns=(Turn(turn_id=0, speaker="Ana", text="bus"),),
        queries=(Query(query="bus", relevance=Selection(utterance_ids=frozenset({0}))),),
    )
    answers = []

    def answer(_):
        answers.append(len(answers) % 4)
        if answers[-1] == 3:
            raise httpx.ConnectError("gone")
        if answers[-1]:
            return httpx.Response(429)
        time.sleep(0.002)
        return httpx.Response(200, json={"partial": True, "dialogues": [{"dialogue_id": "d"}]})

    load = Load(
        url="http://test",
        keys=dict.fromkeys(TENANTS, "key"),
        corpora={tenant: [dialogue] for tenant in TENANTS},
        metrics="",
    )

    async def search():
        async with httpx.AsyncClient(
            base_url="http://test", transport=httpx.MockTransport(answer)
        ) as http:
            await load._client(http, 0, 0, time.monotonic() + 0.1)

    asyncio.run(search())
    found = load._summary(0.1, Counter(), {}, 0.0)
    counts = Counter(answers)
    assert found["requests"] == len(answers)
    assert found["answers_per_second"] == round(counts[0] / 0.1, 2)
    assert found["partial_share"] == 1.0
    assert found["latency_ms"]["p50"] >= 2.0
    assert found["failed"] == {
        name: count
        for name, count in {
            "failed: status 429": counts[1] + counts[2],
            "failed: ConnectError": counts[3],
        }.items()
        if count
    }
