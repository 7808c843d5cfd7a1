// Client of the HTTP API: requests with the bearer token, and errors as sentences for the user.

import { syncClock } from "./format.js";

const TOKEN = "reloader-token";
const REQUEST_TIMEOUT_MS = 15_000;

/** Failed request. `status` is the HTTP status, or 0 if the host could not be reached. */
export class ApiError extends Error {
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

/** `denial`: reason why the caller may not change sources; `null` until a command was rejected. */
export const permissions = { denial: null };

/** Sends a request and returns its response. Throws an `ApiError` if the request fails. */
export async function request(path, { method = "GET", headers = {}, signal, as = token.get() } = {}) {
  const sent = as ? { ...headers, Authorization: `Bearer ${as}` } : headers;
  let response;
  try {
    response = await fetch(path, { method, headers: sent, signal, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (signal?.aborted && signal.reason?.name === "AbortError") throw error;
    throw new ApiError(0, connectionError(error));
  }
  syncClock(response.headers.get("date"));
  if (response.ok) return response;
  throw await responseError(response, method);
}

function connectionError(error) {
  if (error.name === "TimeoutError") return "The request timed out.";
  return "Cannot reach the host. It may have stopped, or the network is down.";
}

async function responseError(response, method) {
  const problem = await response.json().catch(() => ({}));
  const detail = sentence(problem.detail || problem.title || `The host returned status ${response.status}.`);
  if (response.status === 401) dispatchEvent(new Event("token-needed"));
  if (response.status === 403 && method !== "GET") permissions.denial = detail;
  return new ApiError(response.status, detail);
}

/** Returns a text with a capital letter and a full stop. */
export function sentence(text) {
  const start = /^[a-z]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
  return /[.!?…]$/.test(start) ? start : `${start}.`;
}

export async function get(path, options) {
  const response = await request(path, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS), ...options });
  try {
    return await response.json();
  } catch (error) {
    throw new ApiError(0, connectionError(error));
  }
}

export async function post(path) {
  const response = await request(path, { method: "POST", signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  return response.json();
}

/** Returns the API path of a source. */
export function sourcePath(name, rest = "") {
  return `/v1/sources/${encodeURIComponent(name)}${rest}`;
}

/** Fetches the content of a value, and its media type. */
export async function fetchBytes(path) {
  const response = await request(path, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  return { bytes: await response.arrayBuffer(), type: response.headers.get("content-type") ?? "" };
}

/** Fetches a value and saves it as a file. A plain link cannot send a token. */
export async function save(path, name) {
  const { bytes } = await fetchBytes(path);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
