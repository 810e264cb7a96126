// The search form: query, people, days, pictures.
import { daysCross } from "./address.js";
import { $, el, icon, ICONS } from "./dom.js";
import { t } from "./i18n.js";

let people = [];
const known = new Set();

export function values() {
  return {
    query: $("query").value.trim(),
    people: [...people],
    from: $("from").value,
    to: $("to").value,
    pictures: $("pictures").checked,
  };
}

export function fill(state) {
  $("query").value = state.query;
  people = [...state.people];
  $("from").value = state.from;
  $("to").value = state.to;
  $("pictures").checked = state.pictures;
  draw();
}

export function any() {
  return people.length > 0 || $("from").value !== "" || $("to").value !== "" || $("pictures").checked;
}

// Names that answers have shown are offered while typing.
export function offer(names) {
  for (const name of names) {
    if (known.has(name)) continue;
    known.add(name);
    $("names").append(el("option", { value: name }));
  }
}

function draw() {
  for (const chip of $("people").querySelectorAll(".chip, .or")) chip.remove();
  const chips = people.map((name) =>
    el(
      "span",
      { class: "chip" },
      el("bdi", {}, name),
      el("button", { type: "button", "aria-label": t("remove_person", { name }), data: { person: name } }, icon(ICONS.close)),
    ),
  );
  $("people").prepend(...chips.flatMap((chip, i) => (i ? [el("span", { class: "or" }, t("or")), chip] : [chip])));
  $("clear").hidden = !any();
  const crossed = daysCross(values());
  for (const id of ["from", "to"]) $(id).setAttribute("aria-invalid", String(crossed));
}

export function redraw() {
  draw();
}

function addPerson() {
  const name = $("person").value.trim();
  if (!name) return false;
  if (!people.includes(name)) people.push(name);
  $("person").value = "";
  draw();
  return true;
}

// Calls `changed` after every change that should search again.
export function start(changed) {
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    addPerson();
    changed();
  });
  $("person").addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter") {
      event.preventDefault();
      if (addPerson()) changed();
    } else if (event.key === "Backspace" && !$("person").value && people.length) {
      people.pop();
      draw();
      changed();
    }
  });
  // A name typed in full may be the beginning of a longer one: only the list adds it by itself.
  $("person").addEventListener("input", (event) => {
    if (["insertText", "insertCompositionText", "deleteContentBackward"].includes(event.inputType)) return;
    if (known.has($("person").value) && addPerson()) changed();
  });
  $("people").addEventListener("click", (event) => {
    const button = event.target.closest("[data-person]");
    if (!button) return;
    people = people.filter((name) => name !== button.dataset.person);
    draw();
    $("person").focus();
    changed();
  });
  for (const id of ["from", "to", "pictures"]) {
    $(id).addEventListener("change", () => {
      draw();
      changed();
    });
  }
  $("clear").addEventListener("click", () => {
    fill({ ...values(), people: [], from: "", to: "", pictures: false });
    $("query").focus();
    changed();
  });
}
