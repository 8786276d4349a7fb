// The options of the chosen sampler and schedule, and what else few change. The form keeps them in one field, as JSON of
// what differs from its default: {options: {eta: 0.5}, schedule_options: {rho: 5}, discard_penultimate: true, emphasis: "None"}.

import { boot, bus, t } from "./live.js";
import { h, mount } from "./dom.js";
import { current, facts, fill } from "./form.js";

export const PACKED = ["options", "schedule_options", "discard_penultimate", "emphasis", "noise_source", "ensd"];
const KINDS = PACKED.slice(0, 2);
const PLAIN = PACKED.slice(2); // of a request as they are; null for what the sampler wants or the settings say
const EMPHASIS = ["Original", "No norm", "Ignore", "None"];
const ENSD = { default: 0, low: -(2 ** 31), high: 2 ** 31, whole: true };
const SOURCES = ["CPU", "GPU", "NV"];
let place = null;
let drawn = "";

const kept = () => ({ options: {}, schedule_options: {}, ...Object.fromEntries(PLAIN.map((name) => [name, null])), ...JSON.parse(current().sampler_options || "{}") });

// Whose options they are: Automatic is the sampler's own schedule, for flow models Simple.
function owners(values = current()) {
  const sampler = boot.samplers[values.sampler];
  const usual = facts(values.checkpoint).flow ? "simple" : sampler?.schedule;
  const schedule = values.schedule === "automatic" ? usual : values.schedule;
  return { options: sampler?.options ?? {}, schedule_options: boot.schedules[schedule]?.options ?? {} };
}

// What a request gets: nothing that sampler and schedule do not have.
export function applicable() {
  const mine = owners();
  const values = kept();
  const of = (kind) => Object.fromEntries(Object.entries(values[kind]).filter(([name]) => name in mine[kind]));
  return { ...values, options: of("options"), schedule_options: of("schedule_options") };
}

// The form's field for what an infotext or a record says; sampler and schedule as they will be then.
export function packed(wanted, values) {
  const mine = owners({ ...current(), ...values });
  const of = (kind) => Object.fromEntries(Object.entries(wanted[kind] ?? {}).filter(([name, value]) => mine[kind][name] && mine[kind][name].default !== value));
  return pack({ options: of("options"), schedule_options: of("schedule_options"), ...Object.fromEntries(PLAIN.map((name) => [name, wanted[name] ?? null])) });
}

function pack(values) {
  const full = Object.entries(values).filter(([, value]) => value !== null && !(typeof value === "object" && !Object.keys(value).length));
  return JSON.stringify(Object.fromEntries(full));
}

function put(kind, name, value) {
  const values = kept();
  if (value === null) delete values[kind][name];
  else values[kind][name] = value;
  fill({ sampler_options: pack(values) });
}

function problem(option, text) {
  const value = Number(text);
  if (text.trim() === "") return "";
  if (!Number.isFinite(value)) return t("field.number");
  if (value < option.low || value > option.high) return t("field.range", { low: option.low, high: option.high });
  return option.whole && !Number.isInteger(value) ? t("settings.whole") : "";
}

// What an option's name does not say; plug-ins' names have nothing.
const help = (name) => boot.texts[`option.help.${name}`] ?? null;

// value, put: what the field holds, and what takes a new value (null for the default).
export function number(name, option, value, put, key = name, label = h("code", {}, name)) {
  const note = h("span", { class: "inf-note" });
  const input = h("input", {
    type: "text", inputmode: "decimal", value, placeholder: option.default, autocomplete: "off", "data-option": key,
    oninput: () => {
      note.textContent = problem(option, input.value);
      input.toggleAttribute("aria-invalid", Boolean(note.textContent));
      if (!note.textContent) put(input.value.trim() === "" || Number(input.value) === option.default ? null : Number(input.value));
    },
  });
  return h("label", { class: "option", title: help(name) }, label, input, note);
}

// name: of a value of kept(); entries: [value, label]
function choice(name, label, entries) {
  const chosen = kept()[name];
  const select = h("select", { "data-choice": name, onchange: () => fill({ sampler_options: pack({ ...kept(), [name]: entries[select.selectedIndex][0] }) }) },
    entries.map(([value, text]) => h("option", { selected: value === chosen }, text)));
  return h("label", { class: "option wide" }, h("span", {}, label), select);
}

function draw() {
  if (!place) return;
  const mine = owners();
  const key = JSON.stringify([mine, current().sampler_options]);
  // While a number is typed its field stays as it is
  if (key === drawn || (place.contains(document.activeElement) && JSON.stringify(mine) === place.dataset.owners)) return;
  drawn = key;
  place.dataset.owners = JSON.stringify(mine);
  const fields = KINDS.flatMap((kind) => Object.entries(mine[kind]).map(([name, option]) =>
    number(name, option, kept()[kind][name] ?? null, (value) => put(kind, name, value))));
  const ensd = number("ensd", ENSD, kept().ensd, (value) => fill({ sampler_options: pack({ ...kept(), ensd: value }) }));
  place.replaceChildren(...fields, ensd,
    choice("discard_penultimate", t("options.discard"), [[null, t("options.automatic")], [true, t("options.yes")], [false, t("options.no")]]),
    choice("noise_source", t("setting.noise_source"), [[null, t("options.setting")], ...SOURCES.map((source) => [source, source])]),
    choice("emphasis", t("setting.emphasis"), [[null, t("options.setting")], ...EMPHASIS.map((mode) => [mode, mode])]));
}

export function start() {
  mount("#options-fields", (element) => {
    place = element;
    drawn = "";
    element.addEventListener("focusout", () => setTimeout(draw));
    draw();
  });
  bus.addEventListener("form", draw);
}
