// Sign-in form for a bearer token.

import { get, token } from "./api.js";
import { el } from "./dom.js";

/** Shows the form instead of a view. `onAccepted` is called after the host has accepted a token. */
export function showLogin(root, reason, onAccepted) {
  const input = el("input", { type: "password", id: "token", autocomplete: "off", required: true, "aria-describedby": "token-note token-error" });
  const error = el("p", { class: "notice bad", id: "token-error", role: "alert", hidden: !reason }, reason ?? "");
  const button = el("button", { type: "submit", class: "primary" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    const candidate = input.value.trim();
    button.disabled = true;
    error.hidden = true;
    const rejection = await check(candidate);
    button.disabled = false;
    if (rejection === null) {
      token.set(candidate);
      onAccepted();
      return;
    }
    error.textContent = rejection;
    error.hidden = false;
    input.select();
    input.focus();
  };
  root.replaceChildren(
    el(
      "form",
      { class: "login panel", on: { submit } },
      el("h1", { tabIndex: -1 }, "Sign in with a token"),
      el("p", { id: "token-note", class: "muted" }, "This host requires a token. The token is stored in this tab until you close it."),
      el("label", { htmlFor: "token" }, "Token"),
      el("div", { class: "login-line" }, input, button),
      error,
      el("p", { class: "muted small-text" }, "The host's command “token NAME” creates a token and prints the configuration that accepts it."),
    ),
  );
  input.focus();
}

/** Returns the reason why a token is rejected; null if it is accepted. */
async function check(candidate) {
  // A header cannot contain other characters.
  if (!/^[\x21-\x7e]+$/.test(candidate)) return "Invalid token: a token has no spaces and no special characters.";
  try {
    await get("/v1/sources?limit=1", { as: candidate });
    return null;
  } catch (error) {
    return error.status === 401 ? "Invalid token. Check that it is complete and part of the configuration." : error.message;
  }
}
