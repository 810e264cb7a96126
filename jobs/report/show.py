"""What `ffrs report` and `ffrs judge` print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ffr_core.errors import InputError, NotFoundError


def report_text(run: Path, readme: bool = False) -> str:
    """The report as Markdown, or the README's table.

    Raises:
        NotFoundError: No report in that folder.
    """
    path = run / "report.json"
    if not path.is_file():
        raise NotFoundError(f"{run} holds no report.json; `python -m jobs.compare` makes one")
    if readme:
        from jobs.report.tables import readme_table

        return readme_table(json.loads(path.read_text(encoding="utf-8")))
    return (run / "report.md").read_text(encoding="utf-8")


def open_report(run: Path) -> None:
    """Open the page in the browser of this machine.

    Raises:
        InputError: No browser.
    """
    import webbrowser

    page = (run / "report.html").resolve()
    if not webbrowser.open(page.as_uri()):
        raise InputError(f"no browser opens {page}; open it yourself")


def judge(
    run: Path,
    set_name: str | None,
    *,
    limit: int | None = None,
    engine: Path | None = None,
    prompts: Path | None = None,
    read: Sequence[Path] = (),
) -> str:
    """Read filled sheets, or ask a model, or write sheets; says what came of it.

    Raises:
        InputError: Neither a set nor sheets are given.
    """
    from jobs.report.judge_job import JudgeConfig, ask_judge, read_filled, write_sheets

    if read:
        return json.dumps(read_filled(run, read), ensure_ascii=False, indent=1)
    if set_name is None:
        raise InputError("give --set NAME to write sheets or to ask --engine, or --read SHEET.csv")
    if engine is not None:
        found = ask_judge(run, set_name, JudgeConfig.load(engine), prompts, limit)
        return json.dumps(found, ensure_ascii=False, indent=1)
    written = "\n".join(map(str, write_sheets(run, set_name, limit)))
    return (
        f"{written}\nGive raters a sheet, keep key.json; then `ffrs judge {run} --read SHEET.csv`"
    )
