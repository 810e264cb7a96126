// The page: which view the address asks for, the search, keys of the keyboard.
import * as address from "./address.js";
import * as api from "./api.js";
import { isLit } from "./chat.js";
import { $, el } from "./dom.js";
import * as filters from "./filters.js";
import { plural, switchLanguage, t, translate } from "./i18n.js";
import { keyForm, note, welcome } from "./notes.js";
import * as reader from "./reader.js";
import { card, skeletons } from "./results.js";

const answer = { asked: null, found: new Map(), order: null, done: null, error: null };
let running = null;
let scrolled = 0;

// ---- search

async function run(state) {
  running?.abort();
  const mine = (running = new AbortController());
  Object.assign(answer, { asked: JSON.stringify(state), found: new Map(), order: null, done: null, error: null });
  drawResults(state);
  if (!state.query) return;
  try {
    const body = address.searchBody(state);
    const done = await api.stream(body, (dialogue) => {
      if (running !== mine) return;
      answer.found.set(dialogue.dialogue_id, dialogue);
      filters.offer(dialogue.turns.map((turn) => turn.speaker));
      drawResults(state);
    }, mine.signal);
    if (running !== mine) return;
    Object.assign(answer, { order: done.order, done });
  } catch (error) {
    if (error.name === "AbortError" || running !== mine) return;
    if (error.status === 401) return askForKey(Boolean(api.key.get()));
    answer.error = error;
  }
  drawResults(state);
}

function ranked() {
  const ids = answer.order ?? [...answer.found.values()].sort((a, b) => b.score - a.score).map((d) => d.dialogue_id);
  return ids.map((id) => answer.found.get(id)).filter(Boolean);
}

