// One whole dialogue: pages in both directions, matches lit, the place in the address.
import * as api from "./api.js";
import { dialogueAddress, searchAddress } from "./address.js";
import { avatar, bubble, dayMark, follows, isLit, join, when } from "./chat.js";
import { $, el, icon, ICONS, toast } from "./dom.js";
import { plural, t } from "./i18n.js";
import { reason } from "./notes.js";
import { bring, follow, settle } from "./place.js";

const PAGE = 40;
let view = null;

// Opens a dialogue around a turn. `lit`: turns of an answer (matched) by turn_id, or null.
export async function open(id, turn, state, lit) {
  close();
  const mine = { id, state, lit: lit ?? new Map(), start: 0, end: 0, busy: false, abort: new AbortController() };
  view = mine;
  $("reader").hidden = false;
  $("reader").replaceChildren(el("div", { class: "thread" }, ...[1, 2, 3].map(() => el("div", { class: "card skeleton" }, el("i"), el("i")))));
  const first = await api.page(id, { around: turn, limit: PAGE }, mine.abort.signal).catch((error) => {
    if (error.status === 422) return api.page(id, { limit: PAGE }, mine.abort.signal);
    throw error;
  });
  if (view !== mine) return;
  mine.total = first.num_turns;
  draw(first);
  show(first, "after");
  goTo(Math.min(turn, mine.end - 1));
  if (!lit && state.query) light(mine);
}

export function close() {
  if (!view) return;
  view.abort.abort();
  view.watcher?.disconnect();
  view = null;
  $("reader").hidden = true;
  $("reader").replaceChildren();
}

export const isOpen = () => view !== null;

// A link opened afresh: the search inside this one dialogue lights its matches.
async function light(mine) {
  const body = { query: mine.state.query, filters: { dialogue_ids: [mine.id] }, limit: 1 };
  const answer = await api.search(body, mine.abort.signal).catch(() => null);
  if (view !== mine || !answer?.dialogues.length) return;
  for (const turn of answer.dialogues[0].turns) if (isLit(turn)) mine.lit.set(turn.turn_id, turn);
  for (const node of mine.thread.querySelectorAll(".turn")) {
    const turn = mine.lit.get(Number(node.dataset.turn));
    if (turn) node.replaceWith(make(turn, mine.turns.get(turn.turn_id - 1)));
  }
  outline(mine.outlined);
  counter();
}

function draw(first) {
  document.title = `${first.title || first.dialogue_id} · ${t("brand")}`;
  const mine = view;
  const back = searchAddress(mine.state);
  mine.turns = new Map();
  mine.thread = el("div", { class: "thread" });
  mine.counter = el("span", { "aria-live": "polite" });
  mine.jumps = el(
    "div",
    { class: "jumps", hidden: true },
    el("button", { class: "round", type: "button", "aria-label": t("previous_match"), onclick: () => jump(-1) }, icon(ICONS.up)),
    mine.counter,
    el("button", { class: "round", type: "button", "aria-label": t("next_match"), onclick: () => jump(1) }, icon(ICONS.down)),
  );
  mine.above = el("div", { class: "edge" });
  mine.below = el("div", { class: "edge" });
  const faces = first.participants.map((name) => avatar(name, mine.id)).slice(0, 5);
  $("reader").replaceChildren(
    el(
      "header",
      { class: "reader-bar" },
      el("a", { class: "round", href: back, id: "back", "aria-label": t(mine.state.query ? "back" : "back_home"), title: t(mine.state.query ? "back" : "back_home") }, icon(ICONS.back)),
      el(
        "div",
        { class: "reader-title" },
        el("h1", { tabindex: "-1", dir: "auto" }, first.title || first.dialogue_id),
        el("p", { class: "about" }, el("span", { class: "faces" }, ...faces), el("span", {}, `${plural("people_count", first.participants.length)} · ${plural("num_turns", first.num_turns)}`)),
      ),
      mine.jumps,
      el("button", { class: "quiet copy", type: "button", onclick: copy }, icon(ICONS.link), el("span", {}, t("copy"))),
    ),
    mine.above,
    mine.thread,
    mine.below,
  );
  mine.watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) load(entry.target === mine.above ? "before" : "after");
      }
    },
    { rootMargin: "400px 0px" },
  );
  mine.rest = follow(mine.thread, arrive, mine.abort.signal);
}

