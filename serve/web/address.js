// The state of the page in its address, so that every view can be shared and reloaded.

export function read(search = location.search) {
  const values = new URLSearchParams(search);
  const turn = Number.parseInt(values.get("t") ?? "", 10);
  return {
    query: values.get("q") ?? "",
    people: values.getAll("p"),
    from: day(values.get("from")),
    to: day(values.get("to")),
    pictures: values.get("pictures") === "1",
    dialogue: values.get("d"),
    turn: Number.isInteger(turn) && turn >= 0 ? turn : 0,
  };
}

function day(text) {
  const real = /^\d{4}-\d{2}-\d{2}$/.test(text ?? "") && !Number.isNaN(Date.parse(text));
  return real ? text : "";
}

export function searchAddress(state) {
  const values = searchValues(state);
  const text = values.toString();
  return text ? `/?${text}` : "/";
}

export function dialogueAddress(id, turn, state) {
  const values = new URLSearchParams({ d: id, t: turn });
  for (const [name, value] of searchValues(state)) values.append(name, value);
  return `/?${values}#turn-${turn}`;
}

function searchValues({ query, people, from, to, pictures }) {
  const values = new URLSearchParams();
  if (query) values.set("q", query);
  for (const person of people) values.append("p", person);
  if (from) values.set("from", from);
  if (to) values.set("to", to);
  if (pictures) values.set("pictures", "1");
  return values;
}

// Whether the first day lies after the last one, so that no message can match.
export function daysCross({ from, to }) {
  return Boolean(from && to && from > to);
}

// The body of a search; days are those of this browser's time zone, the last one included.
export function searchBody(state, limit) {
  const filters = {};
  if (state.people.length) filters.participants = state.people;
  if (state.from) filters.since = new Date(`${state.from}T00:00:00`).toISOString();
  if (state.to) {
    const after = new Date(`${state.to}T00:00:00`);
    after.setDate(after.getDate() + 1);
    filters.until = after.toISOString();
  }
  if (state.pictures) filters.has_image = true;
  return { query: state.query, filters, limit };
}
