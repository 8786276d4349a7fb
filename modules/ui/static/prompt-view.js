// Under each prompt: what is probably not meant, and what each step sees. The server reads the text, some moments after
// the last key.

import { api, bus, t } from "./live.js";
import { button, h, icon, iconButton, mount } from "./dom.js";
import { current } from "./fields.js";
import { chosen } from "./styles.js";

const FIELDS = ["prompt", "negative_prompt"];
const WAIT_MS = 400;
const FEW = 2; // troubles that are told at once
// A text without any of these has no problem and one stage.
const NOTABLE = /[()[\]{}<>\\|]|__|\bAND\b/;
let timer = 0;
let asked = "";
let view = null;
const unfolded = new Set(); // fields whose troubles are all told

const id = (field) => field.replaceAll("_", "-");
const notable = (values) => chosen().length > 0 || FIELDS.some((field) => NOTABLE.test(values[field] ?? "") || (values[field] ?? "").length > 100_000);

function question() {
  const values = current();
  return { prompt: values.prompt, negative_prompt: values.negative_prompt, styles: chosen(), sampler: values.sampler, steps: values.steps, seed: Number(values.seed) > 0 ? values.seed : 0 };
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(look, WAIT_MS);
}

async function look() {
  const values = question();
  const key = JSON.stringify(values);
  if (key === asked) return;
  asked = key;
  const found = notable(values) ? await api("prompt", values).catch((error) => failed(error)) : null;
  if (asked !== key) return;
  view = found;
  FIELDS.forEach(draw);
}

// What the form says about a field outside the prompts is told there; a prompt that is refused is told here.
function failed(error) {
  if (!FIELDS.includes(error.field)) return null;
  const trouble = { problem: "refused", values: { text: error.message }, start: null, end: null };
  return Object.fromEntries(FIELDS.map((field) => [field, { troubles: field === error.field ? [trouble] : [], parts: [], drawn: "" }]));
}

function show(field, trouble) {
  const area = document.querySelector(`#${id(field)} textarea`);
  area?.focus();
  if (trouble.start !== null) area?.setSelectionRange(trouble.start, trouble.end);
}

const sentence = (trouble) => t(`lint.${trouble.problem}`, trouble.values);
const changes = (found, field) => found.parts.length > 1 || found.parts.some((part) => part.rows.length > 1) || found.drawn !== current()[field];

const line = (text, onclick, before = null) =>
  h("button", { type: "button", class: "trouble", onclick }, before, h("span", {}, text));

function unfold(field) {
  unfolded.add(field);
  draw(field);
  document.querySelectorAll(`#lint-${id(field)} .trouble`)[FEW]?.focus(); // what was pressed is gone
}

function draw(field) {
  const place = document.getElementById(`lint-${id(field)}`);
  if (!place) return;
  const found = view?.[field];
  const troubles = found?.troubles ?? [];
  if (troubles.length <= FEW) unfolded.delete(field);
  const told = unfolded.has(field) ? troubles : troubles.slice(0, FEW);
  const shown = told.map((trouble) => line(sentence(trouble), () => show(field, trouble), icon("triangle-alert")));
  const left = troubles.length - told.length;
  if (left) shown.push(line(t("lint.more", { count: left }), () => unfold(field)));
  const see = found && changes(found, field) ? button(t("steps.see"), "film", () => open(field), { class: "tool see" }) : null;
  place.replaceChildren(...shown, ...(see ? [see] : []));
}

function stage(row, perStep) {
  const span = row.first === row.last ? String(row.first) : `${row.first}–${row.last}`;
  return h("tr", {}, h("th", { scope: "row" }, t(perStep > 1 ? "steps.evaluations" : "steps.steps", { span })), h("td", {}, row.text || t("steps.empty")));
}

function part(each, several, perStep) {
  return [several ? h("h3", {}, t("steps.weight", { weight: each.weight })) : null,
    h("table", { class: "stages" }, h("tbody", {}, each.rows.map((row) => stage(row, perStep)))),
    each.more ? h("p", { class: "fine" }, t("steps.more")) : null];
}

function open(field) {
  const found = view[field];
  const perStep = view.evaluations_per_step;
  const dialog = h("dialog", { class: "sheet wide", "aria-label": t("steps.see"), onclose: () => dialog.remove(), onclick: (event) => event.target === dialog && dialog.close() },
    h("div", { class: "sheet-head" }, h("h2", {}, `${t("steps.see")}: ${t(field)}`), iconButton(t("close"), "x", () => dialog.close())),
    perStep > 1 ? h("p", { class: "fine" }, t("steps.twice")) : null,
    h("div", { class: "sheet-body" }, found.parts.flatMap((each) => part(each, found.parts.length > 1, perStep))));
  document.body.append(dialog);
  dialog.showModal();
}

export function start() {
  for (const field of FIELDS) mount(`#lint-${id(field)}`, () => draw(field));
  bus.addEventListener("form", later);
}
