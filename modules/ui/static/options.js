// The options of the chosen sampler and schedule, and what else few change. The form keeps them in one field, as JSON of
// what differs from its default: {options: {eta: 0.5}, schedule_options: {rho: 5}, discard_penultimate: true, emphasis: "None"}.

import { boot, bus, t } from "./live.js";
import { h, mount } from "./dom.js";
import { facts } from "./checkpoints.js";
import { current, enter } from "./fields.js";
import { number } from "./option-fields.js";

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
  enter({ sampler_options: pack(values) });
}

// name: of a value of kept(); entries: [value, label]
function choice(name, label, entries) {
  const chosen = kept()[name];
  const select = h("select", { "data-choice": name, onchange: () => enter({ sampler_options: pack({ ...kept(), [name]: entries[select.selectedIndex][0] }) }) },
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
  const ensd = number("ensd", ENSD, kept().ensd, (value) => enter({ sampler_options: pack({ ...kept(), ensd: value }) }));
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
