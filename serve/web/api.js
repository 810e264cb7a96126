// Talks to the service this page came from.

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const STORE = "api-key";

export const key = {
  get: () => sessionStorage.getItem(STORE),
  set: (value) => sessionStorage.setItem(STORE, value),
  forget: () => sessionStorage.removeItem(STORE),
};

async function request(path, { body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal,
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "offline", "");
  }
  if (!response.ok) throw await problem(response);
  return response;
}

async function problem(response) {
  try {
    const { error } = await response.json();
    return new ApiError(response.status, error.code, error.message);
  } catch {
    return new ApiError(response.status, "error", `${response.status} ${response.statusText}`);
  }
}

export async function stats() {
  return (await request("/v1/stats")).json();
}

export async function search(body, signal) {
  return (await request("/v1/search", { body, signal })).json();
}

export async function page(id, numbers, signal) {
  const query = new URLSearchParams(numbers);
  return (await request(`/v1/dialogues/${encodeURIComponent(id)}?${query}`, { signal })).json();
}

// Calls handlers.dialogue for each dialogue and returns what `done` says.
export async function stream(body, onDialogue, signal) {
  const response = await request("/v1/search/stream", { body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let last = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const { event, data } = parse(block);
      if (event === "dialogue") onDialogue(data);
      else if (event === "done") last = data;
      else if (event === "error") throw new ApiError(500, data.code, data.message);
    }
  }
  if (!last) throw new ApiError(0, "offline", "");
  return last;
}

function parse(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const at = line.indexOf(": ");
    fields[line.slice(0, at)] = line.slice(at + 2);
  }
  return { event: fields.event, data: JSON.parse(fields.data) };
}
