// The txt2img form as a whole: what Gradio's events call, what is kept in the browser, and sending it.

import { api, boot, bus, receive } from "./live.js";
import { mount } from "./dom.js";
import { beginCounting, countAll } from "./counters.js";
import { markAspect } from "./field-tools.js";
import * as fields from "./fields.js";
import { fill } from "./fill.js";
import { chosenOf, follow, notice, wishes } from "./following.js";
import { guiding } from "./guidance.js";
import { firstWrong, noteAll } from "./numbers.js";
import { applicable } from "./options.js";
import { reveal } from "./sections.js";
import { chosen } from "./styles.js";
import { inputs } from "./wishes.js";

const KEY = "inferenz.form";
let restored = false;

// Gradio calls this and `merge` with its components' values in the order of `fields.names`.
export function keep(list) {
  fields.take(list);
  if (!restored) return;
  if (boot.remember_form) localStorage.setItem(KEY, JSON.stringify({ ...fields.current(), wishes: wishes() }));
  notice();
  fields.tell();
  markAspect();
  countAll();
}

export function merge(list) {
  const wanted = fields.merge(list);
  const merged = fields.current();
  if (merged.checkpoint) notice(new Set(Object.keys(wanted)));
  setTimeout(noteAll, 150);
  markAspect();
  fields.tell();
  return fields.names.map((name) => merged[name]);
}

// What was kept when the page was left.
function restore() {
  if (restored) return;
  if (!boot.remember_form) localStorage.removeItem(KEY);
  const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
  const { wishes: wished = {}, checkpoint: _, ...saved } = kept; // the setting says which checkpoint
  restored = true;
  fill({ ...boot.values, ...chosenOf(saved, wished) });
  beginCounting();
}

const seedOf = (value) => String(value ?? "").trim() || "-1";

function request() {
  const { sampler_options: _, ...values } = fields.current();
  const seeds = { seed: seedOf(values.seed), variation_seed: seedOf(values.variation_seed) };
  return { ...values, ...inputs(), ...applicable(), guidance: guiding(), styles: chosen(), ...seeds };
}

export async function generate(list) {
  if (list) keep(list);
  await follow();
  fields.anticipate();
  const wrong = firstWrong();
  if (wrong) return reveal(wrong);
  const wanted = request();
  bus.dispatchEvent(new CustomEvent("submitting"));
  try {
    const view = await api("jobs", wanted);
    receive(view);
    bus.dispatchEvent(new CustomEvent("submitted", { detail: view }));
  } catch (error) {
    bus.dispatchEvent(new CustomEvent("refused", { detail: error }));
  }
}

export function start() {
  mount("#form-bridge", restore);
}
