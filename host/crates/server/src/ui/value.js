// Panel with the current value of a source.

import { fetchBytes, save, sourcePath, token } from "./api.js";
import { el } from "./dom.js";
import { plural, size } from "./format.js";
import { decodeText, fill, formatJson } from "./text.js";

/** Upper bound of a value that is displayed. Larger values are only offered for download. */
const MAX_DISPLAYED_BYTES = 256 << 10;

export class ValuePanel {
  #shown = null;

  constructor(name) {
    this.name = name;
    this.note = el("p", { class: "muted note" });
    this.text = el("pre", { class: "code", tabIndex: 0, role: "group", "aria-label": "Text of the value", hidden: true });
    this.node = el(
      "section",
      { class: "panel", "aria-labelledby": "value-title" },
      el("div", { class: "panel-head" }, el("h2", { id: "value-title" }, "Current value"), this.#download()),
      this.note,
      this.text,
    );
  }

  #download() {
    const path = sourcePath(this.name, "/value");
    const click = (event) => {
      if (!token.get()) return;
      event.preventDefault();
      save(path, this.name).catch((error) => this.#showNote(error.message));
    };
    this.link = el("a", { class: "button", href: path, download: this.name, hidden: true, on: { click } }, "Download");
    return this.link;
  }

  /** Loads and shows the current value, if it has changed. */
  async show(detail) {
    const key = `${detail.revision} ${detail.readable} ${detail.size}`;
    if (this.#shown === key) return;
    this.#shown = key;
    const reason = hiddenReason(detail);
    this.link.hidden = !detail.readable || detail.size === null;
    if (reason) {
      this.#showNote(reason);
      return;
    }
    try {
      const { bytes } = await fetchBytes(sourcePath(this.name, "/value"));
      if (this.#shown === key) this.#draw(decodeText(bytes), bytes.byteLength, detail);
    } catch (error) {
      if (this.#shown === key) this.#shown = null;
      this.#showNote(error.message);
    }
  }

  #draw(text, bytes, { media_type: type }) {
    const facts = [type, size(bytes)].filter(Boolean).join(" · ");
    if (text === null) {
      this.#showNote(`${facts}. Binary content: download it to inspect it.`);
      return;
    }
    const formatted = formatJson(text);
    const secrets = fill(this.text, formatted === "" ? " " : formatted);
    const hints = [facts];
    if (formatted.trimEnd() !== text.trimEnd()) hints.push("formatted");
    if (secrets > 0) hints.push(`${plural(secrets, "secret")} hidden`);
    if (bytes === 0) hints.push("empty");
    this.note.textContent = hints.join(" · ");
    this.text.hidden = false;
  }

  #showNote(text) {
    this.text.hidden = true;
    this.text.replaceChildren();
    this.note.textContent = text;
  }
}

/** Returns the reason why the value is not displayed; null if it is displayed. */
function hiddenReason({ readable, size: bytes, state }) {
  if (!readable) return "The values of this source are secret: the host delivers them only to sinks.";
  if (bytes === null) return state === "removed" ? "No value: the source no longer has one." : "No value yet.";
  if (bytes > MAX_DISPLAYED_BYTES) return `${size(bytes)}: too large to display. Download it to inspect it.`;
  return null;
}
