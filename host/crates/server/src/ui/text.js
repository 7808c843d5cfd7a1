// Display of values: text detection, JSON formatting, masked secrets.

import { el } from "./dom.js";
import { findSecrets, isJson, jsonTokens } from "./secrets.js";

const MASK = "••••••••";

/** Decodes UTF-8; returns null for binary content. */
export function decodeText(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

/**
 * Formats JSON with one member per line; returns any other text unchanged. The tokens are copied as they are, since
 * parsing and serialising would change large numbers.
 */
export function formatJson(text) {
  if (!isJson(text)) return text;
  let out = "";
  let depth = 0;
  let previous = "";
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of jsonTokens(text)) {
    const closes = token === "}" || token === "]";
    if (closes) depth -= 1;
    if (closes ? !opens(previous) : opens(previous)) out += line();
    if (opens(token)) depth += 1;
    out += token;
    if (token === ",") out += line();
    if (token === ":") out += " ";
    previous = token;
  }
  return `${out}\n`;
}

const opens = (token) => token === "{" || token === "[";

/** Shows a text in an element, with its secrets masked. Returns the number of secrets. */
export function fill(node, text) {
  const secrets = findSecrets(text);
  node.replaceChildren(...pieces(text, 0, secrets));
  return secrets.length;
}

/** Splits a text into plain strings and masked secrets. `offset` is the position of the text in the value, and `secrets` are ranges in the value. */
function pieces(text, offset, secrets) {
  const all = [];
  let done = 0;
  for (const { start, end, name } of secrets) {
    const [from, to] = [Math.max(start - offset, done), Math.min(end - offset, text.length)];
    if (from >= to) continue;
    all.push(text.slice(done, from), maskedSecret(text.slice(from, to), name));
    done = to;
  }
  all.push(text.slice(done));
  return all;
}

function maskedSecret(secret, name) {
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

/** Splits a text into lines. The method `appendTo` of a line shows it in an element, with its secrets masked. */
export function splitLines(text) {
  const secrets = findSecrets(text);
  const lines = [];
  let next = 0;
  for (const match of text.matchAll(/([^\r\n]*)(\r\n|\n|\r|$)/g)) {
    const [start, end] = [match.index, match.index + match[1].length];
    while (next < secrets.length && secrets[next].end <= start) next += 1;
    const inLine = [];
    for (let index = next; index < secrets.length && secrets[index].start < end; index += 1) inLine.push(secrets[index]);
    lines.push({ text: match[1], appendTo: (node) => node.append(...pieces(match[1], start, inLine)) });
  }
  return lines;
}
