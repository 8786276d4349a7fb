// Sections that few need are closed: they remember whether they were opened, and show a dot while something inside
// differs from its default. `[data-section]` is the button; what it opens is named by aria-controls.

import { boot, bus, t } from "./live.js";
import { h, mount } from "./dom.js";
import { changed } from "./following.js";

const KEY = "inferenz.section.";

// The fields inside; on a phone the sheet of controls also hides VAE and clip skip, which stand on top.
const inside = (button) => boot.fields.filter((name) => {
  const element = document.getElementById(name.replaceAll("_", "-"));
  const body = button.getAttribute("aria-controls");
  return button.dataset.fields?.split(" ").includes(name) || element?.closest(`#${body}`);
});

function mark(button) {
  const names = inside(button).filter(changed);
  let dot = button.querySelector(".dot");
  if (!dot) button.append((dot = h("i", { class: "dot", role: "img" })));
  dot.hidden = !names.length;
  dot.title = names.length ? t("section.changed", { names: names.map((name) => t(name)).join(", ") }) : "";
  dot.setAttribute("aria-label", dot.title);
}

function set(button, open) {
  button.setAttribute("aria-expanded", String(open));
  document.body.classList.toggle(`${button.dataset.section}-open`, open);
  document.getElementById(button.getAttribute("aria-controls"))?.classList.toggle("closed", !open);
  localStorage.setItem(KEY + button.dataset.section, open ? "open" : "");
}

// Brings a field into view, out of whatever is closed around it.
export function reveal(input) {
  const closed = input?.closest(".section-body.closed");
  if (closed) document.querySelector(`[aria-controls="${closed.id}"]`)?.click();
  if (input && !input.offsetParent) document.getElementById("controls-toggle")?.click(); // a phone's closed sheet
  input?.scrollIntoView({ block: "nearest" });
  input?.focus();
}

export function revealField(name) {
  reveal(document.querySelector(`#${name.replaceAll("_", "-")} :is(textarea, input)`));
}

export function start() {
  mount("[data-section]", (button) => {
    set(button, localStorage.getItem(KEY + button.dataset.section) === "open");
    button.addEventListener("click", () => set(button, button.getAttribute("aria-expanded") !== "true"));
    mark(button);
  });
  // A section's content comes onto the page after its button
  mount(".section-body", (body) => {
    const button = document.querySelector(`[aria-controls="${body.id}"]`);
    if (button) set(button, button.getAttribute("aria-expanded") === "true");
  });
  bus.addEventListener("form", () => document.querySelectorAll("[data-section]").forEach(mark));
}
