// Heuristic detection of secrets in a text, so that the page can mask them.

const NAMES = /(password|passwd|passphrase|secret|token|credential|bearer|authorization|(api|access|private|secret|master|signing|encryption|ssh)_?key)s?\d*(_|$)|(^|_)(pwd|pass)(_|$)/;
const KEY = /(^|[\s,{[(&?;"'-])(["']?)([\w.-]{1,80})\2\s*(:=|=>|[:=])\s*/g;
const ELEMENT = /<([\w.:-]{1,80})[^<>]*>([^<]+)</g;
const IN_ADDRESS = /:\/\/[^\s:@/]*:([^\s@/]+)@/g;
const PEM = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;
const SECTION = /^\s*\[{1,2}\s*([^[\]]{1,80})\]/;

/** Returns true if a key names a secret, in any style of capitals and separators. */
export function isSecretName(key) {
  const name = key.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase().replace(/[^a-z0-9]+/g, "_");
  return NAMES.test(name);
}

/** Returns the ranges of secrets, `{ start, end, name }`, sorted and without overlaps. */
export function findSecrets(text) {
  const found = isJson(text) ? inJson(text) : inLines(text);
  for (const match of text.matchAll(PEM)) found.push(range(match.index, match[0].length, "private key"));
  for (const match of text.matchAll(IN_ADDRESS)) {
    found.push(range(match.index + match[0].length - 1 - match[1].length, match[1].length, "password"));
  }
  return merged(found);
}

const range = (start, length, name) => ({ start, end: start + length, name });

function merged(found) {
  const all = [];
  for (const next of found.sort((one, other) => one.start - other.start || other.end - one.end)) {
    const last = all.at(-1);
    if (!last || next.start >= last.end) all.push({ ...next });
    else last.end = Math.max(last.end, next.end);
  }
  return all;
}

export function isJson(text) {
  if (!/^\s*[[{"]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Returns the tokens of a JSON text, with their positions. */
export function* jsonTokens(text) {
  for (const match of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{},:]|[^\s[\]{},:"]+/g)) yield [match[0], match.index];
}

/** Finds values below a key that names a secret, and strings with a private key. */
function inJson(text) {
  const found = [];
  const levels = [];
  let key = null;
  let [last, previous] = [0, ""];
  for (const [token, start] of jsonTokens(text)) {
    const level = levels.at(-1);
    if (token === "{" || token === "[") {
      levels.push({ secret: level?.secret ?? key, isObject: token === "{" });
      key = null;
    } else if (token === "}" || token === "]") {
      levels.pop();
    } else if (token === ":") {
      found.splice(last, 1);
      key = isSecretName(previous) ? previous.slice(1, -1) : null;
    } else if (token === ",") {
      key = null;
    } else {
      // The token may be a key. If a colon follows, the range of the token is removed again.
      const name = level?.secret ?? key ?? (token.includes("PRIVATE KEY-----") ? "private key" : null);
      last = found.length;
      if (name) found.push(range(start, token.length, name));
    }
    previous = token;
  }
  return found;
}

/** Finds secrets in a text that is not JSON: from a key to the end of the line, or of the indented block below. */
function inLines(text) {
  const found = [];
  let below = null;
  let until = null;
  let section = null;
  let start = 0;
  for (const line of text.split("\n")) {
    const indent = line.search(/\S/);
    const first = start + Math.max(indent, 0);
    const rest = line.trim().length;
    if (until) {
      if (rest) found.push(range(first, rest, until.name));
      if (line.includes(until.mark)) until = null;
    } else if (below && isBelow(line, indent, below)) {
      if (rest) found.push(range(first, rest, below.name));
    } else {
      below = null;
      const title = SECTION.exec(line);
      if (title) section = isSecretName(title[1]) ? title[1] : null;
      const hit = title ? null : inLine(line, section);
      if (hit) {
        const value = line.slice(hit.end).trimEnd();
        const mark = /^("""|''')/.exec(value)?.[1];
        if (value) found.push(range(start + hit.end, value.length, hit.name));
        if (mark && value.indexOf(mark, 3) < 0) until = { mark, name: hit.name };
        else if (/^([|>][+-]?\d*|[{[(]|)\s*$/.test(value)) below = { indent, name: hit.name };
      }
      for (const match of line.matchAll(ELEMENT)) {
        if (isSecretName(match[1])) found.push(range(start + match.index + match[0].length - 1 - match[2].length, match[2].length, match[1]));
      }
    }
    start += line.length + 1;
  }
  return found;
}

function isBelow(line, indent, { indent: outer }) {
  return indent < 0 || indent > outer || (indent === outer && line.startsWith("- ", indent));
}

/** Finds the first key in a line that names a secret, and the start of its value. */
function inLine(line, section) {
  for (const match of line.matchAll(KEY)) {
    const name = isSecretName(match[3]) ? match[3] : section;
    if (name) return { name, end: match.index + match[0].length };
  }
  return null;
}
