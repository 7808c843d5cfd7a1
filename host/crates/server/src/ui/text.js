// Texts as they are shown: JSON laid out, secrets behind a button, bytes told from text.

import { el } from "./dom.js";
import { isJson, jsonParts, secretsIn } from "./secrets.js";

const MASK = "••••••••";

/** The text of bytes; `null` if they are none. */
export function textOf(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

/**
 * JSON with a line for each member; any other text as it is. What the parts are is left alone:
 * reading and writing them would change large numbers.
 */
export function laidOut(text) {
  if (!isJson(text)) return text;
  let out = "";
  let depth = 0;
  let previous = "";
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [part] of jsonParts(text)) {
    const closes = part === "}" || part === "]";
    if (closes) depth -= 1;
    if (closes ? !opens(previous) : opens(previous)) out += line();
    if (opens(part)) depth += 1;
    out += part;
    if (part === ",") out += line();
    if (part === ":") out += " ";
    previous = part;
  }
  return `${out}\n`;
}

const opens = (part) => part === "{" || part === "[";

/** Puts a text into an element; a secret in it stands behind a button. Gives how many there are. */
export function fill(node, text) {
  const secrets = secretsIn(text);
  node.replaceChildren(...pieces(text, 0, secrets));
  return secrets.length;
}

function pieces(text, offset, secrets) {
  const all = [];
  let done = 0;
  for (const { start, end, name } of secrets) {
    const [from, to] = [Math.max(start - offset, done), Math.min(end - offset, text.length)];
    if (from >= to) continue;
    all.push(text.slice(done, from), hidden(text.slice(from, to), name));
    done = to;
  }
  all.push(text.slice(done));
  return all;
}

function hidden(secret, name) {
  const shown = el("span", { class: "mask" }, MASK);
  const button = el("button", { type: "button", class: "show", "aria-label": `show ${name}`, "aria-pressed": "false" }, "show");
  let isShown = false;
  button.addEventListener("click", () => {
    isShown = !isShown;
    shown.textContent = isShown ? secret : MASK;
    shown.classList.toggle("mask", !isShown);
    button.textContent = isShown ? "hide" : "show";
    button.setAttribute("aria-label", `${isShown ? "hide" : "show"} ${name}`);
    button.setAttribute("aria-pressed", String(isShown));
  });
  return el("span", { class: "secret" }, shown, button);
}

/** The lines of a text: `put` puts one into an element, with its secrets hidden. */
export function linesOf(text) {
  const secrets = secretsIn(text);
  const lines = [];
  let next = 0;
  for (const match of text.matchAll(/([^\r\n]*)(\r\n|\n|\r|$)/g)) {
    const [start, end] = [match.index, match.index + match[1].length];
    while (next < secrets.length && secrets[next].end <= start) next += 1;
    const its = [];
    for (let at = next; at < secrets.length && secrets[at].start < end; at += 1) its.push(secrets[at]);
    lines.push({ text: match[1], put: (node) => node.append(...pieces(match[1], start, its)) });
  }
  return lines;
}
