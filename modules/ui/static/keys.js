// The keyboard, and the page that lists it.

import { t } from "./live.js";
import { h, iconButton } from "./dom.js";
import { interrupt, shownRecord } from "./canvas.js";
import { toggleFavourite } from "./records.js";
import { favourite, stepBy, viewing } from "./viewer.js";
import { weigh } from "./weights.js";

const writing = (element) => element?.matches?.("input, textarea, select, [contenteditable]");

export function help() {
  const keys = [["Ctrl + Enter", "keys.generate"], ["Esc", "keys.interrupt"], ["Ctrl + ↑ ↓", "keys.weight"], ["/", "keys.prompt"], ["← →", "keys.arrows"], ["F", "keys.favourite"], ["?", "keys.help"]];
  const dialog = h("dialog", { class: "sheet", "aria-label": t("keys.title"), onclose: () => dialog.remove(), onclick: (event) => event.target === dialog && dialog.close() },
    h("div", { class: "sheet-head" }, h("h2", {}, t("keys.title")), iconButton(t("close"), "x", () => dialog.close())),
    h("dl", { class: "keys" }, keys.map(([key, text]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(text))))));
  document.body.append(dialog);
  dialog.showModal();
}

async function mark() {
  if (viewing()) return favourite();
  const found = await shownRecord();
  return found && toggleFavourite(found.id);
}

function pressed(event) {
  const control = event.ctrlKey || event.metaKey;
  const target = event.target;
  if (control && event.key === "Enter") {
    event.preventDefault();
    event.stopPropagation();
    // Gradio takes over what was typed on the next tick.
    setTimeout(() => document.querySelector("#generate")?.click(), 30);
    return;
  }
  if (control && ["ArrowUp", "ArrowDown"].includes(event.key) && target.matches?.("#prompt textarea, #negative-prompt textarea")) {
    event.preventDefault();
    weigh(target, event.key === "ArrowUp" ? 1 : -1);
    return;
  }
  if (document.querySelector("dialog[open]") && !viewing()) return;
  if (viewing() && event.key === "ArrowLeft") return stepBy(-1);
  if (viewing() && event.key === "ArrowRight") return stepBy(1);
  if (event.key === "Escape" && !viewing() && !target.closest?.("[role=listbox], [aria-expanded=true]")) return interrupt();
  if (writing(target) || control || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("#prompt textarea")?.focus();
  } else if (event.key === "?") help();
  else if (event.key.toLowerCase() === "f") mark();
}

export function start() {
  document.addEventListener("keydown", pressed, true);
}
