// What is known of the sources and groups: the host's list, kept up to date by its events.

import { get } from "./api.js";

const REFRESH = 60_000;
const SOON = 1_000;

const RANKS = { ended: 0, stale: 1, waiting: 2 };

export const sources = new Map();
export let groups = [];
/** Why the configuration file is not in use as it is now. */
export let configTrouble = null;
/** Whether the list has been read once. */
export let isKnown = false;

const watchers = new Set();
let waiting = null;
let soon = 0;

/** Calls `watcher({ all, changed })` after changes; gives a function that ends it. */
export function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

function tell(news) {
  for (const watcher of [...watchers]) watcher(news);
}

/** Reads the whole list. What is said meanwhile counts after it, as it may be newer. */
export async function refresh() {
  const mine = (waiting = waiting ?? []);
  try {
    const list = await get("/v1/sources");
    if (waiting !== mine) return;
    take(list);
  } finally {
    if (waiting === mine) {
      waiting = null;
      mine.forEach(([kind, data]) => apply(kind, data));
    }
  }
}

function take(list) {
  isKnown = true;
  const names = new Set(list.sources.map((source) => source.name));
  for (const name of sources.keys()) if (!names.has(name)) sources.delete(name);
  for (const source of list.sources) sources.set(source.name, source);
  groups = list.groups;
  configTrouble = list.config_trouble ?? null;
  tell({ all: true, changed: [...names] });
}

export function apply(kind, data) {
  if (waiting) {
    waiting.push([kind, data]);
    return;
  }
  if (kind === "gone") remove(data.source);
  if (kind === "source") change(data);
}

function remove(name) {
  if (!sources.delete(name)) return;
  tell({ changed: [name] });
}

function change(event) {
  const { source: name, ...status } = event;
  const before = sources.get(name);
  if (!before) {
    // An event does not say all of a new one.
    refreshSoon();
    return;
  }
  sources.set(name, { ...before, ...status, activity: withChanges(before, status) });
  tell({ changed: [name] });
  if (groups.some((group) => group.sources.includes(name))) refreshSoon();
}

/** The present minute of the drawing goes on by itself; the next list puts it right. */
function withChanges(before, status) {
  const more = Math.max(0, status.revision - before.revision);
  if (more === 0) return before.activity;
  const activity = [...before.activity];
  activity[activity.length - 1] += more;
  return activity;
}

/** Events say nothing of groups. */
function refreshSoon() {
  if (soon) return;
  soon = setTimeout(() => {
    soon = 0;
    refresh().catch(() => {});
  }, SOON);
}

/** Reads the list again from time to time, while somebody looks. */
export function keepFresh(isLive) {
  setInterval(() => {
    if (isLive() && !document.hidden) refresh().catch(() => {});
  }, REFRESH);
}

export function forget() {
  sources.clear();
  groups = [];
  isKnown = false;
  waiting = null;
}

/** The groups that a source is a part of. */
export const groupsOf = (name) => groups.filter((group) => group.sources.includes(name));

export const failing = (source) => source.sinks.filter((sink) => sink.trouble);

/** What needs attention comes first. */
export function rank(source) {
  const isWell = !source.trouble && failing(source).length === 0 && source.state !== "removed";
  return RANKS[source.state] ?? (isWell ? 3 : 2);
}

const COLLATOR = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

export function order(one, other) {
  return rank(one) - rank(other) || COLLATOR.compare(one.name, other.name) || (one.name < other.name ? -1 : 1);
}
