// The connection over which the host says what changes: it is read, watched over, and opened again.

import { Trouble, ask } from "./api.js";

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
/** The host says something every 15 s at least. */
const SILENCE = 40_000;
/** Nobody looks at a hidden tab, and browsers allow for few connections to one host. */
const HIDDEN = 60_000;
const PROBE = 5_000;

/**
 * Calls `onOpen` when a connection stands, `onEvent(kind, data)` for each event, and `onState` with
 * `{ state, at, retryAt, detail }`, where the state is `connecting`, `live`, `lost` or `denied`.
 */
export class Live {
  #handlers;
  #attempt = null;
  #timer = 0;
  #silence = 0;
  #hidden = 0;
  #pause = FIRST_PAUSE;
  #lastId = null;
  #state = "connecting";
  #heard = null;

  constructor(handlers) {
    this.#handlers = handlers;
    addEventListener("online", () => this.#hurry());
    addEventListener("offline", () => this.#probe());
    document.addEventListener("visibilitychange", () => this.#seen());
  }

  /** Opens a connection now, in place of one that there is. */
  start() {
    this.#drop();
    this.#connect();
  }

  /** Ends it: only a `start` begins again. */
  deny(detail) {
    this.#drop();
    this.#lastId = null;
    this.#tell("denied", { detail });
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#timer = 0;
    this.#attempt?.abort();
    this.#attempt = null;
  }

  async #connect() {
    const attempt = new AbortController();
    this.#attempt = attempt;
    this.#listen();
    if (this.#state !== "lost") this.#tell("connecting");
    try {
      const headers = this.#lastId ? { "Last-Event-ID": this.#lastId } : {};
      const answer = await ask("/v1/events", { headers, signal: attempt.signal });
      await this.#read(answer.body.getReader(), attempt);
      this.#fail(attempt, "The host has closed the connection.");
    } catch (error) {
      this.#fail(attempt, error.message, error instanceof Trouble ? error.status : 0);
    }
  }

  async #read(reader, attempt) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done || attempt !== this.#attempt) return;
      this.#listen();
      if (this.#state !== "live") this.#opened();
      const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = blocks.pop();
      blocks.forEach((block) => this.#take(block));
    }
  }

  #opened() {
    this.#pause = FIRST_PAUSE;
    this.#tell("live");
    this.#handlers.onOpen();
  }

  #take(block) {
    const event = { id: null, event: null, data: "" };
    for (const line of block.split("\n")) {
      const colon = line.indexOf(": ");
      if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
    }
    if (event.id) this.#lastId = event.id;
    if (event.event) this.#handlers.onEvent(event.event, JSON.parse(event.data || "{}"));
  }

  /** Something has come, and something has to come again before long. */
  #listen() {
    if (this.#state === "live") this.#heard = Date.now();
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      const attempt = this.#attempt;
      attempt?.abort();
      this.#fail(attempt, "Nothing is heard of the host any more.");
    }, SILENCE);
  }

  #fail(attempt, detail, status = 0) {
    if (attempt === null || attempt !== this.#attempt) return;
    this.#drop();
    if (status === 401 || status === 403) {
      this.deny(detail);
      return;
    }
    this.#tell("lost", { detail, retryAt: Date.now() + this.#pause });
    this.#timer = setTimeout(() => this.#connect(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  #tell(state, more = {}) {
    if (state === "live") this.#heard = Date.now();
    this.#state = state;
    this.#handlers.onState({ state, at: this.#heard, ...more });
  }

  /** Does not wait for the end of a pause. */
  #hurry() {
    if (this.#state === "lost" && this.#timer) {
      this.#pause = FIRST_PAUSE;
      this.start();
    }
  }

  /** The browser says that it is offline. That does not tell whether this host can be reached. */
  async #probe() {
    const attempt = this.#attempt;
    try {
      await ask("/healthz", { signal: AbortSignal.timeout(PROBE) });
    } catch (error) {
      attempt?.abort();
      this.#fail(attempt, error.message);
    }
  }

  #seen() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      this.#hidden = setTimeout(() => this.#rest(), HIDDEN);
    } else if (this.#state === "resting") {
      this.start();
    } else {
      this.#hurry();
    }
  }

  #rest() {
    if (this.#state !== "live") return;
    this.#drop();
    this.#tell("resting");
  }
}
