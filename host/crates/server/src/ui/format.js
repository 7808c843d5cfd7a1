// Formatting of times, sizes and counts, and sparklines.

import { el, svg } from "./dom.js";

const NUMBER = new Intl.NumberFormat("en-GB");
const EXACT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
/** Units of an age: upper bound and size in seconds, and symbol. */
const AGE_UNITS = [
  [60, 1, "s"],
  [3600, 60, "min"],
  [86400, 3600, "h"],
  [Infinity, 86400, "d"],
];
const SPARKLINE_BARS = 60;
const BAR_WIDTH = 2;
const SPARKLINE_HEIGHT = 22;

/** Offset of the host's clock from the clock of the browser, in milliseconds. */
let clockOffset = 0;

/** Measures the clock offset with the `Date` header of a response. The header has a resolution of one second, so small
 * differences are ignored. */
export function syncClock(header) {
  const host = Date.parse(header ?? "");
  if (Number.isNaN(host)) return;
  const difference = host - Date.now();
  clockOffset = Math.abs(difference) > 3000 ? difference : 0;
}

export const number = (value) => NUMBER.format(value);
export const exact = (at) => EXACT.format(new Date(at));
export const clock = (at) => CLOCK.format(new Date(at));

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function age(at) {
  const seconds = Math.max(0, Math.floor((Date.now() + clockOffset - Date.parse(at)) / 1000));
  if (seconds < 2) return "just now";
  const [, unit, name] = AGE_UNITS.find(([limit]) => seconds < limit);
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

/** Returns an element that shows the age of a time. `tick` updates it. */
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
    updateAge(node);
  } else {
    node.removeAttribute("datetime");
    node.removeAttribute("title");
    node.textContent = none;
  }
}

function updateAge(node) {
  const text = age(node.dateTime);
  if (node.firstChild?.data !== text) node.textContent = text;
}

/** Updates all ages on the page. */
export function tick(root) {
  for (const node of root.getElementsByClassName("age")) if (node.dateTime) updateAge(node);
}

/** Returns a sparkline with one bar for each of the last 60 minutes. */
export function sparkline() {
  const line = svg("path", { class: "spark-base", d: `M0 ${SPARKLINE_HEIGHT - 0.5}H${SPARKLINE_BARS * BAR_WIDTH}` });
  const bars = svg("path", { class: "spark-bars" });
  return svg("svg", { class: "spark", viewBox: `0 0 ${SPARKLINE_BARS * BAR_WIDTH} ${SPARKLINE_HEIGHT}`, role: "img", preserveAspectRatio: "none" }, line, bars);
}

export function setSparkline(node, activity) {
  const all = activity.reduce((sum, count) => sum + count, 0);
  const most = Math.max(4, ...activity);
  // The square root keeps a bar of one change visible beside bars of many changes.
  const height = (count) => Math.max(3, (SPARKLINE_HEIGHT - 2) * Math.sqrt(count / most)).toFixed(1);
  const bar = (count, index) => (count ? `M${index * BAR_WIDTH + 1} ${SPARKLINE_HEIGHT - 1}v-${height(count)}` : "");
  const path = activity.map(bar).join("");
  const bars = node.lastChild;
  if (bars.getAttribute("d") === path && node.hasAttribute("aria-label")) return all;
  bars.setAttribute("d", path);
  node.setAttribute("aria-label", `${plural(all, "change")} in the last hour`);
  return all;
}
