// The txt2img form: Gradio holds the values, this reads, keeps, fills and sends them.

import { api, boot, bus, receive, t } from "./live.js";
import { h, mount } from "./dom.js";
import { change } from "./preferences.js";
import { styled, withoutComments } from "./prompt-grammar.js";
import { applicable, packed } from "./options.js";
import { guided, guiding } from "./guidance.js";
import { additions, chosen } from "./styles.js";
import { complain } from "./toast.js";
import * as tokenizer from "./tokenizer.js";

const KEY = "inferenz.form";
const names = boot.fields; // in the order in which Gradio hands over the values
let values = { ...boot.values };
let pending = null;
let restored = false;
const SIZE = ["width", "height"];

export const current = () => ({ ...values });
const named = (list) => Object.fromEntries(names.map((name, index) => [name, list[index]]));

// Gradio calls these with its components' values in the order of `names`.
export function keep(list) {
  const next = named(list);
  values = next;
  if (!restored) return;
  if (boot.remember_form) localStorage.setItem(KEY, JSON.stringify({ ...values, wishes: own() }));
  if (next.checkpoint !== followed) {
    clearTimeout(settling);
    settling = setTimeout(follow, 200);
    store();
  }
  bus.dispatchEvent(new CustomEvent("form"));
  markAspect();
  countAll();
}

// What a person typed while the page was still being filled for the first time stays.
let opening = true;
const touched = new Set();

function touch({ target }) {
  if (!opening) return;
  for (const name of names) if (target.closest?.(`#${name.replaceAll("_", "-")}`)) touched.add(name);
}

export function merge(list) {
  const wanted = pending ?? {};
  pending = null;
  for (const name of touched) delete wanted[name];
  touched.clear();
  opening = false;
  const now = { ...named(list), ...wanted };
  values = now;
  if (now.checkpoint && now.checkpoint !== followed) {
    given = new Set(Object.keys(wanted));
    clearTimeout(settling);
    settling = setTimeout(follow, 200);
    store();
  }
  setTimeout(() => numbers().forEach(note), 150);
  markAspect();
  bus.dispatchEvent(new CustomEvent("form"));
  return names.map((name) => now[name]);
}

// Puts values into the form: fields that are not named stay as they are.
export function fill(wanted) {
  const { checkpoint } = wanted;
  if (checkpoint && !boot.checkpoints.includes(checkpoint)) { // gone, not loadable, or newer than this page
    wanted = { ...wanted, checkpoint: null };
    usable().then(() => boot.checkpoints.includes(checkpoint) && fill({ checkpoint }), () => {});
  }
  if (wanted.guidance && typeof wanted.guidance !== "string") wanted = { ...wanted, guidance: guided(wanted.guidance) };
  if (wanted.text_encoder && !String(wanted.text_encoder).startsWith("[")) wanted = { ...wanted, text_encoder: JSON.stringify([wanted.text_encoder].flat().filter((name) => name !== "Automatic")) };
  if (wanted.options || wanted.schedule_options) wanted = { ...wanted, sampler_options: packed(wanted, wanted) };
  if ("prompt" in wanted && !("styles" in wanted)) wanted = { ...wanted, styles: "[]" }; // theirs are in the text
  const known = Object.fromEntries(Object.entries(wanted).filter(([name, value]) => names.includes(name) && value !== undefined && value !== null));
  pending = { ...pending, ...known };
  press(40);
}

// Gradio attaches its listeners some moments after its elements: press until the values have been taken.
function press(tries) {
  if (!pending) return;
  document.getElementById("form-bridge")?.click();
  if (tries > 0) setTimeout(() => press(tries - 1), 120);
}

// What a field holds when nobody chose: the checkpoint's own wish or what is remembered for it, else what the page opened with.
const own = () => boot.models[followed]?.wishes ?? {};
const usual = (name) => own()[name] ?? boot.values[name];

export const changed = (name) => String(values[name]) !== String(usual(name));
export const facts = (name = values.checkpoint) => boot.models[name] ?? {};

