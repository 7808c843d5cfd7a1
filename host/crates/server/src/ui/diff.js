// What is different between two revisions, line by line.

import { bytesOf, get, pathOf } from "./api.js";
import { el, unseen } from "./dom.js";
import { plural } from "./format.js";
import { fill, linesOf, textOf } from "./text.js";

const LINES_MAX = 2_000;
const SIGNS = { insert: ["+", "added: "], delete: ["−", "removed: "], equal: ["", ""] };

export class DiffPanel {
  #shown = null;

  constructor(name) {
    this.name = name;
    this.title = el("h3", {}, "Differences");
    this.note = el("p", { class: "muted note", role: "status" });
    this.box = el("div", { class: "diff-box" });
    this.node = el("div", { class: "diff-part" }, this.title, this.note, this.box);
  }

  say(text) {
    this.#shown = null;
    this.note.textContent = text;
    this.box.replaceChildren();
  }

  async show(from, to) {
    const key = `${from} ${to}`;
    if (this.#shown === key) return;
    this.#shown = key;
    this.title.textContent = `From revision ${from} to ${to}`;
    try {
      // Those that cannot be compared are not worth being read.
      const diff = await get(pathOf(this.name, `/diff?from=${from}&to=${to}`));
      const [old, now] = await Promise.all([this.#lines(from), this.#lines(to)]);
      if (this.#shown === key) this.#draw(diff.lines, old, now);
    } catch (error) {
      if (this.#shown !== key) return;
      this.say(error.message);
      // What the host has refused it refuses again; what is lost may come.
      if (error.status >= 400 && error.status < 500) this.#shown = key;
    }
  }

  /** The diff alone does not tell whether a line stands below the name of a secret. */
  async #lines(revision) {
    const { bytes } = await bytesOf(pathOf(this.name, `/value?revision=${revision}`));
    const text = textOf(bytes);
    return text === null ? [] : linesOf(text);
  }

  #draw(lines, old, now) {
    const count = (kind) => lines.filter((line) => line.kind === kind).length;
    const [added, removed] = [count("insert"), count("delete")];
    if (added + removed === 0) {
      this.note.textContent = "The two values are the same.";
      this.box.replaceChildren();
      return;
    }
    const more = lines.length - LINES_MAX;
    const hints = [`${plural(added, "line")} added, ${removed} removed`];
    if (more > 0) hints.push(`${plural(more, "more line")} not shown here`);
    this.note.textContent = hints.join(" · ");
    this.box.replaceChildren(table(lines.slice(0, LINES_MAX), old, now));
  }
}

function table(lines, old, now) {
  return el(
    "table",
    { class: "diff" },
    el("caption", { class: "unseen" }, "Differences, line by line"),
    el("thead", { class: "unseen" }, el("tr", {}, ["Line before", "Line after", "Text"].map((title) => el("th", { scope: "col" }, title)))),
    el("tbody", {}, lines.map((line) => row(line, old, now))),
  );
}

function row(line, old, now) {
  if (line.kind === "skip") {
    return el("tr", { class: "skip" }, el("td", { colSpan: 3 }, line.text));
  }
  const [sign, word] = SIGNS[line.kind];
  const text = el("span", { class: "diff-text" });
  const known = line.new ? now[line.new - 1] : old[line.old - 1];
  // If the two do not agree on what a line is, what stands in the line has to do.
  if (known?.text === line.text) known.put(text);
  else fill(text, line.text);
  return el(
    "tr",
    { class: line.kind },
    el("td", { class: "line-no" }, line.old ?? ""),
    el("td", { class: "line-no" }, line.new ?? ""),
    el("td", { class: "diff-line" }, word && unseen(word), el("span", { class: "sign", "aria-hidden": "true" }, sign), text),
  );
}
