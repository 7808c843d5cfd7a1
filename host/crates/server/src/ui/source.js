// View of one source: status, value, history and commands.

import { get, permissions, post, sourcePath } from "./api.js";
import { confirm } from "./confirm.js";
import { badge, el, pin, setText, worded } from "./dom.js";
import { FactsPanel } from "./facts.js";
import { age, plural, size } from "./format.js";
import { HistoryPanel } from "./history.js";
import { groupsOf, sources, watch } from "./store.js";
import { ValuePanel } from "./value.js";

/** Time between two reads of the details, which are read periodically since counters change without an event. */
const REFRESH_INTERVAL_MS = 10_000;

class SourcePage {
  detail = null;
  #isReading = false;
  #isWanted = false;
  #isClosed = false;

  constructor(root, name) {
    this.name = name;
    this.path = sourcePath(name);
    document.title = `${name} · Reloader`;
    this.state = el("span", { class: "state-line" });
    this.error = el("div", { class: "notice bad", hidden: true });
    this.result = el("p", { class: "result", role: "status" });
    this.denial = el("p", { class: "notice", id: "denial", hidden: true });
    this.reload = this.#button("Reload", "Read the source now instead of at the next poll", () => this.#reload());
    this.resume = this.#button("Unpin", "Publish new values of the source again", () => this.#resume(), "primary");
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
      this.denial,
      this.error,
      this.result,
      this.loading,
      this.columns,
    );
    this.unwatch = watch(({ all, changed }) => (all || changed.includes(name)) && this.#changed());
    this.timer = setInterval(() => !document.hidden && this.read(), REFRESH_INTERVAL_MS);
    this.read();
  }

  close() {
    this.#isClosed = true;
    clearInterval(this.timer);
    this.unwatch();
  }

  #button(text, title, click, kind = "") {
    return el("button", { type: "button", class: kind, title, "aria-describedby": "denial", on: { click } }, text);
  }

  /** Shows the fields of an event immediately, and requests the other fields. */
  #changed() {
    const known = sources.get(this.name);
    if (known && this.detail) this.#show({ ...this.detail, ...known });
    this.read();
  }

  /** Reads the details. Requests during a read are combined into one further read. */
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
    // Details that are already displayed stay. The banner reports a lost connection.
    if (this.detail) return;
    this.loading.hidden = false;
    setText(this.loading, isGone ? "The configuration has no source of this name." : error.message);
  }

  #show(detail) {
    const shown = JSON.stringify([detail.state, detail.pinned, detail.error]);
    this.#showPermissions();
    if (this.shown === shown) return;
    this.shown = shown;
    this.state.replaceChildren(badge(detail.state), ...(detail.pinned ? [pin(detail.pinned)] : []));
    this.resume.hidden = !detail.pinned;
    this.error.hidden = !detail.error && !detail.pinned;
    this.error.classList.toggle("bad", Boolean(detail.error));
    this.error.dataset.state = detail.state;
    this.error.replaceChildren(...notices(detail));
  }

  #showPermissions() {
    this.denial.hidden = permissions.denial === null;
    this.denial.replaceChildren("Read-only access. ", ...worded(permissions.denial ?? ""));
    this.reload.disabled = permissions.denial !== null || this.detail?.state === "ended";
    this.resume.disabled = permissions.denial !== null;
  }

  /** Sends a command and shows its result. */
  async #send(path, success) {
    this.#showResult("");
    try {
      const { message } = await post(path);
      this.#showResult(success ?? message);
      await this.read();
    } catch (error) {
      // `#showPermissions` displays a permission error in a separate notice, which stays.
      if (error.status !== 403) this.#showResult(error.message, true);
      this.#showPermissions();
      this.history.redraw();
    }
  }

  #showResult(text, isBad = false) {
    this.result.replaceChildren(...worded(text));
    this.result.classList.toggle("bad", isBad);
  }

  #reload() {
    return this.#send(`${this.path}/reload`, "Reload started. A new value appears here.");
  }

  #resume() {
    return this.#send(`${this.path}/resume`, "The source is no longer pinned.");
  }

  async #rollBack(entry) {
    const { revision } = entry;
    const sinks = this.detail.sinks.length;
    const which = [entry.size === null ? null : size(entry.size), age(entry.at)].filter(Boolean).join(", ");
    const groups = groupsOf(this.name).map((group) => `the group ${group.name}`);
    const all = [...(sinks ? [plural(sinks, "sink")] : []), ...groups].join(" and ");
    const effect = all ? `It is published as a new revision and delivered to ${all}.` : "It is published as a new revision.";
    const isConfirmed = await confirm({
      title: `Roll back to revision ${revision}?`,
      sentences: [
        `${this.name} gets the value of revision ${revision} again (${which}). ${effect}`,
        "The source is then pinned: it publishes no new values until you choose “Unpin”.",
      ],
      action: "Roll back",
    });
    if (isConfirmed) await this.#send(`${this.path}/rollback?to=${revision}`, `Rolled back to revision ${revision}.`);
  }
}

function notices({ error, pinned }) {
  const all = [];
  if (error) all.push(el("p", {}, el("strong", {}, "Error: "), worded(error)));
  if (pinned) all.push(el("p", {}, `Pinned to revision ${pinned}. The source publishes no new values until it is unpinned.`));
  return all;
}

export function showSource(root, name) {
  const view = new SourcePage(root, name);
  return () => view.close();
}
