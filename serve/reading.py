"""Reading one dialogue: its pages and its pictures, by key or by signed address."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from serve.audit import note
from serve.auth import Principal, Scope
from serve.gateway import Gateway
from serve.guards import missing_key
from serve.problems import Problem

DialogueId = Annotated[
    str,
    Path(
        max_length=1024,
        description="The id, percent-encoded as one path segment (`a/b #1` is `a%2Fb%20%231`);"
        " literal slashes work too, except where the id would end in `/images/NUMBER`.",
    ),
]


def caller(request: Request, scope: Scope) -> Principal:
    """Who calls; Problem when the key is missing or lacks a scope."""
    principal: Principal | None = request.state.principal
    if principal is None:
        raise missing_key()
    if scope not in principal.scopes:
        raise Problem(403, f"this key does not have the scope {scope!r}; use one that has it")
    return principal


async def read_page(
    gateway: Gateway,
    request: Request,
    dialogue_id: str,
    around: int | None,
    start: int | None,
    limit: int,
) -> dict[str, Any]:
    """One page of a dialogue; Problem for a turn that is not there."""
    tenant = caller(request, "search").tenant
    if limit > gateway.config.max_page:
        raise Problem(422, f"limit {limit} is too many; use 1 to {gateway.config.max_page}")
    dialogue = await gateway.dialogue(tenant, dialogue_id)
    num_turns = len(dialogue.turns)
    note(request, dialogue_ids=[dialogue_id])
    for name, turn_id in (("around", around), ("start", start)):
        if turn_id is not None and turn_id >= num_turns:
            raise Problem(
                422, f"{name} {turn_id} is beyond the last turn; use 0 to {num_turns - 1}"
            )
    if start is None:
        start = max(0, min((around or 0) - limit // 2, num_turns - limit))
    return gateway.page_record(tenant, dialogue, start, limit)


def add_images(router: APIRouter, gateway: Gateway) -> None:
    """Add the route of pictures; it must stand before the route of dialogues."""

    @router.head(
        "/dialogues/{dialogue_id:path}/images/{image_id}",
        response_model=None,
        include_in_schema=False,
    )
    @router.get(
        "/dialogues/{dialogue_id:path}/images/{image_id}",
        tags=["dialogues"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}},
        openapi_extra={"security": [{}]},
        response_model=None,
    )
    async def image(
        request: Request,
        dialogue_id: DialogueId,
        image_id: Annotated[str, Path(description="Number of the picture, from 0.")],
        t: Annotated[str | None, Query(description="Part of a signed address.")] = None,
        e: Annotated[int | None, Query(description="Part of a signed address.")] = None,
        s: Annotated[str | None, Query(description="Part of a signed address.")] = None,
    ) -> Response:
        """A picture as a fresh JPEG; takes a signed address from an answer, or a key."""
        whole = single_segment(request)
        if whole is None and not is_number(image_id):
            whole = f"{dialogue_id}/images/{image_id}"
        if whole is not None:
            page = await read_page(gateway, request, whole, *_page_numbers(request))
            return JSONResponse(page)
        number = int(image_id)
        tenant = _image_tenant(gateway, request, dialogue_id, number, (t, e, s))
        note(request, dialogue_ids=[dialogue_id], image_id=number, tenant=tenant)
        data = await gateway.image(tenant, dialogue_id, number)
        headers = {"cache-control": f"private, max-age={gateway.config.image_url_lifetime}"}
        return Response(data, media_type="image/jpeg", headers=headers)


def _image_tenant(
    gateway: Gateway,
    request: Request,
    dialogue_id: str,
    image_id: int,
    signed: tuple[str | None, int | None, str | None],
) -> str:
    tenant, expires, signature = signed
    if tenant is not None and expires is not None and signature is not None:
        if gateway.signer.check(tenant, dialogue_id, image_id, expires, signature):
            return tenant
        raise Problem(403, "the address of this picture has expired; ask again for a fresh one")
    return caller(request, "search").tenant


def single_segment(request: Request) -> str | None:
    """The id, when the address holds it as one percent-encoded segment and nothing after it.

    Then `a%2Fimages%2F3` is a dialogue, not picture 3 of `a`.
    """
    raw = request.scope.get("raw_path") or b""
    segments = raw.split(b"?")[0].split(b"/v1/dialogues/", 1)[-1].split(b"/")
    return unquote(segments[0].decode("ascii", "replace")) if len(segments) == 1 else None


def is_number(text: str) -> bool:
    """Whether a text is a count of reasonable size."""
    return text.isascii() and text.isdigit() and len(text) <= 9


def _page_numbers(request: Request) -> tuple[int | None, int | None, int]:
    def number(name: str) -> int | None:
        text = request.query_params.get(name)
        if text is None:
            return None
        if not is_number(text):
            raise Problem(422, f"{name}: expected a number from 0")
        return int(text)

    return number("around"), number("start"), number("limit") or 50
