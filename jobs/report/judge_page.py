"""A sheet for raters as one HTML page: it works without a network and saves the CSV sheet.

Everything typed stands escaped in the page; the script reads the form only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from ffr_core.types import Dialogue
from jobs.report.judging import CHOICES, COLUMNS, LIKERT, Item, answer_text

SCRIPT = """
const q = (text) => '"' + String(text).replaceAll('"', '""') + '"';
document.getElementById('save').addEventListener('click', () => {
  const rater = document.getElementById('rater').value.trim();
  if (!rater) { alert('Write your name first.'); return; }
  const rows = [__COLUMNS__];
  for (const box of document.querySelectorAll('[data-answer]')) {
    const score = (name) => box.querySelector(`input[data-score="${name}"]:checked`)?.value ?? '';
    const best = (name) => box.querySelector(`input[data-best="${name}"]`).checked ? 'x' : '';
    rows.push([box.dataset.item, box.dataset.answer, '', '', rater,
      ...__LIKERT__.map(score), ...__CHOICES__.map(best)]);
  }
  const text = rows.map((row) => row.map(q).join(',')).join('\\r\\n') + '\\r\\n';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  link.download = `judging-${rater.replace(/[^\\w-]+/g, '_')}.csv`;
  link.click();
});
"""
STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1000px;padding:0 1rem}
section{border-top:2px solid #8886;margin-top:2rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8881;padding:.6rem}
fieldset{margin:.8rem 0}label{margin-right:.8rem}.long{max-height:20rem;overflow:auto}
button{font-size:1rem;padding:.4rem 1rem}
"""
HELP = """Rate each answer from 1 (very poor) to 5 (excellent). Relevance: every shown turn and
image reflects what the query asks. Coverage: the answer holds the main content that the query asks
for.
Then mark the best answers for coverage, relevance and coherence (read alone, the answer flows
naturally); mark several only when they are equal and best."""


def html_sheet(items: Sequence[Item], dialogues: Mapping[str, Dialogue]) -> str:
    """The page; `read_sheets` reads what it saves."""
    body = "\n".join(_section(number, item, dialogues) for number, item in enumerate(items, 1))
    script = (
        SCRIPT.replace("__COLUMNS__", str(list(COLUMNS)))
        .replace("__LIKERT__", str(list(LIKERT)))
        .replace("__CHOICES__", str(list(CHOICES)))
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>Judging sheet</title><style>{STYLE}</style></head><body>"
        f'<h1>Judging sheet</h1><p>{HELP}</p><label>Your name <input id="rater"></label>'
        f'<button id="save">Save my ratings</button>\n{body}'
        f"<script>{script}</script></body></html>\n"
    )


def _section(number: int, item: Item, dialogues: Mapping[str, Dialogue]) -> str:
    names = dict.fromkeys(name for answer in item.answers for name, _ in answer.found)
    whole = "".join(
        f"<details><summary>Whole conversation: {escape(dialogues[n].title or n)}</summary>"
        f'<pre class="long">{escape(_whole(dialogues[n]))}</pre></details>'
        for n in names
    )
    boxes = []
    for answer in item.answers:
        name = f"{item.item_id}-{answer.letter}"
        scores = "".join(
            f"<div>{criterion}: "
            + "".join(
                f'<label><input type="radio" name="{name}-{criterion}"'
                f' data-score="{criterion}" value="{value}">{value}</label>'
                for value in range(1, 6)
            )
            + "</div>"
            for criterion in LIKERT
        )
        best = "".join(
            f'<label><input type="checkbox" data-best="{criterion}">best {criterion}</label>'
            for criterion in CHOICES
        )
        boxes.append(
            f'<fieldset data-item="{item.item_id}" data-answer="{answer.letter}">'
            f"<legend>Answer {answer.letter}</legend>"
            f"<pre>{escape(answer_text(answer, dialogues))}</pre>"
            f"{scores}<div>{best}</div></fieldset>"
        )
    return f"<section><h2>{number}. {escape(item.query)}</h2>{whole}{''.join(boxes)}</section>"


def _whole(dialogue: Dialogue) -> str:
    lines = []
    for turn in dialogue.turns:
        shown = [
            f"[image {image.image_id}: {image.caption or image.text or 'no caption'}]"
            for image in turn.images
        ]
        lines.append(" ".join([f"{turn.turn_id}. {turn.speaker}: {turn.text}", *shown]))
    return "\n".join(lines)
