"""The paper's numbers, as package data: `paper_tables.json`, per cent unless a unit is given."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from ffr_core.errors import ConfigError

DETAIL = {"MLDR": "3", "WeChat": "4", "WeChat-en": "14"}
"""The table that shows a set of the paper in detail."""


@cache
def paper_tables() -> dict[str, Any]:
    """Table number -> `{title, rows: {row name: numbers}}`, and `source`."""
    text = (resources.files("jobs") / "report" / "paper_tables.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables


def paper_rows(number: str) -> dict[str, Any]:
    """Row name -> numbers of one table."""
    rows: dict[str, Any] = paper_tables()[number]["rows"]
    return rows


def paper_row(chosen: dict[str, str], number: str) -> str | None:
    """The row that a system's `paper_row` names in a table; None when it names none there."""
    name = chosen.get(number, chosen.get(""))
    return name if name in paper_rows(number) else None


def check_rows(chosen: dict[str, str], system: str) -> None:
    """Refuse names that no table has.

    Raises:
        ConfigError: An unknown table or row.
    """
    for number, name in chosen.items():
        tables = [number] if number else [n for n in paper_tables() if n != "source"]
        if any(n not in paper_tables() for n in tables) or not any(
            name in paper_rows(n) for n in tables
        ):
            raise ConfigError(
                f"system {system!r}: paper_row {number!r} = {name!r} is no row of the paper;"
                " jobs/report/paper_tables.json lists them"
            )
