// Side panel of a source: facts, sinks, grants and counters.

import { el, setText, worded } from "./dom.js";
import { number, plural, seconds, setSparkline, setWhen, size, sparkline, when } from "./format.js";
import { sinkList } from "./sinks.js";
import { groupsOf } from "./store.js";

const STRATEGIES = {
  polling: "polling: read at an interval",
  realtime: "realtime: watch for changes",
  hybrid: "hybrid: watch, with polling as fallback",
};

const COUNTERS = [
  ["changes", "New values", number],
  ["removals", "Removals", number],
  ["rejected_values", "Rejected values", number],
  ["reads", "Reads", number],
  ["read_failures", "Failed reads", number],
  ["watches", "Watches opened", number],
  ["watch_failures", "Failed watches", number],
  ["crashes", "Plugin crashes", number],
  ["denied_accesses", "Denied accesses", number],
  ["cpu_seconds", "CPU time", seconds],
  ["memory", "Memory", size],
  ["reaction_seconds", "Mean reaction time", seconds],
];

export class FactsPanel {
  constructor() {
    this.changed = when(null);
    this.success = when(null);
    this.revision = el("dd", { class: "num" });
    this.plugin = el("dd", {});
    this.strategy = el("dd", {});
    this.spark = sparkline();
    this.count = el("span", { class: "muted" });
    this.sinks = el("div", {});
    this.reach = el("div", {});
    this.counters = el("dl", { class: "facts narrow" });
    this.node = el("div", { class: "side" }, this.#facts(), panel("Sinks", this.sinks), panel("Grants of the plugin", this.reach), panel("Since the host started", this.counters));
  }

  #facts() {
    const fact = (title, value) => [el("dt", {}, title), value.nodeName === "DD" ? value : el("dd", {}, value)];
    const activity = el("div", { class: "activity" }, this.spark, this.count);
    return panel("Summary", el("dl", { class: "facts" }, fact("Revision", this.revision), fact("Changed", this.changed), fact("Last confirmed", this.success), fact("Last hour", activity), fact("Plugin", this.plugin), fact("Strategy", this.strategy)));
  }

  show(detail) {
    setText(this.revision, detail.revision ? number(detail.revision) : "none yet");
    setWhen(this.changed, detail.at);
    setWhen(this.success, detail.last_success_at);
    setText(this.count, plural(setSparkline(this.spark, detail.activity), "change"));
    setText(this.plugin, detail.plugin);
    setText(this.strategy, STRATEGIES[detail.strategy] ?? detail.strategy);
    const groups = groupsOf(detail.name);
    this.#update("sinks", [detail.sinks, detail.revision, groups], () => sinks(detail, groups));
    this.#update("reach", [detail.granted, detail.denied], () => reach(detail));
    this.#update("counters", detail.counters, () => counters(detail.counters));
  }

  /** Renders a part again if its key has changed. */
  #update(part, key, make) {
    const text = JSON.stringify(key);
    if (this[part].shown === text) return;
    this[part].shown = text;
    this[part].replaceChildren(...[make()].flat());
  }
}

export function panel(title, ...children) {
  return el("section", { class: "panel" }, el("h2", {}, title), children);
}

/** Renders the sinks of the source, and those of its groups. */
function sinks({ sinks, revision }, groups) {
  const own = sinks.length || groups.length === 0 ? [sinkList(sinks, revision, Infinity)] : [];
  const ofGroup = ({ name, sinks }) => [el("h3", {}, `Group ${name}`), sinkList(sinks, undefined, Infinity)];
  return [...own, ...groups.flatMap(ofGroup)];
}

function reach({ granted, denied }) {
  const allowed = granted.length ? el("ul", { class: "plain" }, granted.map((grant) => el("li", {}, el("code", {}, grant)))) : el("p", { class: "muted" }, "No grants.");
  if (denied.length === 0) return [allowed, el("p", { class: "muted" }, "No access was denied.")];
  const item = ({ description, count }) => el("li", {}, worded(description), " ", el("span", { class: "times" }, `${number(count)} ×`));
  return [allowed, el("h3", {}, "Denied accesses"), el("ul", { class: "plain denied" }, denied.map(item))];
}

function counters(all) {
  const shown = COUNTERS.filter(([key]) => all[key] !== null && all[key] !== undefined);
  return shown.flatMap(([key, title, words]) => [el("dt", {}, title), el("dd", { class: "num" }, words(all[key]))]);
}
