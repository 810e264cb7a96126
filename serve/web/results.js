// The answer: one card a dialogue, its passages as bubbles.
import { dialogueAddress } from "./address.js";
import { avatar, bubble, confidenceOf, dayMark, isLit, meter, when } from "./chat.js";
import { el, icon, ICONS } from "./dom.js";
import { plural, t } from "./i18n.js";

const SHOWN = 3;

// The turns of each span with their neighbors; spans closer than two turns apart share a passage.
export function passages(dialogue) {
  const groups = [];
  for (const turn of dialogue.turns) {
    const last = groups.at(-1);
    if (last && last.at(-1).turn_id + 1 === turn.turn_id) last.push(turn);
    else groups.push([turn]);
  }
  return groups;
}

function best(turns) {
  return Math.max(...turns.map(confidenceOf));
}

export function matchedTurn(turns) {
  return (turns.find((turn) => confidenceOf(turn) === best(turns)) ?? turns[0]).turn_id;
}

export function card(dialogue, state) {
  const groups = passages(dialogue);
  const title = dialogue.title || dialogue.dialogue_id;
  const kept = new Set([...groups].sort((a, b) => best(b) - best(a)).slice(0, SHOWN));
  const body = el("div", { class: "passages" });
  const fill = (all) => {
    body.replaceChildren();
    const marks = dayMarks(dayOf(dialogue));
    let before = null;
    for (const group of groups) {
      if (!all && !kept.has(group)) continue;
      if (before) body.append(gap(before.at(-1).turn_id, group[0].turn_id));
      body.append(passage(dialogue, group, state, marks));
      before = group;
    }
  };
  fill(false);
  const hidden = groups.length - kept.size;
  const more = hidden > 0
    ? el("button", { class: "quiet more", type: "button", onclick: () => { fill(true); more.remove(); } }, plural("more", hidden))
    : null;
  const target = matchedTurn(groups.find((group) => kept.has(group) && best(group) === best(dialogue.turns)) ?? groups[0]);
  return el(
    "article",
    { class: "card", tabindex: "0", "aria-label": title, data: { dialogue: dialogue.dialogue_id, target } },
    el(
      "header",
      {},
      el("div", {}, el("h2", { dir: "auto", title }, title), people(dialogue)),
      meter(dialogue.score, t("score")),
    ),
    body,
    more,
  );
}

// The day of the first match: what the head of the card says.
function dayOf(dialogue) {
  return when(dialogue.turns.find((turn) => isLit(turn) && when(turn.timestamp, "day"))?.timestamp, "day");
}

// What stands before a turn: its day, where it is another one than the day said last.
function dayMarks(said) {
  return (turn) => {
    const day = when(turn.timestamp, "day");
    if (!day || day === said) return [];
    said = day;
    return [dayMark(day)];
  };
}

function people(dialogue) {
  const names = [...new Set(dialogue.turns.map((turn) => turn.speaker))];
  const day = dayOf(dialogue);
  return el(
    "p",
    { class: "about" },
    el("span", { class: "faces" }, ...names.slice(0, 4).map((name) => avatar(name, dialogue.dialogue_id))),
    el("span", { dir: "auto" }, names.slice(0, 3).join(", ") + (names.length > 3 ? " …" : "")),
    day ? el("span", {}, day) : null,
  );
}

function gap(before, after) {
  return el("p", { class: "gap" }, plural("skipped", after - before - 1));
}

function passage(dialogue, turns, state, marks) {
  const lit = turns.filter((turn) => confidenceOf(turn) > 0);
  const [a, b] = [lit[0] ?? turns[0], lit.at(-1) ?? turns.at(-1)].map((turn) => turn.turn_id + 1);
  const bubbles = turns.flatMap((turn, i) => [...marks(turn), bubble(turn, turns[i - 1], dialogue.dialogue_id, { cut: true })]);
  const target = matchedTurn(turns);
  const link = el(
    "a",
    { class: "open", href: dialogueAddress(dialogue.dialogue_id, target, state), data: { open: dialogue.dialogue_id, turn: target } },
    t("open"),
    icon(ICONS.open),
  );
  return el(
    "section",
    { class: "passage" },
    ...bubbles,
    el("footer", {}, el("span", {}, t(a === b ? "turn_one" : "turn_other", { a, b })), link),
  );
}

export function skeletons(count = 3) {
  return Array.from({ length: count }, () =>
    el("div", { class: "card skeleton", "aria-hidden": "true" }, el("i"), el("i"), el("i")),
  );
}
