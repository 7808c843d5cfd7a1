// How sinks are, in words and shapes: of sources, and of groups.

import { el, icon, worded } from "./dom.js";
import { plural } from "./format.js";

const SHOWN = 3;

/** How a sink is: what its icon is, and what is said of it. */
function how(sink, revision) {
  if (sink.trouble) return ["trouble", sink.trouble];
  if (revision === undefined) return sink.revision === null ? ["behind", "nothing yet"] : ["done", "delivered"];
  if (sink.revision === revision) return ["done", "delivered"];
  if (sink.revision === null) return ["behind", "nothing yet"];
  return ["behind", `at revision ${sink.revision}`];
}

function item(sink, revision) {
  const [kind, words] = how(sink, revision);
  return el("li", { class: "sink", "data-kind": kind }, icon(kind), el("span", {}, el("b", {}, sink.name), " ", el("span", { class: "sink-how" }, worded(words))));
}

/** Those that fail come first. `revision` is what they should have, if that is known. */
export function sinkList(sinks, revision, most = SHOWN) {
  if (sinks.length === 0) return el("span", { class: "none" }, "no sinks");
  const sorted = [...sinks].sort((one, other) => Boolean(other.trouble) - Boolean(one.trouble));
  const shown = sorted.slice(0, sinks.length === most + 1 ? most + 1 : most);
  const rest = sinks.length - shown.length;
  const list = el("ul", { class: "sinks" }, shown.map((sink) => item(sink, revision)));
  if (rest > 0) list.append(el("li", { class: "none" }, `and ${plural(rest, "more", "more")}`));
  return list;
}
