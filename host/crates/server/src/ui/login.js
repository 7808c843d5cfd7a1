// Asking for a token, where the host wants one.

import { get, token } from "./api.js";
import { el } from "./dom.js";

/** Shows the form in place of a view; `onAccepted` is called when the host takes a token. */
export function showLogin(root, why, onAccepted) {
  const input = el("input", { type: "password", id: "token", autocomplete: "off", required: true, "aria-describedby": "token-note token-error" });
  const error = el("p", { class: "notice bad", id: "token-error", role: "alert", hidden: !why }, why ?? "");
  const button = el("button", { type: "submit", class: "primary" }, "Continue");
  const submit = async (event) => {
    event.preventDefault();
    const wanted = input.value.trim();
    button.disabled = true;
    error.hidden = true;
    const refused = await check(wanted);
    button.disabled = false;
    if (refused === null) {
      token.set(wanted);
      onAccepted();
      return;
    }
    error.textContent = refused;
    error.hidden = false;
    input.select();
    input.focus();
  };
  root.replaceChildren(
    el(
      "form",
      { class: "login panel", on: { submit } },
      el("h1", { tabIndex: -1 }, "A token, please"),
      el("p", { id: "token-note", class: "muted" }, "This host answers only to those who show a token. It is kept in this tab until you close it."),
      el("label", { htmlFor: "token" }, "Token"),
      el("div", { class: "login-line" }, input, button),
      error,
      el("p", { class: "muted small-text" }, "“host token NAME” makes one, and prints what the configuration needs."),
    ),
  );
  input.focus();
}

/** What is wrong with a token; `null` if nothing is. */
async function check(wanted) {
  // Other characters cannot be sent.
  if (!/^[\x21-\x7e]+$/.test(wanted)) return "This is no token: a token has no spaces and no special characters.";
  try {
    await get("/v1/sources", { as: wanted });
    return null;
  } catch (error) {
    return error.status === 401 ? "The host does not accept this token. Check that it is complete, and in the configuration." : error.message;
  }
}
