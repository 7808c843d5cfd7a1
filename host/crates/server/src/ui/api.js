// Asking the host: requests with the token, if there is one, and what went wrong in plain words.

import { learnTime } from "./format.js";

const TOKEN = "reloader-token";
const PATIENCE = 15_000;

/** What the host, or the way to it, says is wrong. `status` is 0 if it could not be reached. */
export class Trouble extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** Why nothing can be changed from here, once the host has said so. */
export const rights = { refusal: null };

/** An answer that is a good one. Otherwise a `Trouble` is thrown. */
export async function ask(path, { method = "GET", headers = {}, signal, as = token.get() } = {}) {
  const sent = as ? { ...headers, Authorization: `Bearer ${as}` } : headers;
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, signal, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (signal?.aborted && signal.reason?.name === "AbortError") throw error;
    throw new Trouble(0, unreached(error));
  }
  learnTime(answer.headers.get("date"));
  if (answer.ok) return answer;
  throw await troubleOf(answer, method);
}

function unreached(error) {
  if (error.name === "TimeoutError") return "The host does not answer in time.";
  return "The host cannot be reached. It may have stopped, or the network is down.";
}

async function troubleOf(answer, method) {
  const problem = await answer.json().catch(() => ({}));
  const detail = sentence(problem.detail || problem.title || `The host answers with status ${answer.status}.`);
  if (answer.status === 401) dispatchEvent(new Event("token-needed"));
  if (answer.status === 403 && method !== "GET") rights.refusal = detail;
  return new Trouble(answer.status, detail);
}

/** With a capital letter and a full stop. */
export function sentence(text) {
  const start = /^[a-z]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
  return /[.!?…]$/.test(start) ? start : `${start}.`;
}

export async function get(path, options) {
  const answer = await ask(path, { signal: AbortSignal.timeout(PATIENCE), ...options });
  try {
    return await answer.json();
  } catch (error) {
    throw new Trouble(0, unreached(error));
  }
}

export async function post(path) {
  const answer = await ask(path, { method: "POST", signal: AbortSignal.timeout(PATIENCE) });
  return answer.json();
}

/** The path of a source in the API; its name may hold anything. */
export function pathOf(name, rest = "") {
  return `/v1/sources/${encodeURIComponent(name)}${rest}`;
}

/** The bytes of a value, and what they are. */
export async function bytesOf(path) {
  const answer = await ask(path, { signal: AbortSignal.timeout(PATIENCE) });
  return { bytes: await answer.arrayBuffer(), type: answer.headers.get("content-type") ?? "" };
}

/** A link that saves a value. A link alone cannot show a token. */
export async function save(path, name) {
  const { bytes } = await bytesOf(path);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