function drawResults(state) {
  const waiting = state.query && !answer.done && !answer.error;
  const list = ranked();
  const focused = document.activeElement?.closest?.(".card")?.dataset.dialogue;
  const box = $("results");
  box.setAttribute("aria-busy", String(Boolean(waiting)));
  const cards = new Map([...box.querySelectorAll(".card[data-dialogue]")].map((node) => [node.dataset.dialogue, node]));
  const keep = cards.size && box.dataset.asked === answer.asked;
  box.dataset.asked = answer.asked;
  box.replaceChildren(...list.map((dialogue) => (keep && cards.get(dialogue.dialogue_id)) || card(dialogue, state)));
  if (waiting && !list.length) box.replaceChildren(...skeletons());
  if (focused) box.querySelector(`[data-dialogue="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  document.title = state.query ? `${state.query} · ${t("brand")}` : t("brand");
  $("status").textContent = waiting
    ? t("searching")
    : answer.done && list.length
      ? plural("found", list.length, { s: (answer.done.took_ms / 1000).toFixed(2) })
      : "";
  drawNotice(state, list);
}

function drawNotice(state, list) {
  const retry = el("button", { class: "quiet", type: "button", onclick: () => run(state) }, t("retry"));
  const box = $("notice");
  if (answer.error) box.replaceChildren(note("error", t("failed"), answer.error.message || t("offline"), retry));
  else if (answer.done?.partial) box.replaceChildren(note("partial", null, t("partial"), retry));
  else if (answer.done && !list.length) {
    const more = filters.any() ? ` ${t("nothing_filters")}` : "";
    box.replaceChildren(note("empty", t("nothing"), t("nothing_text") + more));
  } else if (!state.query) box.replaceChildren(welcome((text) => { $("query").value = text; submit(); }));
  else box.replaceChildren();
}

// ---- API key

function askForKey(wrong) {
  running?.abort();
  reader.close();
  $("finder").hidden = false;
  $("results").replaceChildren();
  $("status").textContent = "";
  $("notice").replaceChildren(keyForm(wrong, (value) => { api.key.set(value); start(); }));
  $("key").focus();
}

async function count() {
  $("forget").hidden = !api.key.get();
  const { dialogues } = await api.stats();
  $("counts").textContent = plural("counts", dialogues);
}

// ---- views

function submit() {
  const state = filters.values();
  const target = address.searchAddress(state);
  if (target !== location.pathname + location.search) history.pushState({}, "", target);
  route(true);
}

async function route(again = false) {
  const state = address.read();
  filters.fill(state);
  const { dialogue, turn, ...search } = state;
  if (dialogue !== null) {
    if (!reader.isOpen()) scrolled = document.scrollingElement.scrollTop;
    $("finder").hidden = true;
    try {
      await reader.open(dialogue, turn, search, known(dialogue, search));
    } catch (error) {
      if (error.name !== "AbortError") failed(error);
    }
    return;
  }
  const came = reader.isOpen();
  const from = came ? document.querySelector("#reader").dataset.from : null;
  reader.close();
  $("finder").hidden = false;
  if (again || answer.asked !== JSON.stringify(search)) await run(search);
  else {
    drawResults(search);
    window.scrollTo({ top: scrolled, behavior: "instant" });
    if (from) document.querySelector(`.card[data-dialogue="${CSS.escape(from)}"]`)?.focus({ preventScroll: true });
  }
}

// Matched turns of a dialogue, when the answer on screen is the one the address asks for.
function known(id, search) {
  const found = answer.found.get(id);
  if (!found || answer.asked !== JSON.stringify(search)) return null;
  return new Map(found.turns.filter(isLit).map((turn) => [turn.turn_id, turn]));
}

function failed(error) {
  if (error.status === 401) return askForKey(Boolean(api.key.get()));
  reader.close();
  $("finder").hidden = false;
  $("results").replaceChildren();
  const title = error.status === 404 ? t("gone") : t("failed");
  $("notice").replaceChildren(note("error", title, error.message || t("offline")));
}

function visit(href, from) {
  history.pushState({ inside: true }, "", href);
  if (from) $("reader").dataset.from = from;
  return route();
}

// ---- keyboard and clicks

function move(step) {
  const cards = [...document.querySelectorAll(".card[data-dialogue]")];
  const at = cards.indexOf(document.activeElement?.closest?.(".card"));
  if (at + step < 0) return $("query").focus();
  const next = cards[Math.min(at + step, cards.length - 1)];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "nearest" });
}

function leave() {
  if (history.state?.inside) history.back();
  else visit(address.searchAddress(address.read()));
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey || $("lightbox").open) return;
  const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    if (!reader.isOpen()) return $("query").select();
    leave();
    setTimeout(() => $("query").select(), reader.isOpen() ? 60 : 0);
  } else if (event.key === "Escape") {
    if (reader.isOpen()) leave();
    else event.target.blur();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !reader.isOpen()) {
    if (typing && event.target.id !== "query") return;
    event.preventDefault();
    move(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter" && event.target.matches(".card[data-dialogue]")) {
    const { dialogue, target } = event.target.dataset;
    visit(address.dialogueAddress(dialogue, target, address.read()), dialogue);
  }
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (link.id === "back") leave();
  else visit(link.getAttribute("href"), link.dataset.open);
});

window.addEventListener("popstate", () => route());

$("forget").addEventListener("click", () => {
  api.key.forget();
  Object.assign(answer, { asked: null, found: new Map(), order: null, done: null });
  start();
});

$("language").addEventListener("click", () => {
  switchLanguage();
  speak();
  $("results").replaceChildren();
  count().catch(() => {});
  route();
});

function speak() {
  translate();
  $("language").textContent = t("switch_language");
  $("language").lang = t("switch_language") === "English" ? "en" : "zh";
  filters.redraw();
}

async function start() {
  speak();
  filters.fill(address.read());
  try {
    await count();
  } catch (error) {
    return failed(error);
  }
  await route(true);
}

filters.start(submit);
history.scrollRestoration = "manual";
start();
