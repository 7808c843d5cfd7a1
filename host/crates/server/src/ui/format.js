// Times, sizes and counts in words, and small drawings of them.

import { el, svg } from "./dom.js";

const NUMBER = new Intl.NumberFormat("en-GB");
const EXACT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const STEPS = [
  [60, 1, "s"],
  [3600, 60, "min"],
  [86400, 3600, "h"],
  [Infinity, 86400, "d"],
];
const SLOTS = 60;
const BAR = 2;
const HEIGHT = 22;

/** How far the host's clock is ahead of this browser's, in milliseconds. */
let ahead = 0;

/** Learns the host's time from an answer. Its header knows whole seconds only, so little is nothing. */
export function learnTime(header) {
  const host = Date.parse(header ?? "");
  if (Number.isNaN(host)) return;
  const difference = host - Date.now();
  ahead = Math.abs(difference) > 3000 ? difference : 0;
}

export const number = (value) => NUMBER.format(value);
export const exact = (at) => EXACT.format(new Date(at));
export const clock = (at) => CLOCK.format(new Date(at));

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function age(at) {
  const seconds = Math.max(0, Math.floor((Date.now() + ahead - Date.parse(at)) / 1000));
  if (seconds < 2) return "just now";
  const [, unit, name] = STEPS.find(([limit]) => seconds < limit);
  return `${number(Math.floor(seconds / unit))} ${name} ago`;
}

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const [unit, name] = bytes < 1 << 20 ? [1024, "KiB"] : [1 << 20, "MiB"];
  const value = bytes / unit;
  return `${value < 10 ? value.toFixed(1) : number(Math.round(value))} ${name}`;
}

export function seconds(value) {
  if (value < 0.0001) return "under 0.1 ms";
  return value < 1 ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(1)} s`;
}

/** A time as an age, which `tick` keeps true. */
export function when(at, none = "never") {
  const node = el("time", { class: "age" });
  setWhen(node, at, none);
  return node;
}

export function setWhen(node, at, none = "never") {
  if (at) {
    if (node.dateTime !== at) {
      node.dateTime = at;
      node.title = exact(at);
    }
    retell(node);
  } else {
    node.removeAttribute("datetime");
    node.removeAttribute("title");
    node.textContent = none;
  }
}

function retell(node) {
  const text = age(node.dateTime);
  if (node.firstChild?.data !== text) node.textContent = text;
}

/** Lets all ages that are on the page go on. */
export function tick(root) {
  for (const node of root.getElementsByClassName("age")) if (node.dateTime) retell(node);
}

/** A bar for each of the last 60 minutes. */
export function sparkline() {
  const line = svg("path", { class: "spark-base", d: `M0 ${HEIGHT - 0.5}H${SLOTS * BAR}` });
  const bars = svg("path", { class: "spark-bars" });
  return svg("svg", { class: "spark", viewBox: `0 0 ${SLOTS * BAR} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" }, line, bars);
}

export function setSparkline(node, activity) {
  const all = activity.reduce((sum, count) => sum + count, 0);
  const most = Math.max(4, ...activity);
  // The root lets a single change be seen beside many.
  const height = (count) => Math.max(3, (HEIGHT - 2) * Math.sqrt(count / most)).toFixed(1);
  const bar = (count, index) => (count ? `M${index * BAR + 1} ${HEIGHT - 1}v-${height(count)}` : "");
  const path = activity.map(bar).join("");
  const bars = node.lastChild;
  if (bars.getAttribute("d") === path && node.hasAttribute("aria-label")) return all;
  bars.setAttribute("d", path);
  node.setAttribute("aria-label", `${plural(all, "change")} in the last hour`);
  return all;
}
