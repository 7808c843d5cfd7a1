// DOM helpers that never parse data as HTML, and the icons of states.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element with properties or attributes, and children. Strings become text nodes. */
export function el(name, options = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key === "on") listen(node, value);
    else if (key in node && !key.startsWith("aria")) node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function listen(node, handlers) {
  for (const [event, handler] of Object.entries(handlers)) node.addEventListener(event, handler);
}

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Sets a text only if it differs, to avoid needless layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Renders a message of the host: parts in backticks become code elements. */
export function worded(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

/** Creates a text that only screen readers present. */
export function unseen(text) {
  return el("span", { class: "unseen" }, text);
}

// Each state has its own shape, since colour alone is not accessible.
const SHAPES = {
  current: ["M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 0 1 0-13z", "M5 8.2l2.2 2.2L11.2 6"],
  stale: ["M8 1.8L15 14H1z", "M8 6.2v3.6M8 11.9v.1"],
  waiting: ["M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 0 1 0-13z", "M8 4.4V8l2.4 1.6"],
  removed: ["M2 2h12v12H2z", "M5 8h6"],
  ended: ["M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2z", "M5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8"],
  error: ["M8 1.8L15 14H1z", "M8 6.2v3.6M8 11.9v.1"],
  done: ["", "M3 8.4l3.2 3.2L13 4.8"],
  behind: ["", "M3 8h.1M8 8h.1M13 8h.1"],
  pinned: ["", "M8 15v-5M4 10h8M5.5 10l.7-5.2M10.5 10l-.7-5.2M5 2h6M6 2v2.6M10 2v2.6"],
};

export function icon(kind) {
  const [outline, mark] = SHAPES[kind] ?? SHAPES.waiting;
  const node = svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true", focusable: "false" });
  if (outline) node.append(svg("path", { d: outline, class: "icon-outline" }));
  node.append(svg("path", { d: mark, class: "icon-mark" }));
  return node;
}

/** Creates a badge: the icon and the name of a state. */
export function badge(state, word = state) {
  return el("span", { class: "badge", "data-state": state }, icon(state), el("span", {}, word));
}

/** Creates the badge of a pinned source. */
export function pin(revision) {
  return el("span", { class: "pin", title: `Pinned to revision ${revision}` }, icon("pinned"), el("span", {}, "pinned"));
}
