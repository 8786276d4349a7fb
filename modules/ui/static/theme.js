// Light or dark: the person's choice in this browser, else this run's or the stored setting, else the system's.

import { boot } from "./live.js";
import { icon } from "./dom.js";
import { described, setting } from "./preferences.js";

const THEME = "inferenz.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const asked = () => (["dark", "light"].includes(boot.theme) ? boot.theme : system.matches ? "dark" : "light");
const wanted = () => localStorage.getItem(THEME) ?? asked();

// Gradio sets its class from the system's wish; ours is put over it whenever it does.
export function followTheme() {
  const dark = wanted() === "dark";
  if (document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
  document.documentElement.classList.toggle("dark", dark);
  document.documentElement.classList.toggle("light", !dark);
  for (const toggle of document.querySelectorAll("#theme-toggle")) toggle.replaceChildren(icon(dark ? "sun" : "moon"));
}

export function toggleTheme() {
  const next = wanted() === "dark" ? "light" : "dark";
  if (next === (system.matches ? "dark" : "light")) localStorage.removeItem(THEME);
  else localStorage.setItem(THEME, next);
  if (wanted() !== next) localStorage.setItem(THEME, next);
  followTheme();
}

// The page was written when the server started; the theme may have been changed since.
function adopt({ overruled }) {
  boot.theme = overruled.theme ?? setting("theme", boot.theme);
  followTheme();
}

export function start() {
  new MutationObserver(followTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  system.addEventListener("change", followTheme);
  followTheme();
  described().then(adopt, () => {});
}
