// Panel with the line-by-line difference between two revisions.

import { fetchBytes, get, sourcePath } from "./api.js";
import { el, unseen } from "./dom.js";
import { plural } from "./format.js";
import { decodeText, fill, splitLines } from "./text.js";

const MAX_DISPLAYED_LINES = 2_000;
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

  showNote(text) {
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
      // The values are loaded only if the host can compare them.
      const diff = await get(sourcePath(this.name, `/diff?from=${from}&to=${to}`));
      const [old, now] = await Promise.all([this.#lines(from), this.#lines(to)]);
      if (this.#shown === key) this.#draw(diff.lines, old, now);
    } catch (error) {
      if (this.#shown !== key) return;
      this.showNote(error.message);
      // A client error (status 4xx) is permanent, so these revisions are not requested again.
      if (error.status >= 400 && error.status < 500) this.#shown = key;
    }
  }

  /** Loads the lines of a value. Secrets are detected in the whole value, since a secret may be on a line below its key. */
  async #lines(revision) {
    const { bytes } = await fetchBytes(sourcePath(this.name, `/value?revision=${revision}`));
    const text = decodeText(bytes);
    return text === null ? [] : splitLines(text);
  }

  #draw(lines, old, now) {
    const count = (kind) => lines.filter((line) => line.kind === kind).length;
    const [added, removed] = [count("insert"), count("delete")];
    if (added + removed === 0) {
      this.note.textContent = "The values are identical.";
      this.box.replaceChildren();
      return;
    }
    const more = lines.length - MAX_DISPLAYED_LINES;
    const hints = [`${plural(added, "line")} added, ${removed} removed`];
    if (more > 0) hints.push(`${plural(more, "more line")} not displayed`);
    this.note.textContent = hints.join(" · ");
    this.box.replaceChildren(table(lines.slice(0, MAX_DISPLAYED_LINES), old, now));
  }
}

function table(lines, old, now) {
  return el(
    "table",
    { class: "diff" },
    el("caption", { class: "unseen" }, "Differences, line by line"),
    el("thead", { class: "unseen" }, el("tr", {}, ["Old line", "New line", "Text"].map((title) => el("th", { scope: "col" }, title)))),
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
  // The host and the browser may split lines differently. Then secrets are detected in the single line only.
  if (known?.text === line.text) known.appendTo(text);
  else fill(text, line.text);
  return el(
    "tr",
    { class: line.kind },
    el("td", { class: "line-no" }, line.old ?? ""),
    el("td", { class: "line-no" }, line.new ?? ""),
    el("td", { class: "diff-line" }, word && unseen(word), el("span", { class: "sign", "aria-hidden": "true" }, sign), text),
  );
}
