// Chat bubbles: avatar, name, time, text, pictures; what matches is lit.
import { el, icon, ICONS } from "./dom.js";
import { locale, t } from "./i18n.js";
import { enlarge } from "./lightbox.js";

const HUES = 10;
const CJK = /[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]/;

export function hue(name) {
  let sum = 7;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)) >>> 0;
  return sum % HUES;
}

export function initials(name) {
  const words = name.replace(/[^\p{L}\p{N}\s]+/gu, " ").trim().split(/\s+/).filter(Boolean);
  if (!words.length) return "?";
  if (CJK.test(words[0])) return [...words[0]].slice(0, 2).join("");
  return words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
}

export function avatar(name) {
  return el("span", { class: `avatar hue-${hue(name)}`, "aria-hidden": "true" }, initials(name));
}

// A stamp shows the clock of the place where it was written; other forms are shown as they are.
function clock(stamp) {
  const found = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2})/.exec(stamp ?? "");
  return found ? new Date(`${found[1]}T${found[2]}:00Z`) : null;
}

const FORMS = {
  time: { hour: "2-digit", minute: "2-digit", timeZone: "UTC" },
  day: { weekday: "short", day: "numeric", month: "long", year: "numeric", timeZone: "UTC" },
};

export function when(stamp, form) {
  const date = clock(stamp);
  if (!date) return form === "time" ? (stamp ?? "") : "";
  return new Intl.DateTimeFormat(locale(), FORMS[form]).format(date);
}

export function percent(confidence) {
  return Math.round(confidence * 100);
}

export function meter(share, label) {
  const bar = el("span", { class: "meter", "aria-hidden": "true" }, el("i"));
  bar.firstChild.style.setProperty("inline-size", `${percent(share)}%`);
  return el("span", { class: "sure", title: label }, bar, `${percent(share)}%`);
}

export function confidenceOf(turn) {
  const sure = turn.images.filter((image) => image.matched).map((image) => image.confidence ?? 0);
  return Math.max(turn.matched ? (turn.confidence ?? 0) : 0, ...sure, 0);
}

export function isLit(turn) {
  return turn.matched || turn.images.some((image) => image.matched);
}

// One message. `previous` decides whether name and avatar stand again.
export function bubble(turn, previous, id = null) {
  const lit = isLit(turn);
  const follows = previous && previous.speaker === turn.speaker && previous.turn_id + 1 === turn.turn_id &&
    when(previous.timestamp, "day") === when(turn.timestamp, "day");
  const time = turn.timestamp
    ? el("time", { datetime: clock(turn.timestamp) ? turn.timestamp : null, title: turn.timestamp }, when(turn.timestamp, "time"))
    : null;
  const sure = lit ? meter(confidenceOf(turn), t("sure", { p: percent(confidenceOf(turn)) })) : null;
  const words = lit ? el("span", { class: "hidden" }, t("matches", { p: percent(confidenceOf(turn)) })) : null;
  return el(
    "article",
    { class: `turn${lit ? " lit" : ""}${follows ? " follows" : ""}`, id, data: { turn: turn.turn_id } },
    follows ? el("span", { class: "avatar-space" }) : avatar(turn.speaker),
    el(
      "div",
      { class: "bubble" },
      follows ? null : el("span", { class: `speaker ink-${hue(turn.speaker)}` }, turn.speaker),
      turn.text ? el("p", { class: `text${turn.matched ? " said" : ""}`, dir: "auto" }, turn.text) : null,
      turn.images.length ? el("div", { class: "pictures" }, ...turn.images.map((image) => picture(image, turn))) : null,
      el("span", { class: "meta" }, words, sure, time),
    ),
  );
}

function picture(image, turn) {
  const caption = image.caption || "";
  const label = caption || t("picture_alt", { name: turn.speaker });
  const lit = image.matched ? " lit" : "";
  if (!image.url) return missing(label, lit);
  const shown = el("img", { src: image.url, alt: label, loading: "lazy", decoding: "async" });
  const button = el(
    "button",
    { class: `picture${lit}`, type: "button", title: t("enlarge"), onclick: () => enlarge(image.url, label) },
    shown,
    image.matched
      ? el("span", { class: "hidden" }, t("picture_matches", { p: percent(image.confidence ?? 0) }))
      : null,
  );
  shown.addEventListener("error", () => button.replaceWith(missing(label, lit)), { once: true });
  return caption ? el("figure", {}, button, el("figcaption", { dir: "auto" }, caption)) : button;
}

function missing(label, lit) {
  return el("span", { class: `picture missing${lit}` }, icon(ICONS.picture), el("span", {}, label, el("small", {}, t("picture_missing"))));
}