// What the page knows of a checkpoint, as modules/ui/defaults.py has it for those that were there when the page was made.
function described({ defaults, prediction, profile, reads }) {
  const encoders = [profile.text_encoder ?? []].flat().filter((name) => name !== "Automatic");
  const { width, height, steps, cfg_scale, sampler, schedule, clip_skip } = defaults;
  const wishes = { width, height, steps, cfg_scale, sampler, schedule, clip_skip, distilled_cfg_scale: defaults.distilled_cfg_scale ?? 0, shift: defaults.shift ?? 0, vae: profile.vae ?? "Automatic", text_encoder: JSON.stringify(encoders) };
  return { flow: prediction === "flow", distilled: defaults.distilled_cfg_scale !== null, profile: Object.keys(profile).length > 0, reads, wishes };
}

// The checkpoints that can be loaded now; the page learns of those that came after it.
export async function usable() {
  const models = (await api("models")).checkpoints.filter((model) => model.supported);
  boot.checkpoints = models.map((model) => model.name);
  boot.models = Object.fromEntries(models.map((model) => [model.name, described(model)]));
  boot.starter = models.filter((model) => model.metadata["modelspec.title"]?.startsWith(boot.starter_title)).map((model) => model.name);
  bus.dispatchEvent(new CustomEvent("models"));
  bus.dispatchEvent(new CustomEvent("form")); // what was learnt may change what is offered
  return models;
}

// The choice on top is a setting, so that a restart, another browser and the command line agree with it. Gradio hands
// over values while it takes new ones: what has settled counts.
let stored = boot.values.checkpoint;
let storing = 0;

function store() {
  clearTimeout(storing);
  storing = setTimeout(() => {
    const { checkpoint } = values;
    if (!checkpoint || checkpoint === stored) return;
    stored = checkpoint;
    change({ checkpoint }).catch(complain);
  }, 300);
}

// Gradio hands over values while it takes new ones, so a choice is followed when it has settled, and before anything is made.
let followed = boot.values.checkpoint; // whose wishes the form holds
let given = new Set(); // fields that were filled together with the checkpoint: a picture's own, say
let settling = 0;
let following = Promise.resolve();

