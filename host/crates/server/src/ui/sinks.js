// List of sinks with their status, for sources and groups.

import { el, icon, worded } from "./dom.js";
import { plural } from "./format.js";

const MAX_DISPLAYED_SINKS = 3;

/** Returns the icon and the label of a sink's status. `revision` is the current revision, if it is known. */
function sinkStatus(sink, revision) {
  if (sink.error) return ["error", sink.error];
  if (revision === undefined) return sink.revision === null ? ["behind", "no delivery yet"] : ["done", "delivered"];
  if (sink.revision === revision) return ["done", "delivered"];
  if (sink.revision === null) return ["behind", "no delivery yet"];
  return ["behind", `at revision ${sink.revision}`];
}

function item(sink, revision) {
  const [kind, label] = sinkStatus(sink, revision);
  return el("li", { class: "sink", "data-kind": kind }, icon(kind), el("span", {}, el("b", {}, sink.name), " ", el("span", { class: "sink-how" }, worded(label))));
}

/** Returns a list of sinks, failing ones first. `revision` is the current revision, if it is known. */
export function sinkList(sinks, revision, limit = MAX_DISPLAYED_SINKS) {
  if (sinks.length === 0) return el("span", { class: "none" }, "no sinks");
  const sorted = [...sinks].sort((one, other) => Boolean(other.error) - Boolean(one.error));
  const shown = sorted.slice(0, sinks.length === limit + 1 ? limit + 1 : limit);
  const rest = sinks.length - shown.length;
  const list = el("ul", { class: "sinks" }, shown.map((sink) => item(sink, revision)));
  if (rest > 0) list.append(el("li", { class: "none" }, `and ${plural(rest, "more", "more")}`));
  return list;
}
