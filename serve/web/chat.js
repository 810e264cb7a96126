// Chat bubbles: avatar, name, time, text, pictures; what matches is lit.
import { hue } from "./colors.js";
import { el, icon, ICONS } from "./dom.js";
import { locale, t } from "./i18n.js";
import { enlarge } from "./lightbox.js";

const CJK = /[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]/;
const WIDE = /[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uff00-\uff60]/g;
const LONG = 700;

export function initials(name) {
  const words = name.replace(/[^\p{L}\p{N}\s]+/gu, " ").trim().split(/\s+/).filter(Boolean);
  if (!words.length) return "?";
  if (CJK.test(words[0])) return [...words[0]].slice(0, 2).join("");
  return words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
}

export function avatar(name, dialogueId) {
  return el("span", { class: `avatar hue-${hue(dialogueId, name)}`, "aria-hidden": "true" }, initials(name));
}

// An instant is shown in this browser's zone, where the day filter cuts its days, too; other
// forms are shown as they are.
function clock(stamp) {
  const found = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2})[\d:.]*(Z|[+-]\d{2}:\d{2})/.exec(stamp ?? "");
  const date = found && new Date(`${found[1]}:00${found[2]}`);
  return date && !Number.isNaN(date.getTime()) ? date : null;
}

const FORMS = {
  time: { hour: "2-digit", minute: "2-digit" },
  day: { weekday: "short", day: "numeric", month: "long", year: "numeric" },
  full: { dateStyle: "full", timeStyle: "long" },
};

export function when(stamp, form) {
  const date = clock(stamp);
  if (!date) return form === "day" ? "" : (stamp ?? "");
  return new Intl.DateTimeFormat(locale(), FORMS[form]).format(date);
}

// A line with a day, between messages of different days.
export function dayMark(day) {
  return el("p", { class: "day" }, el("span", {}, day));
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

// Whether a message goes on where the one before it stopped, without name and avatar.
export function follows(turn, previous) {
  return Boolean(previous) && previous.speaker === turn.speaker && previous.turn_id + 1 === turn.turn_id &&
    when(previous.timestamp, "day") === when(turn.timestamp, "day");
}

// Takes name and avatar from a message whose predecessor came later.
export function join(node) {
  node.classList.add("follows");
  node.querySelector(".speaker")?.remove();
  node.querySelector(".avatar")?.replaceWith(el("span", { class: "avatar-space" }));
}

// One message of a dialogue. `previous` decides whether name and avatar stand again, `link` makes
// its time a link, `cut` shortens a very long text.
export function bubble(turn, previous, dialogueId, { id = null, link = null, cut = false } = {}) {
  const lit = isLit(turn);
  const after = follows(turn, previous);
  const time = turn.timestamp
    ? el("time", { datetime: clock(turn.timestamp) ? turn.timestamp : null, title: when(turn.timestamp, "full") }, when(turn.timestamp, "time"))
    : null;
  const number = turn.turn_id + 1;
  const stamp = link
    ? el("a", { class: "stamp", href: link.href, onclick: link.follow, "aria-label": t("message_link", { n: number, time: time?.textContent ?? "" }) }, time ?? `#${number}`)
    : time;
  const sure = lit ? meter(confidenceOf(turn), t("sure", { p: percent(confidenceOf(turn)) })) : null;
  const words = lit ? el("span", { class: "hidden" }, t("matches", { p: percent(confidenceOf(turn)) })) : null;
  return el(
    "article",
    { class: `turn${lit ? " lit" : ""}${after ? " follows" : ""}`, id, data: { turn: turn.turn_id } },
    after ? el("span", { class: "avatar-space" }) : avatar(turn.speaker, dialogueId),
    el(
      "div",
      { class: "bubble" },
      after ? null : el("span", { class: `speaker ink-${hue(dialogueId, turn.speaker)}` }, turn.speaker),
      ...(turn.text ? said(turn, cut) : []),
      turn.images.length ? el("div", { class: "pictures" }, ...turn.images.map((image) => picture(image, turn))) : null,
      el("span", { class: "meta" }, words, sure, stamp),
    ),
  );
}

function said(turn, cut) {
  const text = el("p", { class: `text${turn.matched ? " said" : ""}`, dir: "auto" }, turn.text);
  const length = turn.text.length + (turn.text.match(WIDE)?.length ?? 0) + 60 * (turn.text.match(/\n/g)?.length ?? 0);
  if (!cut || length <= LONG) return [text];
  text.classList.add("cut");
  const whole = () => {
    text.classList.remove("cut");
    all.remove();
  };
  const all = el("button", { class: "quiet all", type: "button", onclick: whole }, t("show_all"));
  return [text, all];
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
  shown.addEventListener("error", () => (button.closest("figure") ?? button).replaceWith(missing(label, lit)), { once: true });
  return caption ? el("figure", {}, button, el("figcaption", { dir: "auto" }, caption)) : button;
}

function missing(label, lit) {
  return el("span", { class: `picture missing${lit}` }, icon(ICONS.picture), el("span", {}, label, el("small", {}, t("picture_missing"))));
}
