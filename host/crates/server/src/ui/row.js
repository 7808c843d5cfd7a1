// Row of a source in the overview. A row is created once, and each update changes only the cells that differ.

import { badge, el, pin, setText, unseen, worded } from "./dom.js";
import { number, setSparkline, setWhen, sparkline, when } from "./format.js";
import { sinkList } from "./sinks.js";
import { failingSinks, groupsOf } from "./store.js";

export class Row {
  constructor(source) {
    this.state = el("td", { class: "c-state", role: "cell" });
    this.pinned = el("span", {});
    this.plugin = el("span", { class: "plugin" });
    this.error = el("p", { class: "error", hidden: true });
    const link = el("a", { class: "name", href: `#/source/${encodeURIComponent(source.name)}` }, source.name);
    const name = el("th", { class: "c-name", scope: "row", role: "rowheader" }, el("span", { class: "name-line" }, link, this.pinned, this.plugin), this.error);
    this.revision = el("span", { class: "num" });
    this.when = when(null);
    this.spark = sparkline();
    this.count = el("span", { class: "num muted", "aria-hidden": "true" });
    this.sinks = el("td", { class: "c-sinks", role: "cell" });
    this.node = el(
      "tr",
      { role: "row" },
      this.state,
      name,
      el("td", { class: "c-revision", role: "cell" }, el("span", { class: "label" }, "Revision "), this.revision),
      el("td", { class: "c-when", role: "cell" }, el("span", { class: "label" }, "Changed "), this.when),
      el("td", { class: "c-spark", role: "cell" }, this.spark, this.count),
      this.sinks,
    );
    this.show(source);
  }

  show(source) {
    const before = this.source;
    this.source = source;
    this.text = [source.name, source.state, source.plugin, source.error, source.pinned ? "pinned" : "", hasError(source) ? "error" : ""].join(" ").toLowerCase();
    if (before?.state !== source.state) this.state.replaceChildren(badge(source.state));
    if (before?.pinned !== source.pinned) this.pinned.replaceChildren(...(source.pinned ? [pin(source.pinned)] : []));
    setText(this.plugin, source.plugin);
    this.#showError(source.error);
    setText(this.revision, source.revision ? number(source.revision) : "–");
    setWhen(this.when, source.at, "–");
    if (before?.activity !== source.activity) setText(this.count, number(setSparkline(this.spark, source.activity)));
    const groups = groupsOf(source.name).map((group) => group.name);
    const sinks = JSON.stringify([source.revision, source.sinks, groups]);
    if (this.shownSinks !== sinks) {
      this.shownSinks = sinks;
      const own = source.sinks.length || groups.length === 0 ? [sinkList(source.sinks, source.revision)] : [];
      const part = groups.length ? [el("span", { class: "muted" }, `in ${groups.join(", ")}`)] : [];
      this.sinks.replaceChildren(...own, ...part);
    }
    this.node.dataset.state = source.state;
  }

  #showError(error) {
    this.error.hidden = !error;
    if (this.shownError === error) return;
    this.shownError = error;
    this.error.replaceChildren(unseen("Error: "), ...worded(error ?? ""));
  }

  /** Highlights the row briefly after a new value. */
  flash() {
    this.node.classList.remove("new");
    requestAnimationFrame(() => this.node.classList.add("new"));
  }
}

export function hasError(source) {
  return Boolean(source.error) || failingSinks(source).length > 0;
}
