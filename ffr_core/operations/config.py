"""The `[retention]` and `[logs]` tables of a profile."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ffr_core.config import Config

Days = Annotated[int, Field(ge=0, le=500_000)]
"""A span that the calendar holds."""


class RetentionConfig(Config):
    """`[retention]`: how long dialogues are kept; `ffrs expire` removes older ones.

    Days count from a dialogue's last timestamp or, where it has none, from the time at which its
    content was first indexed.
    """

    days: Days = 0
    """Days for all tenants that are not named below; 0 keeps dialogues forever."""
    tenants: dict[str, Days] = Field(default_factory=dict)
    """Tenant -> days; 0 keeps its dialogues forever."""

    def days_of(self, tenant: str) -> int:
        """Days for one tenant; 0: forever."""
        return self.tenants.get(tenant, self.days)


class LogConfig(Config):
    """`[logs]`: what the service and the index job say while they run."""

    format: Literal["text", "json"] = "text"
    """`json`: one object a line, in the service with request id and trace id."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    """Least severe messages of our own packages that `json` writes."""
