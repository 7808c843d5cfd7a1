// Finding what looks like a secret in a text, so that it is not shown before somebody wants it.

const NAMES = /(password|passwd|passphrase|secret|token|credential|bearer|authorization|(api|access|private|secret|master|signing|encryption|ssh)_?key)s?\d*(_|$)|(^|_)(pwd|pass)(_|$)/;
const KEY = /(^|[\s,{[(&?;"'-])(["']?)([\w.-]{1,80})\2\s*(:=|=>|[:=])\s*/g;
const ELEMENT = /<([\w.:-]{1,80})[^<>]*>([^<]+)</g;
const IN_ADDRESS = /:\/\/[^\s:@/]*:([^\s@/]+)@/g;
const PEM = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;
const SECTION = /^\s*\[{1,2}\s*([^[\]]{1,80})\]/;

/** Whether a key, however it is written, names a secret. */
export function isSecretName(key) {
  const name = key.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase().replace(/[^a-z0-9]+/g, "_");
  return NAMES.test(name);
}

/** Where secrets are: `{ start, end, name }`, in order, and none in another. */
export function secretsIn(text) {
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

/** The parts of a JSON text that are not white space, with where they begin. */
export function* jsonParts(text) {
  for (const match of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{},:]|[^\s[\]{},:"]+/g)) yield [match[0], match.index];
}

/** All that is below a key that names a secret, and strings that hold a private key. */
function inJson(text) {
  const found = [];
  const levels = [];
  let key = null;
  let [last, previous] = [0, ""];
  for (const [part, start] of jsonParts(text)) {
    const level = levels.at(-1);
    if (part === "{" || part === "[") {
      levels.push({ secret: level?.secret ?? key, isObject: part === "{" });
      key = null;
    } else if (part === "}" || part === "]") {
      levels.pop();
    } else if (part === ":") {
      found.splice(last, 1);
      key = isSecretName(previous) ? previous.slice(1, -1) : null;
    } else if (part === ",") {
      key = null;
    } else {
      // Whether this is a key is known only when a colon follows.
      const name = level?.secret ?? key ?? (part.includes("PRIVATE KEY-----") ? "private key" : null);
      last = found.length;
      if (name) found.push(range(start, part.length, name));
    }
    previous = part;
  }
  return found;
}

/** In a text that is not JSON: what follows such a key, up to the end of the line or of what is indented below. */
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

/** The first key in a line that names a secret, and where its value begins. */
function inLine(line, section) {
  for (const match of line.matchAll(KEY)) {
    const name = isSecretName(match[3]) ? match[3] : section;
    if (name) return { name, end: match.index + match[0].length };
  }
  return null;
}
