// The color of each person of a dialogue: two people share one only when there are more than ten.
const HUES = 10;
const given = new Map();

// A name starts from its own number, so that it mostly keeps its color from dialogue to dialogue.
function wish(name) {
  let sum = 7;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)) >>> 0;
  return sum % HUES;
}

// Kept per dialogue, so that its card and its reader agree.
export function hue(dialogueId, name) {
  if (!given.has(dialogueId)) given.set(dialogueId, new Map());
  const people = given.get(dialogueId);
  if (!people.has(name)) {
    const taken = new Set(people.size < HUES ? people.values() : []);
    let free = wish(name);
    while (taken.has(free)) free = (free + 1) % HUES;
    people.set(name, free);
  }
  return people.get(name);
}
