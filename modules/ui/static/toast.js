// Short words at the lower edge, with at most one thing to do about them, and the question before something final.

import { t } from "./live.js";
import { button, h, iconButton, worded } from "./dom.js";

let shown = null;
let timer = 0;

// Everything outside an open dialog is out of reach: a toast goes where the person is.
const place = () => [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;

export function toast(text, { label = "", run = null, danger = false, seconds = 4 } = {}) {
  drop();
  shown = h("div", { class: `toast${danger ? " danger" : ""}`, role: danger ? "alert" : "status" }, h("span", {}, worded(text)),
    run && button(label, "undo-2", () => { drop(); run(); }),
    iconButton(t("close"), "x", drop));
  place().append(shown);
  const wait = () => { clearTimeout(timer); timer = setTimeout(drop, seconds * 1000); };
  shown.addEventListener("pointerenter", () => clearTimeout(timer));
  shown.addEventListener("pointerleave", wait);
  wait();
}

export const complain = (error) => toast([error.message, error.hint].filter(Boolean).join(" "), { danger: true, seconds: 8 });

// A dialog that closes takes its toast with it: it moves on.
export function rescueToast() {
  if (shown) document.body.append(shown);
}

export function drop() {
  clearTimeout(timer);
  shown?.remove();
  shown = null;
}

// Resolves to true when the person agrees.
export function ask(title, text, agree) {
  return new Promise((resolve) => {
    const cancel = button(t("cancel"), null, () => dialog.close(), { autofocus: true });
    const yes = button(agree, "trash-2", () => dialog.close("yes"), { class: "tool final" });
    const dialog = h("dialog", { class: "sheet ask", "aria-label": title, onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      h("h2", {}, title), h("p", {}, text), h("div", { class: "ask-actions" }, cancel, yes));
    document.body.append(dialog);
    dialog.showModal();
  });
}
