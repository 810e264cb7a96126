// Where in a dialogue the reader is: brings a message into view, keeps it there, follows the hand.

const GESTURES = ["wheel", "touchmove", "keydown", "pointerdown"];
const BARS = 140;
const PAUSE = 400;

// The middle of the view; what is taller than the view is read from its beginning.
export function bring(node) {
  const tall = node.getBoundingClientRect().height > innerHeight - BARS;
  node.scrollIntoView({ block: tall ? "start" : "center", behavior: "instant" });
}

// Pictures that arrive move what stands below them: stay at the place until the reader scrolls.
export function settle(thread, node) {
  const end = new AbortController();
  const stop = () => end.abort();
  for (const name of GESTURES) window.addEventListener(name, stop, { signal: end.signal, passive: true });
  setTimeout(stop, 3000);
  thread.addEventListener("load", () => node.isConnected && bring(node), { capture: true, signal: end.signal });
}

// Tells the message in the middle of the view, now and then, while the reader scrolls by hand;
// `rest` ends that until the next gesture.
export function follow(thread, tell, signal) {
  let byHand = false;
  let timer = null;
  const rest = () => {
    byHand = false;
    clearTimeout(timer);
    timer = null;
  };
  const look = () => {
    timer = null;
    const turn = middle(thread);
    if (turn !== null) tell(turn);
  };
  for (const name of GESTURES) window.addEventListener(name, () => (byHand = true), { signal, passive: true });
  const scrolled = () => {
    if (byHand) timer ??= setTimeout(look, PAUSE);
  };
  window.addEventListener("scroll", scrolled, { signal, passive: true });
  signal.addEventListener("abort", rest);
  return rest;
}

function middle(thread) {
  const nodes = [...thread.querySelectorAll(".turn")];
  const node = nodes.find((one) => one.getBoundingClientRect().bottom >= innerHeight / 2) ?? nodes.at(-1);
  return node ? Number(node.dataset.turn) : null;
}
