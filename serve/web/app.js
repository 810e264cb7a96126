// The page: which view the address asks for, the key, keys of the keyboard.
import * as address from "./address.js";
import * as api from "./api.js";
import { $, el } from "./dom.js";
import * as filters from "./filters.js";
import * as finder from "./finder.js";
import { plural, switchLanguage, t, translate } from "./i18n.js";
import { closedByHistory } from "./lightbox.js";
import { keyForm, note, reason } from "./notes.js";
import * as reader from "./reader.js";

const NARROW = matchMedia("(max-width: 600px)");
let scrolled = 0;
let counting = null;

// ---- API key

function askForKey() {
  if ($("key")) return;
  finder.stop();
  finder.forget();
  finder.clear();
  reader.close();
  $("finder").hidden = false;
  const use = (value) => {
    api.key.set(value);
    $("notice").replaceChildren();
    start();
  };
  $("notice").replaceChildren(keyForm(Boolean(api.key.get()), use));
  $("key").focus();
}

// The count below is a courtesy: it holds nothing up, and comes later where the service is busy.
async function count(wait = 5000) {
  clearTimeout(counting);
  $("forget").hidden = !api.key.get();
  try {
    $("counts").textContent = plural("counts", (await api.stats()).dialogues);
  } catch (error) {
    if (error.status === 401) askForKey();
    else if (!error.status || error.status === 429 || error.status >= 500) {
      counting = setTimeout(() => count(Math.min(2 * wait, 60_000)), wait);
    }
  }
}

// ---- views

function submit() {
  const state = filters.values();
  const target = address.searchAddress(state);
  if (target !== location.pathname + location.search) history.pushState({}, "", target);
  route(true);
}

function route(again = false) {
  filters.fill(address.read());
  return show(again);
}

async function show(again = false) {
  const { dialogue, turn, ...search } = address.read();
  if (dialogue !== null) {
    if (!reader.isOpen() && $("results").childElementCount) scrolled = document.scrollingElement.scrollTop;
    $("finder").hidden = true;
    try {
      await reader.open(dialogue, turn, search, finder.known(dialogue, search));
    } catch (error) {
      if (error.name !== "AbortError") failed(error, dialogue, search);
    }
    return;
  }
  const came = reader.isOpen();
  const from = came ? $("reader").dataset.from : null;
  reader.close();
  $("finder").hidden = false;
  if (again || !finder.holds(search)) await finder.run(search);
  else {
    finder.draw(search);
    window.scrollTo({ top: scrolled, behavior: "instant" });
    if (from) document.querySelector(`.card[data-dialogue="${CSS.escape(from)}"]`)?.focus({ preventScroll: true });
  }
}

// A dialogue that does not open: the way on and the way back.
function failed(error, dialogue, search) {
  if (error.status === 401) return askForKey();
  const gone = error.status === 404;
  if (gone) finder.drop(dialogue);
  reader.close();
  finder.clear();
  $("finder").hidden = false;
  const retry = el("button", { class: "quiet", type: "button", onclick: () => route() }, t("retry"));
  const back = el("a", { class: "quiet leave", href: address.searchAddress(search) }, t(search.query ? "back" : "back_home"));
  $("notice").replaceChildren(note("error", t(gone ? "gone" : "not_open"), reason(error, { id: dialogue }), retry, back));
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
    // The browser would empty the query while its results stay.
    if (event.target.id === "query") event.preventDefault();
    if (address.read().dialogue !== null && !typing) leave();
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
  if (link.matches("#back, .leave")) leave();
  else visit(link.getAttribute("href"), link.dataset.open);
});

window.addEventListener("popstate", () => {
  if (closedByHistory()) return;
  // Forward, to a picture that is closed: there is nothing to see.
  if (history.state?.picture) history.back();
  else route();
});

$("forget").addEventListener("click", () => {
  api.key.forget();
  $("counts").textContent = "";
  finder.forget();
  start();
});

$("language").addEventListener("click", () => {
  switchLanguage();
  speak();
  $("results").replaceChildren();
  count();
  route();
});

function speak() {
  translate();
  placeholder();
  $("language").textContent = t("switch_language");
  $("language").lang = t("switch_language") === "English" ? "en" : "zh";
  filters.redraw();
}

function placeholder() {
  $("query").placeholder = t(NARROW.matches ? "placeholder_short" : "placeholder");
}

NARROW.addEventListener("change", placeholder);

async function start() {
  speak();
  const state = address.read();
  filters.fill(state);
  const counted = count();
  // Without a search or a dialogue the count alone tells that a key is needed: no welcome flashes.
  if (!state.query && state.dialogue === null) await Promise.race([counted, new Promise((go) => setTimeout(go, 400))]);
  if (!$("key")) await show();
}

finder.start({
  keyNeeded: askForKey,
  ask: (text) => {
    $("query").value = text;
    submit();
  },
  swapDays: () => {
    const { from, to, ...rest } = filters.values();
    filters.fill({ ...rest, from: to, to: from });
    submit();
  },
});
filters.start(submit);
history.scrollRestoration = "manual";
start();
