// The form follows its checkpoint: a field that nobody chose holds what the checkpoint wants, else what the page opened
// with. Gradio hands over values while it takes new ones, so a choice is followed when it has settled.

import { boot, bus } from "./live.js";
import { usable } from "./checkpoints.js";
import { current, enter, tell } from "./fields.js";
import { change } from "./preferences.js";
import { complain } from "./toast.js";

const SIZE = ["width", "height"];
let followed = boot.values.checkpoint; // whose wishes the form holds
let given = new Set(); // fields that were filled together with the checkpoint: a picture's own, say
let settling = 0;
let following = Promise.resolve();

// What the followed checkpoint wants: its own wishes, or what is remembered for it.
export const wishes = () => boot.models[followed]?.wishes ?? {};
export const usual = (name) => wishes()[name] ?? boot.values[name];
export const changed = (name) => String(current()[name]) !== String(usual(name));

// Values came, perhaps with another checkpoint. filled: the fields that were filled together with it.
export function notice(filled = given) {
  if (current().checkpoint === followed) return;
  given = filled;
  clearTimeout(settling);
  settling = setTimeout(follow, 200);
  store();
}

// Resolves when the form holds what its checkpoint wants: before anything is made of it.
export function follow() {
  clearTimeout(settling);
  const { checkpoint } = current();
  if (checkpoint && checkpoint !== followed) {
    const [before, named] = [boot.models[followed]?.wishes ?? boot.values, given];
    followed = checkpoint;
    given = new Set();
    following = adopt(before, checkpoint, named);
  }
  return following;
}

// The chosen checkpoint wants something else than it did: it is taken as another family, say. old: its wishes before.
export const followAnew = (old) => (following = adopt(old, followed, new Set()));

// A field that still holds what the old checkpoint wanted takes what the new one wants; anything chosen stays. Width
// and height are one choice; an aspect ratio that was chosen is taken at the new checkpoint's size.
async function adopt(old, after, filled) {
  await usable().catch(() => []);
  const now = boot.models[after]?.wishes;
  if (!now) return;
  const values = current();
  const untouched = (name) => !filled.has(name) && String(values[name]) === String(old[name]);
  const wanted = {};
  for (const name of Object.keys(now)) {
    const free = SIZE.includes(name) ? SIZE.every(untouched) : untouched(name);
    if (free && String(values[name]) !== String(now[name])) wanted[name] = now[name];
  }
  const [area, native] = [values.width * values.height, old.width * old.height];
  if (!SIZE.every(untouched) && !SIZE.some((name) => filled.has(name)) && Math.abs(area / native - 1) < 0.04) {
    Object.assign(wanted, shaped(values.width / values.height, now.width * now.height));
  }
  if (Object.keys(wanted).length) enter(wanted);
  tell();
}

// Width and height of that ratio and, nearly, that area.
export function shaped(ratio, area) {
  const side = (part) => Math.max(64, Math.round(Math.sqrt(area * part) / 8) * 8);
  return { width: side(ratio), height: side(1 / ratio) };
}

// Of values that were kept with the wishes of then, those that somebody had chosen: the others are now what the
// checkpoint of now wants, which may be another than then.
export function chosenOf(saved, wished) {
  const kept = (name) => String(saved[name]) !== String(wished[name]);
  const free = (name) => name in wished && (SIZE.includes(name) ? !SIZE.some(kept) : !kept(name));
  return Object.fromEntries(Object.entries(saved).filter(([name]) => !free(name)));
}

// The choice on top is a setting, so that a restart, another browser and the command line agree with it. What has
// settled counts.
let stored = boot.values.checkpoint;
let storing = 0;

function store() {
  clearTimeout(storing);
  storing = setTimeout(() => {
    const { checkpoint } = current();
    if (!checkpoint || checkpoint === stored) return;
    stored = checkpoint;
    change({ checkpoint }).catch(complain);
  }, 300);
}

export function start() {
  bus.addEventListener("setting", ({ detail }) => { if (detail.name === "checkpoint") stored = detail.value; });
}
