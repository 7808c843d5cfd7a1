// Client-side store of sources and groups: the list from the API, updated by events.

import { get } from "./api.js";

const REFRESH_INTERVAL_MS = 60_000;
const REFRESH_DELAY_MS = 1_000;

/** Sort order of the states; 3 is a source without problems. */
const RANKS = { ended: 0, stale: 1, waiting: 2 };

export const sources = new Map();
export let groups = [];
/** Error of the configuration file, if the last reload failed. */
export let configError = null;
/** True after the list was loaded once. */
export let isLoaded = false;

const watchers = new Set();
/** Events that arrived during a refresh; null while no refresh is in progress. */
let queued = null;
let refreshTimer = 0;

/** Calls `watcher({ all, changed })` after each change; returns a function that unregisters it. */
export function watch(watcher) {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

function notify(change) {
  for (const watcher of [...watchers]) watcher(change);
}

/** Loads the list. Events that arrive meanwhile may be newer than the list, so they are applied after it. */
export async function refresh() {
  const events = (queued = queued ?? []);
  try {
    const list = await loadAllPages();
    if (queued !== events) return;
    replaceAll(list);
  } finally {
    if (queued === events) {
      queued = null;
      events.forEach(([kind, data]) => apply(kind, data));
    }
  }
}

/** Returns the list with the sources of all its pages. */
async function loadAllPages() {
  const list = await get("/v1/sources");
  let next = list.next;
  while (next) {
    const page = await get(`/v1/sources?after=${encodeURIComponent(next)}`);
    list.sources.push(...page.sources);
    next = page.next;
  }
  return list;
}

function replaceAll(list) {
  isLoaded = true;
  const names = new Set(list.sources.map((source) => source.name));
  for (const name of sources.keys()) if (!names.has(name)) sources.delete(name);
  for (const source of list.sources) sources.set(source.name, source);
  groups = list.groups;
  configError = list.config_error ?? null;
  notify({ all: true, changed: [...names] });
}

/** Applies an event. */
export function apply(kind, data) {
  if (queued) {
    queued.push([kind, data]);
    return;
  }
  if (kind === "gone") remove(data.source);
  if (kind === "source") change(data);
}

function remove(name) {
  if (!sources.delete(name)) return;
  notify({ changed: [name] });
}

function change(event) {
  const { source: name, ...status } = event;
  const before = sources.get(name);
  if (!before) {
    // An event lacks some fields that the row of a new source needs, so the list is loaded again.
    refreshSoon();
    return;
  }
  sources.set(name, { ...before, ...status, activity: updatedActivity(before, status) });
  notify({ changed: [name] });
  if (groups.some((group) => group.sources.includes(name))) refreshSoon();
}

/** Adds new changes to the count of the last minute. The next refresh replaces the counts by those of the host. */
function updatedActivity(before, status) {
  const changes = Math.max(0, status.revision - before.revision);
  if (changes === 0) return before.activity;
  const activity = [...before.activity];
  activity[activity.length - 1] += changes;
  return activity;
}

/** Schedules a refresh, since events do not contain groups. */
function refreshSoon() {
  if (refreshTimer) return;
  refreshTimer = setTimeout(() => {
    refreshTimer = 0;
    refresh().catch(() => {});
  }, REFRESH_DELAY_MS);
}

/** Refreshes the list periodically while the page is visible. */
export function refreshPeriodically(isLive) {
  setInterval(() => {
    if (isLive() && !document.hidden) refresh().catch(() => {});
  }, REFRESH_INTERVAL_MS);
}

export function forget() {
  sources.clear();
  groups = [];
  isLoaded = false;
  queued = null;
}

/** Returns the groups that contain a source. */
export const groupsOf = (name) => groups.filter((group) => group.sources.includes(name));

export const failingSinks = (source) => source.sinks.filter((sink) => sink.error);

/** Returns the rank of a source in the list. Sources that need attention have a rank below 3 and come first. */
export function rank(source) {
  const isHealthy = !source.error && failingSinks(source).length === 0 && source.state !== "removed";
  return RANKS[source.state] ?? (isHealthy ? 3 : 2);
}

const COLLATOR = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

export function order(one, other) {
  return rank(one) - rank(other) || COLLATOR.compare(one.name, other.name) || (one.name < other.name ? -1 : 1);
}
