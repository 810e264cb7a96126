// The search that the address asks for: cards as they are read, the best first, more on demand.
import * as address from "./address.js";
import * as api from "./api.js";
import { isLit } from "./chat.js";
import { $, el } from "./dom.js";
import * as filters from "./filters.js";
import { plural, t } from "./i18n.js";
import { note, reason, welcome } from "./notes.js";
import { card, skeletons } from "./results.js";

// Cards shown at first and added by each "Show more".
const STEP = 10;
// Dialogues asked for; what is beyond the cards on screen costs the service nothing.
const LIMIT = 50;

const answer = {};
const hooks = {};
let running = null;
forget();

// `keyNeeded()`, `ask(text)` and `swapDays()` are what the page does when the user wants it.
export function start(given) {
  Object.assign(hooks, given);
}

export function forget() {
  Object.assign(answer, { asked: null, found: new Map(), order: null, done: null, error: null, complete: false, shown: STEP });
}

export function stop() {
  running?.abort();
}

export const holds = (state) => answer.asked === JSON.stringify(state);

export async function run(state) {
  stop();
  const mine = (running = new AbortController());
  forget();
  answer.asked = JSON.stringify(state);
  if (address.daysCross(state)) answer.error = { code: "days_cross" };
  draw(state);
  if (!state.query || answer.error) return;
  const take = (dialogue) => {
    if (running !== mine) return;
    answer.found.set(dialogue.dialogue_id, dialogue);
    filters.offer(dialogue.turns.map((turn) => turn.speaker));
    draw(state);
  };
  try {
    const { done, limit } = await ask(state, take, mine.signal);
    if (running !== mine) return;
    Object.assign(answer, { order: done.order, done, complete: done.order.length < limit });
  } catch (error) {
    if (error.name === "AbortError" || running !== mine) return;
    if (error.status === 401) return hooks.keyNeeded();
    answer.error = error;
  }
  draw(state);
}

// A service set up for fewer dialogues refuses the larger number, not the search.
async function ask(state, take, signal) {
  const once = async (limit) => ({ done: await api.stream(address.searchBody(state, limit), take, signal), limit });
  return once(LIMIT).catch((error) => {
    if (error.status === 422) return once(STEP);
    throw error;
  });
}

function ranked() {
  const better = (a, b) => b.score - a.score || (a.dialogue_id < b.dialogue_id ? -1 : 1);
  const ids = answer.order ?? [...answer.found.values()].sort(better).map((dialogue) => dialogue.dialogue_id);
  return ids.map((id) => answer.found.get(id)).filter(Boolean);
}

// Matched turns of a dialogue, when the answer on screen is the one the address asks for.
export function known(id, state) {
  const found = answer.found.get(id);
  if (!found || !holds(state)) return null;
  return new Map(found.turns.filter(isLit).map((turn) => [turn.turn_id, turn]));
}

// A dialogue that is no longer there leaves the answer.
export function drop(id) {
  answer.found.delete(id);
}

export function clear() {
  $("results").replaceChildren();
  $("status").textContent = "";
}

export function draw(state) {
  const waiting = Boolean(state.query && !answer.done && !answer.error);
  const all = ranked();
  const list = all.slice(0, answer.shown);
  const focused = document.activeElement?.closest?.(".card")?.dataset.dialogue;
  const box = $("results");
  box.setAttribute("aria-busy", String(waiting));
  const cards = new Map([...box.querySelectorAll(".card[data-dialogue]")].map((node) => [node.dataset.dialogue, node]));
  const keep = cards.size && box.dataset.asked === answer.asked;
  box.dataset.asked = answer.asked;
  box.replaceChildren(...list.map((dialogue) => (keep && cards.get(dialogue.dialogue_id)) || card(dialogue, state)));
  if (waiting && !list.length) box.replaceChildren(...skeletons());
  if (answer.done && all.length > list.length) box.append(moreButton(state));
  if (focused) box.querySelector(`[data-dialogue="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  document.title = state.query ? `${state.query} · ${t("brand")}` : t("brand");
  $("status").textContent = waiting ? t("searching") : answer.done && list.length ? summary(list.length, all.length) : "";
  drawNotice(state, list);
}

function moreButton(state) {
  const more = () => {
    const first = answer.shown;
    answer.shown += STEP;
    draw(state);
    document.querySelectorAll(".card[data-dialogue]")[first]?.focus({ preventScroll: true });
  };
  return el("button", { class: "quiet more-results", type: "button", onclick: more }, t("show_more"));
}

function summary(shown, total) {
  const s = (answer.done.took_ms / 1000).toFixed(2);
  if (!answer.complete) return plural("found_top", shown, { s });
  return shown < total ? plural("found_best", total, { shown, s }) : plural("found", shown, { s });
}

function drawNotice(state, list) {
  const retry = el("button", { class: "quiet", type: "button", onclick: () => run(state) }, t("retry"));
  const box = $("notice");
  if (answer.error?.code === "days_cross") {
    const swap = el("button", { class: "quiet", type: "button", onclick: hooks.swapDays }, t("days_swap"));
    box.replaceChildren(note("error", t("days_cross"), t("days_cross_text"), swap));
  } else if (answer.error) box.replaceChildren(note("error", t("failed"), reason(answer.error), retry));
  else if (answer.done?.partial) box.replaceChildren(note("partial", null, t("partial"), retry));
  else if (answer.done && !list.length) {
    const more = filters.any() ? ` ${t("nothing_filters")}` : "";
    box.replaceChildren(note("empty", t("nothing"), t("nothing_text") + more));
  } else if (!state.query) box.replaceChildren(welcome(hooks.ask));
  else box.replaceChildren();
}
