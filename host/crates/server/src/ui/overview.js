// Overview: the list of sources, those that need attention first, and the groups.

import { token } from "./api.js";
import { el, icon, setText, worded } from "./dom.js";
import { number, plural } from "./format.js";
import { Row, hasError } from "./row.js";
import { sinkList } from "./sinks.js";
import { configError, groups, isLoaded, order, rank, sources, watch } from "./store.js";

const STATES = ["current", "stale", "waiting", "removed", "ended"];
const COLUMNS = ["State", "Source", "Revision", "Changed", "Last hour", "Sinks"];

/** Filter and scroll position, kept while another view is open. */
const kept = { filter: "", state: null, scroll: 0 };

class Overview {
  rows = new Map();
  sorted = [];
  dirty = new Set();
  isAllDirty = false;
  frame = 0;
  chips = new Map();

  constructor(root) {
    this.summary = el("p", { class: "lead" });
    this.chipBox = el("div", { class: "chips", role: "group", "aria-label": "Show only" });
    this.filter = this.#filterBox();
    this.config = el("div", { class: "notice bad", role: "status", hidden: true });
    this.shown = el("p", { class: "shown muted", role: "status" });
    this.body = el("tbody", { role: "rowgroup" });
    const header = (title, index) => el("th", { scope: "col", role: "columnheader", class: `h-${index}` }, title);
    this.table = el(
      "table",
      { class: "sources", role: "table" },
      el("caption", { class: "unseen" }, "Sources, those that need attention first"),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, COLUMNS.map(header))),
      this.body,
    );
    this.empty = el("div", { class: "empty", hidden: true });
    this.groups = el("section", { class: "groups", "aria-labelledby": "groups-title", hidden: true });
    root.replaceChildren(
      el("div", { class: "head" }, el("h1", { tabIndex: -1 }, "Sources"), this.summary),
      this.config,
      el("div", { class: "tools" }, this.chipBox, this.filter),
      this.shown,
      this.table,
      this.empty,
      this.groups,
    );
    this.#readAll();
    this.unwatch = watch((change) => this.#changed(change));
    scrollTo(0, kept.scroll);
  }

  close() {
    kept.scroll = scrollY;
    cancelAnimationFrame(this.frame);
    this.unwatch();
  }

  #filterBox() {
    const input = el("input", { type: "search", id: "filter", placeholder: "Filter by name or state", value: kept.filter, autocomplete: "off", on: { input: () => this.#filterBy(input.value, kept.state) } });
    return el("label", { class: "filter" }, el("span", { class: "unseen" }, "Filter by name or state"), input);
  }

  #filterBy(text, state) {
    kept.filter = text;
    kept.state = state;
    this.#scheduleDraw();
  }

  #changed({ all, changed }) {
    if (all) this.isAllDirty = true;
    for (const name of changed) this.dirty.add(name);
    this.#scheduleDraw();
  }

  /** Schedules one redraw for all changes until the next animation frame. */
  #scheduleDraw() {
    if (this.frame) return;
    const draw = () => {
      if (!this.frame) return;
      this.frame = 0;
      clearTimeout(late);
      this.#draw();
    };
    this.frame = requestAnimationFrame(draw);
    // A hidden tab has no animation frames.
    const late = setTimeout(draw, 500);
  }

  #draw() {
    if (this.isAllDirty) this.#readAll();
    else for (const name of this.dirty) this.#updateRow(name, true);
    this.dirty.clear();
    this.#applyFilter();
    this.#counts();
  }

  #readAll() {
    this.isAllDirty = false;
    for (const name of [...this.rows.keys()]) if (!sources.has(name)) this.#remove(name);
    if (this.rows.size === 0) this.#fill();
    else for (const name of sources.keys()) this.#updateRow(name, false);
    this.#groups();
    this.#config();
    this.#applyFilter();
    this.#counts();
  }

  #fill() {
    for (const source of sources.values()) this.rows.set(source.name, new Row(source));
    this.sorted = [...this.rows.values()].sort((one, other) => order(one.source, other.source));
    this.body.replaceChildren(...this.sorted.map((row) => row.node));
  }

  #updateRow(name, isEvent) {
    const source = sources.get(name);
    const row = this.rows.get(name);
    if (!source) return this.#remove(name);
    if (!row) return this.#insert(new Row(source));
    if (row.source === source) return;
    const { source: before } = row;
    row.show(source);
    if (rank(before) !== rank(source)) this.#move(row);
    if (isEvent && before.revision !== source.revision) row.flash();
  }

  #remove(name) {
    const row = this.rows.get(name);
    if (!row) return;
    this.rows.delete(name);
    this.sorted.splice(this.sorted.indexOf(row), 1);
    row.node.remove();
  }

  #insert(row) {
    let [low, high] = [0, this.sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (order(this.sorted[middle].source, row.source) < 0) low = middle + 1;
      else high = middle;
    }
    this.body.insertBefore(row.node, this.sorted[low]?.node ?? null);
    this.sorted.splice(low, 0, row);
    this.rows.set(row.source.name, row);
  }

  /** Moves a row to its sorted position, without losing the keyboard focus. */
  #move(row) {
    const focused = row.node.contains(document.activeElement) ? document.activeElement : null;
    this.sorted.splice(this.sorted.indexOf(row), 1);
    this.#insert(row);
    focused?.focus({ preventScroll: true });
  }

  #applyFilter() {
    const words = kept.filter.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of this.sorted) {
      const isIn = hasState(row.source, kept.state) && words.every((word) => row.text.includes(word));
      if (row.node.hidden === isIn) row.node.hidden = !isIn;
      if (isIn) count += 1;
    }
    const isFiltered = words.length > 0 || kept.state !== null;
    setText(this.shown, isFiltered ? `${plural(count, "source")} of ${number(this.sorted.length)} shown` : "");
    this.table.hidden = count === 0;
    this.#showEmpty(count, isFiltered);
  }

  #showEmpty(count, isFiltered) {
    this.empty.hidden = count > 0;
    if (count > 0) return;
    if (!isLoaded) this.empty.replaceChildren(el("p", {}, "Loading the sources …"));
    else if (isFiltered) this.empty.replaceChildren(el("p", {}, "No source matches."), el("button", { type: "button", on: { click: () => this.#showAll() } }, "Show all"));
    else this.empty.replaceChildren(el("h2", {}, "No sources"), el("p", {}, token.get() ? "This token may access no source, or the configuration has none." : "Add a [[source]] to the configuration. It appears here when the file is saved."));
  }

  #showAll() {
    this.filter.querySelector("input").value = "";
    this.#filterBy("", null);
    this.filter.querySelector("input").focus();
  }

  #counts() {
    const all = [...sources.values()];
    const count = (state) => all.filter((source) => hasState(source, state)).length;
    const unhealthy = all.filter((source) => rank(source) < 3).length;
    setText(this.summary, summary(all.length, unhealthy));
    document.title = unhealthy ? `(${unhealthy}) Sources · Reloader` : "Sources · Reloader";
    this.#chip(null, "all", all.length);
    for (const state of STATES) this.#chip(state, state, count(state));
    this.#chip("error", "with errors", count("error"));
    this.#chip("pinned", "pinned", count("pinned"));
    this.chipBox.hidden = all.length === 0;
  }

  #chip(state, word, count) {
    if (!this.chips.has(state)) {
      const amount = el("b", { class: "num" });
      const click = () => this.#filterBy(kept.filter, kept.state === state ? null : state);
      const button = el("button", { type: "button", class: "chip", "data-state": state ?? "all", on: { click } }, state && icon(state), amount, el("span", {}, word));
      this.chips.set(state, { button, amount });
      this.chipBox.append(button);
    }
    const { button, amount } = this.chips.get(state);
    setText(amount, number(count));
    button.hidden = count === 0 && kept.state !== state;
    button.setAttribute("aria-pressed", String(kept.state === state));
  }

  #config() {
    this.config.hidden = !configError;
    if (this.shownConfig === configError) return;
    this.shownConfig = configError;
    const lines = (configError ?? "").split("\n").map((line) => el("p", {}, worded(line)));
    this.config.replaceChildren(el("p", {}, el("b", {}, "The configuration file is invalid; the previous configuration is still in effect.")), ...lines);
  }

  #groups() {
    const shown = JSON.stringify(groups);
    if (this.shownGroups === shown) return;
    this.shownGroups = shown;
    this.groups.hidden = groups.length === 0;
    this.groups.replaceChildren(el("h2", { id: "groups-title" }, "Groups"), el("p", { class: "muted" }, "Sinks that combine several sources."), el("ul", { class: "cards" }, groups.map(groupCard)));
  }
}

function summary(all, unhealthy) {
  if (all === 0) return "";
  if (unhealthy === 0) return all === 1 ? "The source is healthy." : `All ${number(all)} sources are healthy.`;
  return `${number(unhealthy)} of ${plural(all, "source")} ${unhealthy === 1 ? "needs" : "need"} attention.`;
}

function groupCard(group) {
  const link = (name) => el("li", {}, el("a", { href: `#/source/${encodeURIComponent(name)}` }, name));
  return el("li", { class: "card" }, el("h3", {}, group.name), el("p", { class: "label-line" }, "Sources"), el("ul", { class: "links" }, group.sources.map(link)), el("p", { class: "label-line" }, "Sinks"), sinkList(group.sinks, undefined));
}

function hasState(source, state) {
  if (state === null) return true;
  if (state === "error") return hasError(source);
  if (state === "pinned") return Boolean(source.pinned);
  return source.state === state;
}

export function showOverview(root) {
  const view = new Overview(root);
  return () => view.close();
}
