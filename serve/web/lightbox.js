// A picture in full size; Esc and a click anywhere close it.
import { $, el, icon, ICONS } from "./dom.js";
import { t } from "./i18n.js";

export function enlarge(url, label) {
  const box = $("lightbox");
  const close = el("button", { class: "round", type: "button", "aria-label": t("close") }, icon(ICONS.close));
  box.replaceChildren(
    el("figure", {}, el("img", { src: url, alt: label }), el("figcaption", { dir: "auto" }, label)),
    close,
  );
  box.onclick = () => box.close();
  box.showModal();
  close.focus();
}
