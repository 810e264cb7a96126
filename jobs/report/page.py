"""A report as Markdown and as one HTML page; the page opens without a network or a script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jobs.report.shown import NOT_RUN, ShownTable

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1500px;padding:0 1rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}
th,td{border:1px solid #8886;padding:.25rem .5rem;text-align:right;white-space:nowrap}
th{background:#8882;position:sticky;top:0}
td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}td.paper{background:#3b82f61a}
td.none{opacity:.55}img{max-width:100%;background:#fff}nav a{margin-right:1rem}
.note{opacity:.75;font-size:13px}
"""


def markdown(report: Mapping[str, Any], tables: Sequence[ShownTable], plots: Sequence[str]) -> str:
    """The report as Markdown."""
    lines = [f"# Evaluation report: {report['name']}", "", *_facts(report), ""]
    lines += [f"- {line}" for line in troubles(report)] or ["Every system ran on every set."]
    lines += ["", "Worst queries: [failures.html](failures.html).", ""]
    lines += [table.markdown() for table in tables]
    lines += ["## Plots", "", *(f"![{name}](plots/{name})\n" for name in plots)]
    return "\n".join(lines)


def html(
    report: Mapping[str, Any], tables: Sequence[ShownTable], plots: Sequence[str], folder: Path
) -> str:
    """The report as one page, its plots inside; everything typed is escaped."""
    links = "".join(
        f'<a href="#t-{escape(table.number)}">{escape(table.heading)}</a>' for table in tables
    )
    body = [
        f"<h1>Evaluation report: {escape(report['name'])}</h1>",
        *(f"<p>{escape(line)}</p>" for line in _facts(report) if line),
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in troubles(report)) + "</ul>",
        '<p><a href="failures.html">Worst queries</a></p>',
        f"<nav>{links}</nav>",
        *map(_table, tables),
        "<h2>Plots</h2>",
    ]
    for name in plots:
        data = base64.b64encode((folder / name).read_bytes()).decode()
        body.append(f'<p><img alt="{escape(name)}" src="data:image/png;base64,{data}"></p>')
    return document(f"Report {report['name']}", "\n".join(body), STYLE)


def document(title: str, body: str, style: str) -> str:
    """An HTML page that loads nothing and runs nothing; `title` is escaped here."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def troubles(report: Mapping[str, Any]) -> list[str]:
    """Cells that did not run, by reason, and what systems counted while they ran."""
    lines: list[str] = []
    reasons: dict[str, dict[str, list[str]]] = {}
    for name, cells in report["results"].items():
        for system, cell in cells.items():
            if cell["not_run"]:
                reasons.setdefault(cell["not_run"], {}).setdefault(name, []).append(system)
            counted = ", ".join(f"{n} {reason}" for reason, n in cell["counts"].items())
            if counted:
                lines.append(f"{system} on {name}: {counted}")
    for reason, places in reasons.items():
        by_systems: dict[tuple[str, ...], list[str]] = {}
        for name, systems in places.items():
            by_systems.setdefault(tuple(systems), []).append(name)
        for systems, names in by_systems.items():
            lines.append(f"{', '.join(systems)} on {', '.join(names)}: not run, {reason}")
    return lines


def _facts(report: Mapping[str, Any]) -> list[str]:
    made = f"Made {report['made']} at commit {report['commit']} on {report['machine']}."
    return [f"Command: {report['command']}", "", made]


def _table(table: ShownTable) -> str:
    paper = [column.startswith("paper") for column in table.columns]
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = []
    for row in table.rows:
        cells = []
        for text, printed in zip(row, paper, strict=True):
            kind = "paper" if printed else "none" if text == NOT_RUN else ""
            cells.append(
                f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h2 id="t-{escape(table.number)}">{escape(table.heading)}</h2><div class="wide"><table>'
        f"<tr>{head}</tr>{''.join(rows)}</table></div>{note}"
    )
