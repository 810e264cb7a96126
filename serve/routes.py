"""The API under /v1. The tenant always comes from the key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import StreamingResponse

from serve.administration import add_administration
from serve.audit import note
from serve.documentation import KEY_SCHEMES
from serve.gateway import Gateway
from serve.problems import problem_of
from serve.reading import DialogueId, add_images, caller, read_page
from serve.schemas import (
    AddResponse,
    DeleteResponse,
    DialogueIn,
    ErrorResponse,
    PageResponse,
    SearchRequest,
    SearchResponse,
    StatsResponse,
    filters_record,
)
from serve.search import Progress, SearchPlan

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse, "description": "One sentence about what is wrong."},
    429: {"model": ErrorResponse, "description": "The service is full; see Retry-After."},
    "5XX": {"model": ErrorResponse, "description": "One sentence about what failed."},
    503: {"model": ErrorResponse, "description": "A part of the service restarts; try again."},
    504: {"model": ErrorResponse, "description": "The service took too long; try again."},
}


def build_router(gateway: Gateway) -> APIRouter:
    """All routes, bound to one gateway."""
    router = APIRouter(prefix="/v1", responses=ERRORS, dependencies=KEY_SCHEMES)
    for add_routes in (_add_search, add_images, _add_dialogues, add_administration):
        add_routes(router, gateway)

    @router.get("/stats", response_model=StatsResponse, tags=["dialogues"])
    async def stats(request: Request) -> dict[str, Any]:
        """Count your own dialogues."""
        counts = asdict(await gateway.stats(caller(request, "search").tenant))
        return {name: counts[name] for name in StatsResponse.model_fields}

    return router


def _add_search(router: APIRouter, gateway: Gateway) -> None:
    def prepare(request: Request, body: SearchRequest) -> tuple[SearchPlan, int]:
        tenant = caller(request, "search").tenant
        plan = gateway.plan(tenant, body.query, body.filters.to_filters(), body.num_candidates)
        return plan, gateway.check_limit(body.limit)

    @router.post(
        "/search",
        response_model=SearchResponse,
        response_model_exclude_unset=True,
        tags=["search"],
    )
    async def search(request: Request, body: SearchRequest) -> dict[str, Any]:
        """Find the turns and images that answer a query, best dialogue first."""
        plan, limit = prepare(request, body)
        progress = Progress()
        async for _ in gateway.searcher.run(plan, progress):
            pass
        gateway.metrics.searches.labels("partial" if progress.partial else "complete").inc()
        gateway.count_candidates(progress)
        matched = progress.ranked()
        best = matched[:limit]
        note(request, dialogue_ids=[found.dialogue.dialogue_id for found in best])
        note(request, candidates=progress.read)
        return {
            **_summary(plan, progress, len(matched)),
            "dialogues": [gateway.found_record(plan.tenant, found) for found in best],
        }

    @router.post(
        "/search/stream",
        tags=["search"],
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": STREAM}},
    )
    async def stream(request: Request, body: SearchRequest) -> StreamingResponse:
        """The same search as server-sent events, each dialogue as soon as it is read."""
        plan, limit = prepare(request, body)
        return StreamingResponse(
            _events(gateway, request, plan, limit),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )


STREAM = (
    "`event: dialogue`: a dialogue as soon as it is among the `limit` best so far;"
    " `event: done`: `{query, filters, partial, took_ms, total, adapter, order}`, where `order` has"
    " the ids of the answer, best first, all of them sent before; `event: error`: `{code,"
    " message}`, after which nothing comes."
)


async def _events(
    gateway: Gateway, request: Request, plan: SearchPlan, limit: int
) -> AsyncIterator[str]:
    progress = Progress()
    outcome = "broken_off"
    events = gateway.searcher.run(plan, progress)
    try:
        async for _ in events:
            for found in progress.news(limit):
                note(request, dialogue_ids=[found.dialogue.dialogue_id])
                yield sse("dialogue", gateway.found_record(plan.tenant, found))
        outcome = "partial" if progress.partial else "complete"
        order = [found.answer.dialogue_id for found in progress.ranked()]
        yield sse("done", {**_summary(plan, progress, len(order)), "order": order[:limit]})
    except Exception as error:
        outcome = "failed"
        yield sse("error", problem_of(error, gateway.config.retry_after).body["error"])
    finally:
        gateway.metrics.searches.labels(outcome).inc()
        gateway.count_candidates(progress)
        note(request, candidates=progress.read)
        await events.aclose()


def _summary(plan: SearchPlan, progress: Progress, total: int) -> dict[str, Any]:
    """What an answer says about itself."""
    version = progress.adapter
    return {
        "query": plan.query,
        "filters": filters_record(plan.filters),
        "partial": progress.partial,
        "took_ms": progress.took_ms,
        "total": total,
        **({"adapter": version.name} if version else {}),
    }


def sse(event: str, data: dict[str, Any]) -> str:
    """One server-sent event; JSON holds no line breaks, so that data stays one line."""
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _add_dialogues(router: APIRouter, gateway: Gateway) -> None:
    @router.post(
        "/dialogues",
        response_model=AddResponse,
        tags=["dialogues"],
        status_code=201,
        responses={200: {"model": AddResponse, "description": "Replaced, or unchanged."}},
    )
    async def add(
        request: Request,
        response: Response,
        body: Annotated[DialogueIn, Body()],
        restore: Annotated[bool, Query(description="Bring a deleted dialogue back.")] = False,
    ) -> dict[str, Any]:
        """Add one dialogue or replace the one of that id: 201 when it is new, else 200."""
        principal = caller(request, "write")
        note(request, dialogue_ids=[body.dialogue_id])
        added = await gateway.add(principal, body.record(), restore)
        note(request, change=added.change)
        response.status_code = 201 if added.change == "indexed" else 200
        return {"dialogue_id": body.dialogue_id, **asdict(added)}

    @router.get("/dialogues/{dialogue_id:path}", response_model=PageResponse, tags=["dialogues"])
    async def read(
        request: Request,
        dialogue_id: DialogueId,
        around: Annotated[int | None, Query(ge=0, description="Turn in the middle.")] = None,
        start: Annotated[int | None, Query(ge=0, description="First turn, instead.")] = None,
        limit: Annotated[int, Query(ge=1, description="Turns, at most.")] = 50,
    ) -> dict[str, Any]:
        """Read some turns of a dialogue."""
        return await read_page(gateway, request, dialogue_id, around, start, limit)

    @router.delete(
        "/dialogues/{dialogue_id:path}", response_model=DeleteResponse, tags=["dialogues"]
    )
    async def delete(request: Request, dialogue_id: DialogueId) -> dict[str, Any]:
        """Remove a dialogue from index and storage; adding it again needs `restore=true`."""
        tenant = caller(request, "write").tenant
        note(request, dialogue_ids=[dialogue_id])
        await gateway.delete(tenant, dialogue_id)
        return {"dialogue_id": dialogue_id, "deleted": True}
