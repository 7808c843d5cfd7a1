// The present value of a source, as far as it can be shown.

import { bytesOf, pathOf, save, token } from "./api.js";
import { el } from "./dom.js";
import { plural, size } from "./format.js";
import { fill, laidOut, textOf } from "./text.js";

/** What is larger is only offered for download, in bytes. */
const SHOWN_MAX = 256 << 10;

export class ValuePanel {
  #shown = null;

  constructor(name) {
    this.name = name;
    this.note = el("p", { class: "muted note" });
    this.text = el("pre", { class: "code", tabIndex: 0, role: "group", "aria-label": "Text of the value", hidden: true });
    this.node = el(
      "section",
      { class: "panel", "aria-labelledby": "value-title" },
      el("div", { class: "panel-head" }, el("h2", { id: "value-title" }, "Present value"), this.#download()),
      this.note,
      this.text,
    );
  }

  #download() {
    const path = pathOf(this.name, "/value");
    const click = (event) => {
      if (!token.get()) return;
      event.preventDefault();
      save(path, this.name).catch((error) => this.#say(error.message));
    };
    this.link = el("a", { class: "button", href: path, download: this.name, hidden: true, on: { click } }, "Download");
    return this.link;
  }

  /** Shows the value of a revision. */
  async show(detail) {
    const key = `${detail.revision} ${detail.readable} ${detail.size}`;
    if (this.#shown === key) return;
    this.#shown = key;
    const why = reason(detail);
    this.link.hidden = !detail.readable || detail.size === null;
    if (why) {
      this.#say(why);
      return;
    }
    try {
      const { bytes } = await bytesOf(pathOf(this.name, "/value"));
      if (this.#shown === key) this.#draw(textOf(bytes), bytes.byteLength, detail);
    } catch (error) {
      if (this.#shown === key) this.#shown = null;
      this.#say(error.message);
    }
  }

  #draw(text, bytes, { media_type: type }) {
    const what = [type, size(bytes)].filter(Boolean).join(" · ");
    if (text === null) {
      this.#say(`${what}. This is not text: download it to look at it.`);
      return;
    }
    const nice = laidOut(text);
    const secrets = fill(this.text, nice === "" ? " " : nice);
    const hints = [what];
    if (nice.trimEnd() !== text.trimEnd()) hints.push("laid out for reading");
    if (secrets > 0) hints.push(`${plural(secrets, "secret")} hidden`);
    if (bytes === 0) hints.push("empty");
    this.note.textContent = hints.join(" · ");
    this.text.hidden = false;
  }

  #say(text) {
    this.text.hidden = true;
    this.text.replaceChildren();
    this.note.textContent = text;
  }
}

function reason({ readable, size: bytes, state }) {
  if (!readable) return "The values of this source are secrets: the host hands them to its sinks, and gives them out to nobody else.";
  if (bytes === null) return state === "removed" ? "There is no value any more: the source has removed it." : "There is no value yet.";
  if (bytes > SHOWN_MAX) return `${size(bytes)}: too large to be shown here. Download it to look at it.`;
  return null;
}