function make(turn, previous) {
  const mine = view;
  const here = turn.turn_id;
  const link = {
    href: dialogueAddress(mine.id, here, mine.state),
    follow: (event) => {
      if (event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      outline(here);
      arrive(here);
      mine.rest();
    },
  };
  return bubble(mine.lit.get(here) ?? turn, previous, mine.id, { id: `turn-${here}`, link });
}

// The day of a turn, where it is another one than that of the turns before it.
function newDay(turn) {
  const dayOf = (id) => when(view.turns.get(id)?.timestamp, "day");
  const day = dayOf(turn.turn_id);
  if (!day) return null;
  let before = turn.turn_id - 1;
  while (view.turns.has(before) && !dayOf(before)) before -= 1;
  return day === dayOf(before) ? null : day;
}

function show(page, side) {
  const mine = view;
  for (const turn of page.turns) mine.turns.set(turn.turn_id, turn);
  const nodes = [];
  for (const turn of page.turns) {
    const day = newDay(turn);
    if (day) nodes.push(dayMark(day));
    nodes.push(make(turn, mine.turns.get(turn.turn_id - 1)));
  }
  if (side === "before") {
    mine.thread.prepend(...nodes);
    sew(mine.turns.get(page.start + page.turns.length));
  } else mine.thread.append(...nodes);
  mine.start = mine.turns.size === page.turns.length ? page.start : Math.min(mine.start, page.start);
  mine.end = Math.max(mine.end, page.start + page.turns.length);
  edges();
}

// The page above may hold the day and the name that stood over what came first until now.
function sew(turn) {
  if (!turn) return;
  const node = document.getElementById(`turn-${turn.turn_id}`);
  const label = node.previousElementSibling;
  if (label?.matches(".day") && !newDay(turn)) label.remove();
  if (follows(turn, view.turns.get(turn.turn_id - 1))) join(node);
}

function edges() {
  const mine = view;
  mine.watcher.disconnect();
  const rows = [
    [mine.above, mine.start > 0, "earlier", "beginning", "before"],
    [mine.below, mine.end < mine.total, "later", "end", "after"],
  ];
  for (const [node, more, button, over, side] of rows) {
    node.replaceChildren(
      more
        ? el("button", { class: "quiet", type: "button", onclick: () => load(side) }, t(button))
        : el("span", {}, t(over)),
    );
    if (more) mine.watcher.observe(node);
  }
  counter();
}

async function load(side) {
  const mine = view;
  if (!mine || mine.busy) return;
  const start = side === "before" ? Math.max(0, mine.start - PAGE) : mine.end;
  const limit = side === "before" ? mine.start - start : PAGE;
  if (limit <= 0 || start >= mine.total) return;
  mine.busy = true;
  try {
    const page = await api.page(mine.id, { start, limit }, mine.abort.signal);
    if (view !== mine) return;
    if (side === "before") grow(mine, page);
    else show(page, side);
  } catch (error) {
    if (error.name !== "AbortError") toast(reason(error));
  } finally {
    mine.busy = false;
  }
}

// Puts a page above without moving what is being read; the browser's own anchoring rests meanwhile.
function grow(mine, page) {
  const anchor = mine.thread.querySelector(".turn");
  const before = anchor.getBoundingClientRect().top;
  mine.thread.classList.add("growing");
  show(page, "before");
  window.scrollBy({ top: anchor.getBoundingClientRect().top - before, behavior: "instant" });
  requestAnimationFrame(() => mine.thread.classList.remove("growing"));
}

function outline(turn) {
  for (const node of view.thread.querySelectorAll(".target")) node.classList.remove("target");
  const node = document.getElementById(`turn-${turn}`);
  node?.classList.add("target");
  view.outlined = turn;
  return node;
}

// The turn being read: matches are counted from it, the address and a copied link lead to it.
function arrive(turn) {
  view.at = turn;
  counter();
  history.replaceState(history.state, "", dialogueAddress(view.id, turn, view.state));
}

function goTo(turn) {
  const node = outline(turn);
  view.at = turn;
  counter();
  if (node) {
    bring(node);
    settle(view.thread, node);
  }
  view.thread.parentElement.querySelector("h1").focus({ preventScroll: true });
}

function matches() {
  return [...view.lit.keys()].sort((a, b) => a - b);
}

function counter() {
  const all = matches();
  view.jumps.hidden = all.length === 0;
  const place = all.filter((turn) => turn <= (view.at ?? 0)).length;
  view.counter.textContent = t("of_matches", { i: Math.max(1, place), n: all.length });
}

async function jump(step) {
  const mine = view;
  const all = matches();
  const next = step > 0 ? all.find((turn) => turn > mine.at) : all.filter((turn) => turn < mine.at).at(-1);
  if (next === undefined) return;
  while (view === mine && !mine.turns.has(next)) {
    const before = mine.turns.size;
    await load(next < mine.start ? "before" : "after");
    if (mine.turns.size === before && !mine.busy) return;
    if (mine.busy) await new Promise((done) => setTimeout(done, 50));
  }
  if (view !== mine) return;
  const node = outline(next);
  if (node) bring(node);
  arrive(next);
  mine.rest();
}

async function copy() {
  const address = new URL(dialogueAddress(view.id, view.at, view.state), location.origin).href;
  try {
    await navigator.clipboard.writeText(address);
    toast(t("copied"));
  } catch {
    toast(t("copy_failed"));
  }
}
