"""What `/openapi.json` says beside the routes and models: keys, and the limits of this service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Security
from fastapi.security import APIKeyHeader, HTTPBearer

if TYPE_CHECKING:
    from ffr_core.serving import ServeConfig

KEY_SCHEMES = [
    Security(scheme)
    for scheme in (
        HTTPBearer(auto_error=False, description="An API key, if the service has keys."),
        APIKeyHeader(name="X-API-Key", auto_error=False, description="The same, another way."),
    )
]
"""For the documentation; the guard reads the key."""


class DocumentedApp(FastAPI):
    """An application whose document names the limits that its profile sets."""

    def __init__(self, config: ServeConfig, **options: Any) -> None:
        """Keep the limits; `options` are FastAPI's."""
        super().__init__(**options)
        self._config = config

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            add_limits(super().openapi(), self._config)
        return super().openapi()


def add_limits(document: dict[str, Any], config: ServeConfig) -> None:
    """Write the maxima of `limit` and `num_candidates` into a document."""
    search = document["components"]["schemas"]["SearchRequest"]["properties"]
    search["limit"]["maximum"] = config.max_dialogues
    search["num_candidates"]["anyOf"][0]["maximum"] = config.max_candidates
    page = document["paths"]["/v1/dialogues/{dialogue_id}"]["get"]["parameters"]
    for parameter in page:
        if parameter["name"] == "limit":
            parameter["schema"]["maximum"] = config.max_page
