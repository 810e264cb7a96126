// Both languages of the page; the choice is kept in localStorage.
import { en } from "./i18n.en.js";
import { zh } from "./i18n.zh.js";

const TEXTS = { en, zh };
let language = pick();

function pick() {
  const kept = localStorage.getItem("language");
  if (kept in TEXTS) return kept;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function current() {
  return language;
}

export function locale() {
  return language === "zh" ? "zh-CN" : navigator.language.startsWith("en") ? navigator.language : "en-GB";
}

export function t(key, values = {}) {
  const text = TEXTS[language][key];
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

// A text that may not be there: null then.
export function maybe(key, values = {}) {
  return Object.hasOwn(TEXTS[language], key) ? t(key, values) : null;
}

export function plural(key, n, values = {}) {
  const form = new Intl.PluralRules(language).select(n) === "one" ? "one" : "other";
  return t(`${key}_${form}`, { n: n.toLocaleString(locale()), ...values });
}

export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem("language", language);
}

// Fills in every element of the page that names a text.
export function translate(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of root.querySelectorAll("[data-i18n]")) node.textContent = t(node.dataset.i18n);
  for (const node of root.querySelectorAll("[data-i18n-placeholder]")) {
    node.placeholder = t(node.dataset.i18nPlaceholder);
  }
  for (const node of root.querySelectorAll("[data-i18n-label]")) {
    node.setAttribute("aria-label", t(node.dataset.i18nLabel));
  }
}
