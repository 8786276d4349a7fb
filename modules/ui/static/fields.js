// What the form's fields hold. Gradio holds it as well: it hands its values over when they change, and takes new ones
// when a hidden button is pressed. Whoever wants to know of changes listens for "form".

import { boot, bus } from "./live.js";

export const names = boot.fields; // in the order in which Gradio hands over the values
let values = { ...boot.values };
let pending = null; // what Gradio has yet to take

export const current = () => ({ ...values });
export const tell = () => bus.dispatchEvent(new CustomEvent("form"));
const named = (list) => Object.fromEntries(names.map((name, index) => [name, list[index]]));

// list: the components' values in the order of `names`
export function take(list) {
  values = named(list);
}

// Gradio's values with what it has yet to take; returns the latter.
export function merge(list) {
  const wanted = pending ?? {};
  pending = null;
  for (const name of touched) delete wanted[name];
  touched.clear();
  opening = false;
  values = { ...named(list), ...wanted };
  return wanted;
}

// What Gradio has yet to take counts as taken.
export function anticipate() {
  values = { ...values, ...pending };
}

// Puts values into the fields as they stand there: those that are not named stay as they are.
export function enter(wanted) {
  const known = ([name, value]) => names.includes(name) && value !== undefined && value !== null;
  pending = { ...pending, ...Object.fromEntries(Object.entries(wanted).filter(known)) };
  press(40);
}

// Gradio attaches its listeners some moments after its elements: press until the values have been taken.
function press(tries) {
  if (!pending) return;
  document.getElementById("form-bridge")?.click();
  if (tries > 0) setTimeout(() => press(tries - 1), 120);
}

// What a person typed while the page was still being filled for the first time stays.
let opening = true;
const touched = new Set();

function touch({ target }) {
  if (!opening) return;
  for (const name of names) if (target.closest?.(`#${name.replaceAll("_", "-")}`)) touched.add(name);
}

export function start() {
  document.addEventListener("input", touch, true);
}
