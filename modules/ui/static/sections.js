// Sections that few need are closed: they remember whether they were opened, and show a dot while something inside
// differs from its default. `[data-section]` is the button; what it opens is named by aria-controls.

import { boot, bus, t } from "./live.js";
import { h, mount } from "./dom.js";
import { changed } from "./form.js";

const KEY = "inferenz.section.";

// The fields inside; on a phone the sheet of controls also hides VAE and clip skip, which stand on top.
const inside = (button) => boot.fields.filter((name) => {
  const element = document.getElementById(name.replaceAll("_", "-"));
  return button.dataset.fields?.split(" ").includes(name) || element?.closest(`#${button.getAttribute("aria-controls")}`);
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
