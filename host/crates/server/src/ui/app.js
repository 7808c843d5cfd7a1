// What holds the page together: which view is shown, the connection, the token, and the colours.

import { rights, token } from "./api.js";
import { setText } from "./dom.js";
import { clock, plural, tick } from "./format.js";
import { Live } from "./live.js";
import { showLogin } from "./login.js";
import { showOverview } from "./overview.js";
import { showSource } from "./source.js";
import * as store from "./store.js";

const $ = (id) => document.getElementById(id);
const main = $("main");
const WORDS = { connecting: "connecting", live: "live", lost: "reconnecting", denied: "not allowed", resting: "paused" };
const THEME = "reloader-theme";
const SAID_MAX = 3;

let close = null;
let isAsking = false;
let link = { state: "connecting" };
let wasOff = false;

const live = new Live({ onOpen: () => store.refresh().catch((error) => say(error.message)), onEvent, onState });

// ---- views

function route() {
  if (isAsking) return;
  close?.();
  const source = /^#\/source\/(.+)$/.exec(location.hash);
  close = source ? showSource(main, decoded(source[1]), say) : showOverview(main);
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
  if (before) sayChange(kind, before, data);
}

function onState(next) {
  const before = link.state;
  link = next;
  const { state } = link;
  $("link").dataset.state = state;
  setText($("link-text"), WORDS[state]);
  const isOff = state === "lost" || (state === "denied" && !isAsking);
  $("banner").hidden = !isOff;
  document.body.classList.toggle("is-old", isOff);
  if (isOff) {
    setText($("banner-text"), offText());
    countDown();
  }
  // The first connection is what everybody expects.
  const isTold = state !== before && state !== "connecting" && (state !== "live" || wasOff);
  if (isTold) say(isOff ? offText() : `Connection: ${WORDS[state]}.`);
  wasOff = state !== "live" && (wasOff || state !== "connecting");
}

function offText() {
  if (link.state === "denied") return `Not allowed: ${link.detail}`;
  return link.at ? `Connection lost. What you see is of ${clock(link.at)}.` : link.detail;
}

function countDown() {
  if (link.state !== "lost") {
    setText($("banner-wait"), "");
    return;
  }
  const seconds = Math.ceil((link.retryAt - Date.now()) / 1000);
  const text = seconds > 0 ? `in ${seconds} s` : "now";
  setText($("banner-wait"), `Trying again ${text} …`);
  setText($("link-text"), `reconnecting ${text}`);
}

// ---- what screen readers say

let saying = [];

/** Says something, together with what else there is to say at this moment. */
function say(text) {
  if (saying.push(text) > 1) return;
  setTimeout(() => {
    const all = [...new Set(saying)];
    saying = [];
    const rest = all.length - SAID_MAX;
    $("said").textContent = [...all.slice(0, SAID_MAX), rest > 0 ? `And ${plural(rest, "more change")}.` : ""].join(" ").trim();
  }, 500);
}

/** Only what matters: another state, or trouble that begins or ends. */
function sayChange(kind, before, now) {
  if (kind === "gone") say(`${now.source} is gone.`);
  else if (before.state !== now.state) say(`${now.source} is ${now.state}.`);
  else if (Boolean(before.trouble) !== Boolean(now.trouble)) say(`${now.source} ${now.trouble ? "has trouble" : "is well again"}.`);
}

// ---- the token

function askForToken() {
  if (isAsking) return;
  isAsking = true;
  close?.();
  close = null;
  const why = token.get() ? "The token is not accepted any more." : null;
  forgetToken();
  live.deny("a token is needed");
  showLogin(main, why, () => {
    isAsking = false;
    begin();
    focusTitle();
  });
}

function forgetToken() {
  token.forget();
  rights.refusal = null;
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

function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

$("theme").addEventListener("change", (event) => {
  setTheme(event.target.value);
  localStorage.setItem(THEME, event.target.value);
});

// ---- the beginning

setTheme(kept(THEME) ?? "auto");
setText($("where"), location.host);
addEventListener("hashchange", () => {
  route();
  focusTitle();
});
addEventListener("token-needed", askForToken);
$("forget").addEventListener("click", () => {
  forgetToken();
  askForToken();
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
store.keepFresh(() => link.state === "live");
begin();
