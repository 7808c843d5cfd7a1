// Panel with the history of a source: revisions, comparison, rollback.

import { get, permissions, sourcePath } from "./api.js";
import { DiffPanel } from "./diff.js";
import { badge, el, pin, unseen, worded } from "./dom.js";
import { exact, number, size, when } from "./format.js";

/** Number of revisions that are displayed before “Show older” is chosen. */
const MAX_DISPLAYED_REVISIONS = 50;
const EVENTS = { changed: "changed", removed: "removed", "rolled-back": "rolled back" };

export class HistoryPanel {
  #key = null;
  #revisions = null;
  #chosen = null;
  #isAllShown = false;

  /** `onRollBack(entry)` is called when the user chooses to roll back to a revision. */
  constructor(name, onRollBack) {
    this.name = name;
    this.onRollBack = onRollBack;
    this.note = el("p", { class: "muted note" }, "Loading …");
    this.box = el("div", {});
    this.diff = new DiffPanel(name);
    this.diff.node.hidden = true;
    this.node = el("section", { class: "panel", "aria-labelledby": "history-title" }, el("div", { class: "panel-head" }, el("h2", { id: "history-title" }, "History")), this.note, this.box, this.diff.node);
  }

  /** Loads the history again if the details of the source have changed. */
  async refresh(detail) {
    this.detail = detail;
    const key = [detail.revision, detail.pinned, detail.state, detail.readable].join(" ");
    if (this.#key === key) {
      if (this.#revisions) this.#compare();
      return;
    }
    try {
      const { revisions } = await get(sourcePath(this.name, "/history"));
      this.#key = key;
      this.#take(revisions);
    } catch (error) {
      const hint = error.status === 409 ? "No history. " : "";
      this.note.replaceChildren(hint, ...worded(error.message));
      if (error.status === 409) this.box.replaceChildren();
    }
  }

  /** Draws the panel again after a change of the permissions. */
  redraw() {
    if (this.#revisions) this.#draw();
  }

  #take(revisions) {
    const isFirst = this.#revisions?.[0]?.revision !== revisions[0]?.revision;
    this.#revisions = revisions;
    if (isFirst || !this.#exist(this.#chosen)) this.#chosen = this.#latest();
    this.#draw();
    this.#compare();
  }

  #exist(chosen) {
    const all = new Set(this.#revisions.map((entry) => entry.revision));
    return chosen && all.has(chosen.from) && all.has(chosen.to);
  }

  /** Returns the revisions of the newest value and of the value before; null if there is only one value. */
  #latest() {
    const [to, from] = this.#revisions.filter(hasValue);
    return from ? { from: from.revision, to: to.revision } : null;
  }

  #draw() {
    const all = this.#revisions;
    if (all.length === 0) {
      this.note.textContent = "No revisions yet. Each new value appears here.";
      this.box.replaceChildren();
      return;
    }
    const canCompare = this.#chosen !== null && this.detail.readable;
    this.note.textContent = canCompare ? "Choose two revisions to compare them." : this.detail.readable ? "" : "The values are secret and cannot be compared.";
    const shown = this.#isAllShown ? all : all.slice(0, MAX_DISPLAYED_REVISIONS);
    const focused = document.activeElement?.dataset?.key;
    this.box.replaceChildren(this.#table(shown, canCompare), this.#more(all.length - shown.length));
    if (focused) this.box.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  #more(count) {
    if (count === 0) return "";
    const click = () => {
      this.#isAllShown = true;
      this.#draw();
    };
    return el("button", { type: "button", on: { click } }, `Show ${number(count)} older`);
  }

  #table(entries, canCompare) {
    const compare = canCompare ? [head("From", "h-pick"), head("To", "h-pick")] : [];
    const titles = [...compare, head("Revision"), head("Time"), head("Event"), head("Size"), head("Digest", "h-digest"), el("th", { scope: "col", role: "columnheader" }, unseen("Action"))];
    return el(
      "table",
      { class: canCompare ? "history picks" : "history", role: "table" },
      el("caption", { class: "unseen" }, "Revisions, newest first"),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, titles)),
      el("tbody", { role: "rowgroup" }, entries.map((entry) => this.#row(entry, canCompare))),
    );
  }

  #row(entry, canCompare) {
    const picks = canCompare ? [this.#pick(entry, "from"), this.#pick(entry, "to")] : [];
    const digest = entry.sha256 ? el("code", { title: entry.sha256 }, entry.sha256.slice(0, 12)) : el("span", { class: "none" }, "–");
    return el(
      "tr",
      { role: "row" },
      picks,
      el("th", { scope: "row", role: "rowheader", class: "num" }, el("span", { class: "label" }, "Revision "), number(entry.revision), entry.pinned && [" ", pin(entry.revision)]),
      cell("c-at", when(entry.at)),
      cell("c-event", entry.event === "removed" ? badge("removed") : EVENTS[entry.event] ?? entry.event),
      cell("c-size num", hasValue(entry) && entry.size !== null ? size(entry.size) : "–"),
      cell("c-digest", digest),
      cell("c-action", this.#action(entry)),
    );
  }

  #pick(entry, side) {
    const { revision } = entry;
    const change = () => {
      this.#chosen = { ...this.#chosen, [side]: revision };
      this.#compare();
    };
    const input = el("input", { type: "radio", name: `compare-${side}`, checked: this.#chosen[side] === revision, disabled: !hasValue(entry), "aria-label": `Compare ${side} revision ${revision}`, "data-key": `${side}-${revision}`, on: { change } });
    return cell(`c-pick c-${side}`, el("label", {}, input, el("span", { class: "label", "aria-hidden": "true" }, side)));
  }

  #action(entry) {
    const isCurrent = entry.revision === this.detail.revision;
    if (isCurrent || entry.pinned || !hasValue(entry) || !entry.stored || this.detail.state === "ended") {
      return isCurrent ? el("span", { class: "muted" }, "current") : "";
    }
    const label = `Roll back to this revision: ${entry.revision}, published ${exact(entry.at)}`;
    return el("button", { type: "button", class: "small", "aria-label": label, title: permissions.denial ?? "", disabled: permissions.denial !== null, "data-key": `back-${entry.revision}`, on: { click: () => this.onRollBack(entry) } }, "Roll back");
  }

  #compare() {
    const chosen = this.#chosen;
    this.diff.node.hidden = !chosen || !this.detail.readable;
    if (this.diff.node.hidden) return;
    if (chosen.from === chosen.to) this.diff.showNote("Choose two different revisions.");
    else this.diff.show(chosen.from, chosen.to);
  }
}

const head = (title, name) => el("th", { scope: "col", role: "columnheader", class: name }, title);
const cell = (name, ...children) => el("td", { class: name, role: "cell" }, children);
const hasValue = (entry) => entry.event !== "removed";
