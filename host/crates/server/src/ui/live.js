// Event stream of the host: connect, read, detect a lost connection, reconnect with exponential backoff.

import { ApiError, request } from "./api.js";

const INITIAL_RETRY_DELAY_MS = 1_000;
const MAX_RETRY_DELAY_MS = 30_000;
/** Idle time after which the connection counts as lost. The host sends a heartbeat every 15 s. */
const IDLE_TIMEOUT_MS = 40_000;
/** Time after which a hidden tab closes its connection, since browsers limit the connections to one host. */
const HIDDEN_TIMEOUT_MS = 60_000;
const PROBE_TIMEOUT_MS = 5_000;

/**
 * Connection to the event stream. Calls `onOpen` when it is open, `onEvent(kind, data)` for each event, and `onState`
 * with `{ state, at, retryAt, detail }`. States: `connecting`, `live`, `lost` (a retry is scheduled), `denied` (no
 * valid token) and `resting` (closed because the tab is hidden).
 */
export class EventStream {
  #handlers;
  #attempt = null;
  #retryTimer = 0;
  #idleTimer = 0;
  #hiddenTimer = 0;
  #retryDelay = INITIAL_RETRY_DELAY_MS;
  #lastId = null;
  #state = "connecting";
  #receivedAt = null;

  constructor(handlers) {
    this.#handlers = handlers;
    addEventListener("online", () => this.#retryNow());
    addEventListener("offline", () => this.#probe());
    document.addEventListener("visibilitychange", () => this.#visibilityChanged());
  }

  /** Opens a connection, and closes the previous one. */
  start() {
    this.#close();
    this.#connect();
  }

  /** Closes the connection. It stays closed until `start` is called. */
  deny(detail) {
    this.#close();
    this.#lastId = null;
    this.#setState("denied", { detail });
  }

  #close() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#idleTimer);
    this.#retryTimer = 0;
    this.#attempt?.abort();
    this.#attempt = null;
  }

  async #connect() {
    const attempt = new AbortController();
    this.#attempt = attempt;
    this.#restartIdleTimer();
    if (this.#state !== "lost") this.#setState("connecting");
    try {
      const headers = this.#lastId ? { "Last-Event-ID": this.#lastId } : {};
      const response = await request("/v1/events", { headers, signal: attempt.signal });
      await this.#read(response.body.getReader(), attempt);
      this.#fail(attempt, "The host closed the connection.");
    } catch (error) {
      this.#fail(attempt, error.message, error instanceof ApiError ? error.status : 0);
    }
  }

  async #read(reader, attempt) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done || attempt !== this.#attempt) return;
      this.#restartIdleTimer();
      if (this.#state !== "live") this.#opened();
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop();
      blocks.forEach((block) => this.#dispatch(block));
    }
  }

  #opened() {
    this.#retryDelay = INITIAL_RETRY_DELAY_MS;
    this.#setState("live");
    this.#handlers.onOpen();
  }

  /** Parses one server-sent event and passes it to the handler. */
  #dispatch(block) {
    const event = { id: null, event: null, data: "" };
    for (const line of block.split("\n")) {
      const colon = line.indexOf(": ");
      if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
    }
    if (event.id) this.#lastId = event.id;
    if (event.event) this.#handlers.onEvent(event.event, JSON.parse(event.data || "{}"));
  }

  /** Restarts the idle timeout after received bytes. */
  #restartIdleTimer() {
    if (this.#state === "live") this.#receivedAt = Date.now();
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => {
      const attempt = this.#attempt;
      attempt?.abort();
      this.#fail(attempt, "The host has stopped sending heartbeats.");
    }, IDLE_TIMEOUT_MS);
  }

  /** Closes a failed connection and schedules a retry, unless the token was rejected. */
  #fail(attempt, detail, status = 0) {
    if (attempt === null || attempt !== this.#attempt) return;
    this.#close();
    if (status === 401 || status === 403) {
      this.deny(detail);
      return;
    }
    this.#setState("lost", { detail, retryAt: Date.now() + this.#retryDelay });
    this.#retryTimer = setTimeout(() => this.#connect(), this.#retryDelay);
    this.#retryDelay = Math.min(this.#retryDelay * 2, MAX_RETRY_DELAY_MS);
  }

  #setState(state, more = {}) {
    if (state === "live") this.#receivedAt = Date.now();
    this.#state = state;
    this.#handlers.onState({ state, at: this.#receivedAt, ...more });
  }

  /** Retries immediately if a retry is scheduled. */
  #retryNow() {
    if (this.#state === "lost" && this.#retryTimer) {
      this.#retryDelay = INITIAL_RETRY_DELAY_MS;
      this.start();
    }
  }

  /** Checks the connection after an `offline` event, since a local host may still be reachable. */
  async #probe() {
    const attempt = this.#attempt;
    try {
      await request("/healthz", { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    } catch (error) {
      attempt?.abort();
      this.#fail(attempt, error.message);
    }
  }

  #visibilityChanged() {
    clearTimeout(this.#hiddenTimer);
    if (document.hidden) {
      this.#hiddenTimer = setTimeout(() => this.#rest(), HIDDEN_TIMEOUT_MS);
    } else if (this.#state === "resting") {
      this.start();
    } else {
      this.#retryNow();
    }
  }

  #rest() {
    if (this.#state !== "live") return;
    this.#close();
    this.#setState("resting");
  }
}
