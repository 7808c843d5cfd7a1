// Confirmation dialog.

import { el } from "./dom.js";

/** Shows a dialog; resolves to true if the user confirms it. Escape cancels. */
export function confirm({ title, sentences, action }) {
  return new Promise((resolve) => {
    let isConfirmed = false;
    const close = (answer) => () => {
      isConfirmed = answer;
      dialog.close();
    };
    const no = el("button", { type: "button", on: { click: close(false) } }, "Cancel");
    const yes = el("button", { type: "button", class: "primary", on: { click: close(true) } }, action);
    const dialog = el(
      "dialog",
      { class: "ask", "aria-labelledby": "ask-title", "aria-describedby": "ask-text" },
      el("h2", { id: "ask-title" }, title),
      el("div", { id: "ask-text" }, sentences.map((sentence) => el("p", {}, sentence))),
      el("div", { class: "buttons" }, no, yes),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(isConfirmed);
    });
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });
}
