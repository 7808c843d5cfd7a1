// Entry point of the page: routing, event stream, token, colour theme, announcements for screen readers.

import { permissions, token } from "./api.js";
import { setText } from "./dom.js";
import { clock, plural, tick } from "./format.js";
import { EventStream } from "./live.js";
import { showLogin } from "./login.js";
import { showOverview } from "./overview.js";
import { showSource } from "./source.js";
import * as store from "./store.js";

const $ = (id) => document.getElementById(id);
const main = $("main");
const STATE_LABELS = { connecting: "connecting", live: "live", lost: "reconnecting", denied: "access denied", resting: "paused" };
const THEME_KEY = "reloader-theme";
/** Upper bound of the announcements that are read out together. */
const MAX_ANNOUNCEMENTS = 3;

let close = null;
let isLoginShown = false;
let link = { state: "connecting" };
let wasOff = false;

const live = new EventStream({ onOpen: () => store.refresh().catch((error) => announce(error.message)), onEvent, onState });

// ---- views

function route() {
  if (isLoginShown) return;
  close?.();
  const source = /^#\/source\/(.+)$/.exec(location.hash);
  close = source ? showSource(main, decoded(source[1])) : showOverview(main);
  if (source) scrollTo(0, 0);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function focusTitle() {
  main.querySelector("h1")?.focus({ preventScroll: true });
}

// ---- the connection

function onEvent(kind, data) {
  const before = store.sources.get(data.source);
  store.apply(kind, data);
  if (before) announceChange(kind, before, data);
}

function onState(next) {
  const before = link.state;
  link = next;
  const { state } = link;
  $("link").dataset.state = state;
  setText($("link-text"), STATE_LABELS[state]);
  const isOff = state === "lost" || (state === "denied" && !isLoginShown);
  $("banner").hidden = !isOff;
  document.body.classList.toggle("is-old", isOff);
  if (isOff) {
    setText($("banner-text"), offText());
    countDown();
  }
  // The first successful connection is not announced.
  const isAnnounced = state !== before && state !== "connecting" && (state !== "live" || wasOff);
  if (isAnnounced) announce(isOff ? offText() : `Connection: ${STATE_LABELS[state]}.`);
  wasOff = state !== "live" && (wasOff || state !== "connecting");
}

function offText() {
  if (link.state === "denied") return `Access denied: ${link.detail}`;
  return link.at ? `Connection lost. Last update: ${clock(link.at)}.` : link.detail;
}

function countDown() {
  if (link.state !== "lost") {
    setText($("banner-wait"), "");
    return;
  }
  const seconds = Math.ceil((link.retryAt - Date.now()) / 1000);
  const text = seconds > 0 ? `in ${seconds} s` : "now";
  setText($("banner-wait"), `Reconnecting ${text} …`);
  setText($("link-text"), `reconnecting ${text}`);
}

// ---- announcements for screen readers

let announcements = [];

/** Announces a text, together with other texts of the next half second. */
function announce(text) {
  if (announcements.push(text) > 1) return;
  setTimeout(() => {
    const all = [...new Set(announcements)];
    announcements = [];
    const rest = all.length - MAX_ANNOUNCEMENTS;
    $("announcement").textContent = [...all.slice(0, MAX_ANNOUNCEMENTS), rest > 0 ? `And ${plural(rest, "more change")}.` : ""].join(" ").trim();
  }, 500);
}

/** Announces a new state, and a problem that begins or ends. */
function announceChange(kind, before, now) {
  if (kind === "gone") announce(`${now.source} was removed.`);
  else if (before.state !== now.state) announce(`${now.source} is ${now.state}.`);
  else if (Boolean(before.error) !== Boolean(now.error)) announce(`${now.source} ${now.error ? "has an error" : "has no more errors"}.`);
}

// ---- the token

function signIn() {
  if (isLoginShown) return;
  isLoginShown = true;
  close?.();
  close = null;
  const reason = token.get() ? "The token is no longer valid." : null;
  forgetToken();
  live.deny("authentication required");
  showLogin(main, reason, () => {
    isLoginShown = false;
    begin();
    focusTitle();
  });
}

function forgetToken() {
  token.forget();
  permissions.denial = null;
  store.forget();
  $("forget").hidden = true;
}

function begin() {
  $("forget").hidden = !token.get();
  route();
  live.start();
}

// ---- colours

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").value = theme;
}

function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

$("theme").addEventListener("change", (event) => {
  setTheme(event.target.value);
  localStorage.setItem(THEME_KEY, event.target.value);
});

// ---- start

setTheme(stored(THEME_KEY) ?? "auto");
setText($("where"), location.host);
addEventListener("hashchange", () => {
  route();
  focusTitle();
});
addEventListener("token-needed", signIn);
$("forget").addEventListener("click", () => {
  forgetToken();
  signIn();
});
$("banner-now").addEventListener("click", () => live.start());
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  (main.querySelector("h1") ?? main).focus();
});
setInterval(() => {
  if (document.hidden) return;
  tick(main);
  if (link.state === "lost") countDown();
}, 1000);
store.refreshPeriodically(() => link.state === "live");
begin();
