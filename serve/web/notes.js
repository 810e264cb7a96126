// What stands in place of an answer: welcome, nothing found, errors, the question for a key.
import { el } from "./dom.js";
import { maybe, t } from "./i18n.js";

// Why a request failed, in the reader's language; the server's own words where it says something new.
export function reason(error, values = {}) {
  return maybe(`error_${error.code}`, values) ?? (error.message || t("error_offline"));
}

export function note(kind, title, text, ...actions) {
  return el(
    "div",
    { class: `note ${kind}`, role: kind === "error" ? "alert" : "status" },
    title ? el("h2", {}, title) : null,
    el("p", {}, text),
    ...actions,
  );
}

export function welcome(ask) {
  const tips = ["tip_1", "tip_2", "tip_3"].map((tip) =>
    el("button", { class: "tip", type: "button", onclick: () => ask(t(tip)) }, t(tip)),
  );
  return el(
    "div",
    { class: "note welcome" },
    el("h2", {}, t("welcome")),
    el("p", {}, t("welcome_text")),
    el("div", { class: "tips" }, ...tips),
  );
}

export function keyForm(wrong, use) {
  const input = el("input", { type: "password", id: "key", autocomplete: "off", required: true, "aria-label": t("key_label") });
  const submit = (event) => {
    event.preventDefault();
    use(input.value.trim());
  };
  return el(
    "form",
    { class: "note key", onsubmit: submit },
    el("h2", {}, t("key_title")),
    el("p", {}, wrong ? t("key_wrong") : t("key_text")),
    el("div", { class: "row" }, input, el("button", { class: "primary", type: "submit" }, t("key_use"))),
  );
}
