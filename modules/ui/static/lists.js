// What Gradio's lists lack: the choices there are now, typing that replaces, and a Tab that leaves them closed.

import { boot, t } from "./live.js";
import { facts, usable } from "./checkpoints.js";

const offered = new Set(); // Gradio's open list breaks when it gets shorter: what is gone stays in it, and says so

function checkpoints() {
  for (const name of boot.checkpoints) offered.add(name);
  const gone = [...offered].filter((name) => !boot.checkpoints.includes(name));
  const there = boot.checkpoints.map((name) => [name, name]);
  return [...there, ...gone.map((name) => [`${name} (${t("checkpoint.gone")})`, name])];
}

// Samplers or schedules, those marked that do not go with the chosen model.
function sampling(name) {
  const wrong = facts().flow ? boot.unfit[name] : [];
  const kinds = Object.entries(boot[`${name}s`]);
  return kinds.map(([kind, { label }]) => [wrong.includes(kind) ? `${label} (${t("sampling.unfit")})` : label, kind]);
}

// Gradio's events call this when a list gets the focus; the answer is what gr.update() would be.
export async function choices(name) {
  if (name === "checkpoint") await usable().catch(() => []);
  return { __type__: "update", choices: name === "checkpoint" ? checkpoints() : sampling(name) };
}

// The form's values as Gradio takes them: a checkpoint that came after the page was built would be blank otherwise.
export function introduced(values) {
  const at = boot.fields.indexOf("checkpoint");
  return values.map((value, index) => (index === at ? { __type__: "update", choices: checkpoints(), value } : value));
}

const list = (target) => target.matches?.("[role=combobox]") && target;

// After the browser has put the caret where the pointer is.
function select({ target }) {
  if (list(target)) setTimeout(() => document.activeElement === target && target.select(), 0);
}

// Gradio answers a Tab after the list has lost the focus, and opens it again.
function leave(event) {
  if (!["Tab", "Shift"].includes(event.key) || !list(event.target)) return;
  event.stopPropagation();
  // A list that scrolls would be a stop of its own
  document.getElementById(event.target.getAttribute("aria-controls"))?.setAttribute("tabindex", "-1");
}

export function start() {
  document.addEventListener("focusin", select);
  document.addEventListener("keydown", leave, true);
}
