// The page of one source: how it is, its value, what it has been, and what can be done about it.

import { get, pathOf, post, rights } from "./api.js";
import { confirm } from "./confirm.js";
import { badge, el, pin, setText, worded } from "./dom.js";
import { FactsPanel } from "./facts.js";
import { age, plural, size } from "./format.js";
import { HistoryPanel } from "./history.js";
import { groupsOf, sources, watch } from "./store.js";
import { ValuePanel } from "./value.js";

/** Counters say nothing by themselves, so they are asked for, in milliseconds. */
const REFRESH = 10_000;

class SourcePage {
  detail = null;
  #isReading = false;
  #isWanted = false;
  #isClosed = false;

  constructor(root, name, say) {
    this.name = name;
    this.say = say;
    this.path = pathOf(name);
    document.title = `${name} · Reloader`;
    this.state = el("span", { class: "state-line" });
    this.trouble = el("div", { class: "notice bad", hidden: true });
    this.result = el("p", { class: "result", role: "status" });
    this.refusal = el("p", { class: "notice", id: "refusal", hidden: true });
    this.reload = this.#button("Read now", "Reads the source at once", () => this.#reload());
    this.resume = this.#button("Follow the source again", "Takes over what the source has now", () => this.#resume(), "primary");
    this.resume.hidden = true;
    this.value = new ValuePanel(name);
    this.history = new HistoryPanel(name, (entry) => this.#rollBack(entry));
    this.facts = new FactsPanel();
    this.columns = el("div", { class: "columns", hidden: true }, el("div", { class: "wide" }, this.value.node, this.history.node), this.facts.node);
    this.loading = el("p", { class: "loading" }, "Loading …");
    this.actions = el("div", { class: "buttons", hidden: true }, this.resume, this.reload);
    root.replaceChildren(
      el("nav", { class: "back", "aria-label": "Back" }, el("a", { href: "#/" }, "← All sources")),
      el("div", { class: "head source-head" }, el("div", { class: "title" }, el("h1", { tabIndex: -1 }, name), this.state), this.actions),
      this.refusal,
      this.trouble,
      this.result,
      this.loading,
      this.columns,
    );
    this.unwatch = watch(({ all, changed }) => (all || changed.includes(name)) && this.#news());
    this.timer = setInterval(() => !document.hidden && this.read(), REFRESH);
    this.read();
  }

  close() {
    this.#isClosed = true;
    clearInterval(this.timer);
    this.unwatch();
  }

  #button(text, title, click, kind = "") {
    return el("button", { type: "button", class: kind, title, "aria-describedby": "refusal", on: { click } }, text);
  }

  /** What an event says is shown at once; the rest is asked for. */
  #news() {
    const known = sources.get(this.name);
    if (known && this.detail) this.#show({ ...this.detail, ...known });
    this.read();
  }

  /** Asks for all there is to know: once at a time, and once more if something came up meanwhile. */
  async read() {
    this.#isWanted = true;
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#isWanted && !this.#isClosed) {
      this.#isWanted = false;
      await this.#readOnce();
    }
    this.#isReading = false;
  }

  async #readOnce() {
    try {
      const detail = await get(this.path);
      if (this.#isClosed) return;
      this.detail = detail;
      this.loading.hidden = true;
      this.columns.hidden = this.actions.hidden = false;
      this.#show(detail);
      this.facts.show(detail);
      await Promise.all([this.value.show(detail), this.history.refresh(detail)]);
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error) {
    if (this.#isClosed || error.status === 401) return;
    const isGone = error.status === 404;
    if (isGone) {
      this.columns.hidden = this.actions.hidden = true;
      this.detail = null;
      this.state.replaceChildren();
    }
    // What is shown already stays; that the host cannot be reached is said above.
    if (this.detail) return;
    this.loading.hidden = false;
    setText(this.loading, isGone ? "There is no source of this name in the configuration, or not any more." : error.message);
  }

  #show(detail) {
    const shown = JSON.stringify([detail.state, detail.pinned, detail.trouble]);
    this.#rights();
    if (this.shown === shown) return;
    this.shown = shown;
    this.state.replaceChildren(badge(detail.state), ...(detail.pinned ? [pin(detail.pinned)] : []));
    this.resume.hidden = !detail.pinned;
    this.trouble.hidden = !detail.trouble && !detail.pinned;
    this.trouble.classList.toggle("bad", Boolean(detail.trouble));
    this.trouble.dataset.state = detail.state;
    this.trouble.replaceChildren(...notices(detail));
  }

  #rights() {
    this.refusal.hidden = rights.refusal === null;
    this.refusal.replaceChildren("You may look here, but not change anything. ", ...worded(rights.refusal ?? ""));
    this.reload.disabled = rights.refusal !== null || this.detail?.state === "ended";
    this.resume.disabled = rights.refusal !== null;
  }

  async #do(path, done) {
    this.#tell("");
    try {
      const { message } = await post(path);
      this.#tell(done ?? message);
      await this.read();
    } catch (error) {
      // That nothing may be changed is said by itself, and stays.
      if (error.status !== 403) this.#tell(error.message, true);
      this.#rights();
      this.history.redraw();
    }
  }

  #tell(text, isBad = false) {
    this.result.replaceChildren(...worded(text));
    this.result.classList.toggle("bad", isBad);
  }

  #reload() {
    return this.#do(`${this.path}/reload`, "The source is read now. If it has something new, it appears here.");
  }

  #resume() {
    return this.#do(`${this.path}/resume`, "The source is followed again.");
  }

  async #rollBack(entry) {
    const { revision } = entry;
    const sinks = this.detail.sinks.length;
    const which = [entry.size === null ? null : size(entry.size), age(entry.at)].filter(Boolean).join(", ");
    const groups = groupsOf(this.name).map((group) => `the group ${group.name}`);
    const all = [...(sinks ? [plural(sinks, "sink")] : []), ...groups].join(" and ");
    const goes = all ? `It is published as a new revision, and goes to ${all}.` : "It is published as a new revision.";
    const isWanted = await confirm({
      title: `Roll back to revision ${revision}?`,
      sentences: [
        `${this.name} gets the value of revision ${revision} again (${which}). ${goes}`,
        "Then it is pinned: what changes at the source is not taken over until you choose “Follow the source again”.",
      ],
      action: "Roll back",
    });
    if (isWanted) await this.#do(`${this.path}/rollback?to=${revision}`, `The value of revision ${revision} is back.`);
  }
}

function notices({ trouble, pinned }) {
  const all = [];
  if (trouble) all.push(el("p", {}, el("strong", {}, "Trouble: "), worded(trouble)));
  if (pinned) all.push(el("p", {}, `Held at the value of revision ${pinned}. What changes at the source is not taken over until it is followed again.`));
  return all;
}

export function showSource(root, name, say) {
  const view = new SourcePage(root, name, say);
  return () => view.close();
}
