// A picture in full size; Esc, a click anywhere and the browser's Back close it.
import { $, el, icon, ICONS } from "./dom.js";
import { t } from "./i18n.js";

let open = false;

export function enlarge(url, label) {
  const box = $("lightbox");
  const close = el("button", { class: "round", type: "button", "aria-label": t("close") }, icon(ICONS.close));
  box.replaceChildren(
    el("figure", {}, el("img", { src: url, alt: label }), el("figcaption", { dir: "auto" }, label)),
    close,
  );
  box.onclick = () => box.close();
  box.onclose = () => {
    if (history.state?.picture) history.back();
  };
  history.pushState({ ...history.state, picture: true }, "");
  open = true;
  box.showModal();
  close.focus();
}

// Whether a step in the history only closed the picture, so that the view behind it stays.
export function closedByHistory() {
  if (!open) return false;
  open = false;
  $("lightbox").close();
  return true;
}