function follow() {
  clearTimeout(settling);
  const { checkpoint } = values;
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

// A field that still holds what the old checkpoint wanted takes what the new one wants; anything chosen stays. Width and
// height are one choice; an aspect ratio that was chosen is taken at the new checkpoint's size.
async function adopt(old, after, filled) {
  await usable().catch(() => []);
  const now = boot.models[after]?.wishes;
  if (!now) return;
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
  if (Object.keys(wanted).length) fill(wanted);
  bus.dispatchEvent(new CustomEvent("form"));
}

// What a profile remembers, and a request takes of the inputs that only some models have.
export function inputs() {
  const { flow, distilled } = facts();
  const encoders = JSON.parse(values.text_encoder || "[]");
  return {
    text_encoder: encoders.length ? encoders : "Automatic",
    distilled_cfg_scale: distilled ? values.distilled_cfg_scale : null,
    shift: flow && Number(values.shift) > 0 ? values.shift : null, // 0: the model's own rule
  };
}

const seedOf = (value) => String(value ?? "").trim() || "-1";

export async function generate(list) {
  if (list) keep(list);
  await follow();
  values = { ...values, ...pending };
  const wrong = numbers().find((input) => note(input)) ?? document.querySelector("#t2i-controls .option input[aria-invalid]");
  if (wrong) return reveal(wrong);
  const { sampler_options: _, ...plain } = values;
  const request = { ...plain, ...inputs(), ...applicable(), guidance: guiding(), styles: chosen(), seed: seedOf(values.seed), variation_seed: seedOf(values.variation_seed) };
  bus.dispatchEvent(new CustomEvent("submitting"));
  try {
    const view = await api("jobs", request);
    receive(view);
    bus.dispatchEvent(new CustomEvent("submitted", { detail: view }));
  } catch (error) {
    bus.dispatchEvent(new CustomEvent("refused", { detail: error }));
  }
}

// What a picture's own values put into the form: its record's plan.
export function reuse(record, only = null) {
  const plan = record.plan ?? {};
  const seed = record.seed === null ? null : String(record.seed); // other programs' pictures may not say
  const all = {
    prompt: record.prompt, negative_prompt: record.negative_prompt, sampler: plan.sampler, schedule: plan.schedule, steps: record.steps,
    width: record.width, height: record.height, cfg_scale: plan.cfg_scale, distilled_cfg_scale: plan.distilled_cfg_scale, shift: plan.shift ?? 0, vae: plan.vae_name ?? "Automatic", text_encoder: plan.text_encoder_names ?? [], clip_skip: plan.clip_skip, seed, checkpoint: plan.checkpoint_name, options: plan.options ?? {}, schedule_options: plan.schedule_options, discard_penultimate: plan.discard_penultimate, emphasis: plan.emphasis, noise_source: plan.noise_source, ensd: plan.ensd, guidance: plan.guidance ?? {},
    variation_seed: plan.variation_seeds?.[0] ?? "-1", variation_strength: plan.variation_strength, tiling: plan.tiling,
    seed_resize_width: plan.seed_resize?.[0] ?? 0, seed_resize_height: plan.seed_resize?.[1] ?? 0,
  };
  fill(only ? Object.fromEntries(only.map((name) => [name, all[name]])) : all);
}

export function field(name) {
  reveal(document.querySelector(`#${name.replaceAll("_", "-")} :is(textarea, input)`));
}

function reveal(input) {
  const closed = input?.closest(".section-body.closed");
  if (closed) document.querySelector(`[aria-controls="${closed.id}"]`)?.click();
  if (input && !input.offsetParent) document.getElementById("controls-toggle")?.click(); // a phone's closed sheet
  input?.scrollIntoView({ block: "nearest" });
  input?.focus();
}

// --- token counters -------------------------------------------------------------------------------------------------
const timers = {};
const counted = {};

// CLIP's are counted here at each key; by the server, some moments later, while the tokenizer's table is still on its way,
// and those of models that read by other tokenizers. Nothing is shown where nobody knows how a model reads.
function count(name) {
  const text = styled(withoutComments(values[name] ?? ""), additions(name));
  const evaluations = Number(values.steps) * (boot.samplers[values.sampler]?.evaluations ?? 1) || 1;
  const { reads = "clip" } = facts();
  const model = reads === "clip" ? "" : values.checkpoint;
  const here = !model && tokenizer.ready();
  const key = JSON.stringify([text, evaluations, here, model]);
  if (counted[name] === key) return;
  counted[name] = key;
  clearTimeout(timers[name]);
  if (here) return showCount(name, tokenizer.count(text, evaluations, name === "prompt"));
  timers[name] = setTimeout(async () => {
    const answer = await api("tokens", { text, model, evaluations, negative: name !== "prompt" }).catch(() => null);
    if (answer && counted[name] === key) showCount(name, answer);
  }, 250);
}

function showCount(name, answer) {
  const place = document.getElementById(`count-${name.replaceAll("_", "-")}`);
  if (!place) return;
  const told = answer.chunks > 1 ? "tokens.chunks" : answer.count > answer.limit ? "tokens.left_out" : "tokens.label";
  place.textContent = answer.limit ? `${answer.count}/${answer.limit}` : "";
  place.setAttribute("aria-label", answer.limit ? t("tokens.label", answer) : "");
  place.classList.toggle("over", answer.chunks > 1 || answer.count > answer.limit);
  place.title = answer.limit ? t(told, { ...answer, over: answer.count - answer.limit }) : "";
}

const countAll = () => ["prompt", "negative_prompt"].forEach(count);

// --- size -----------------------------------------------------------------------------------------------------------
const ratio = (text) => text.split(":").map(Number);

export function aspect(text) {
  const [w, v] = ratio(text);
  const area = usual("width") * usual("height");
  const chosen = values.width * values.height;
  fill(shaped(w / v, chosen > area * 1.7 || chosen < area / 1.7 ? chosen : area));
}

function shaped(share, area) {
  const side = (part) => Math.max(64, Math.round(Math.sqrt(area * part) / 8) * 8);
  return { width: side(share), height: side(1 / share) };
}

function markAspect() {
  for (const chip of document.querySelectorAll("[data-aspect]")) {
    const [w, v] = ratio(chip.dataset.aspect);
    const near = Math.abs(Math.log((values.width / values.height) / (w / v))) < 0.05;
    chip.setAttribute("aria-pressed", String(near));
  }
}

export const swap = () => fill({ width: values.height, height: values.width });

// --- numbers: out of range is said at once and never corrected, a double click resets ---------------------------------------------------------
const NUMBERS = ["#t2i-controls input[type=number]", "#clip-skip input", "#seed :is(input, textarea)", "#variation-seed :is(input, textarea)"].join();
const numbers = () => [...document.querySelectorAll(NUMBERS)];
const check = ({ target }) => target.matches?.(NUMBERS) && note(target);

// Gradio puts a number into its range when it is left: what was typed stays, with the sentence below it.
function hold(event) {
  if (event.target.matches?.(NUMBERS) && note(event.target)) event.stopImmediatePropagation();
}

// Says below the field what is wrong with it; returns that sentence, "" for none.
function note(input) {
  const block = input.closest(".block");
  if (!block) return "";
  const problem = input.closest("#seed, #variation-seed") ? seedProblem(input.value) : rangeProblem(input);
  let place = block.querySelector(".inf-note");
  if (!place && problem) block.append((place = h("span", { class: "inf-note", role: "alert" })));
  if (place && place.textContent !== problem) place.textContent = problem;
  input.setAttribute("aria-invalid", String(Boolean(problem)));
  return problem;
}

const seedProblem = (text) => (/^\s*(-1|\d{1,19})?\s*$/.test(text) ? "" : t("field.seed"));

function rangeProblem(input) {
  const [low, high, value] = [Number(input.min), Number(input.max), Number(input.value)];
  if (input.value === "" || Number.isNaN(value)) return t("field.number");
  if ((input.min && value < low) || (input.max && value > high)) return t("field.range", { low: input.min, high: input.max });
  if (Number(input.step) === 1 && !Number.isInteger(value)) return t("settings.whole");
  if (Number(input.step) === 8 && value % 8) return t("field.multiple", { multiple: 8 });
  return "";
}

function reset(event) {
  const block = event.target.closest?.("#t2i-controls .block");
  const label = event.target.closest?.("[data-testid=block-info]");
  if (!block || (event.target.type !== "range" && !label)) return;
  const name = block.id.replaceAll("-", "_");
  if (!names.includes(name)) return;
  getSelection()?.removeAllRanges(); // a double click on a word selects it
  fill({ [name]: usual(name) });
}

export function start() {
  mount("#form-bridge", () => {
    if (restored) return;
    if (!boot.remember_form) localStorage.removeItem(KEY);
    const { wishes = {}, checkpoint: _, ...saved } = JSON.parse(localStorage.getItem(KEY) ?? "{}"); // the setting says which
    const kept = (name) => String(saved[name]) !== String(wishes[name]);
    // What nobody had chosen is now what the checkpoint of now wants, which may be another than then
    const free = (name) => name in wishes && (SIZE.includes(name) ? !SIZE.some(kept) : !kept(name));
    restored = true;
    fill({ ...boot.values, ...Object.fromEntries(Object.entries(saved).filter(([name]) => !free(name))) });
    countAll();
    setTimeout(() => tokenizer.load().then(countAll), 1500); // the page first: the table is half a megabyte
  });
  mount("#size-tools", (element) => {
    element.addEventListener("click", (event) => {
      const chip = event.target.closest("button");
      if (chip?.dataset.aspect) aspect(chip.dataset.aspect);
      else if (chip?.id === "swap") swap();
    });
    markAspect();
  });
  mount(".seed-tools", (element) => element.addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    const { field } = element.dataset;
    if (chip?.id.endsWith("-dice")) fill({ [field]: "-1" });
    if (chip?.id.endsWith("-reuse")) bus.dispatchEvent(new CustomEvent("reuse-seed", { detail: field }));
  }));
  bus.addEventListener("setting", ({ detail }) => { if (detail.name === "checkpoint") stored = detail.value; });
  document.addEventListener("input", touch, true);
  document.addEventListener("input", check);
  for (const left of ["blur", "change"]) document.addEventListener(left, hold, true);
  document.addEventListener("dblclick", reset);
}
