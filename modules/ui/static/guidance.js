// What is added to CFG, in a section of its own. The form keeps it in one field, as JSON of what differs from its
// default: {pag: {scale: 3}, rescale: {phi: 0.7}}. Kinds, options and their texts come with the page, plugged-in ones
// as well.

import { boot, bus, t } from "./live.js";
import { h, mount } from "./dom.js";
import { current, enter } from "./fields.js";
import { number } from "./option-fields.js";

let place = null;
let drawn = "";

// What a request gets.
export const guiding = () => JSON.parse(current().guidance || "{}");

// The form's field for what an infotext or a record says.
export function guided(wanted) {
  const differing = (kind, values) => Object.entries(values).filter(([name, value]) => differs(kind, name, value));
  const kinds = Object.entries(wanted).map(([kind, values]) => [kind, Object.fromEntries(differing(kind, values))]);
  return JSON.stringify(Object.fromEntries(kinds.filter(([, values]) => Object.keys(values).length)));
}

function differs(kind, name, value) {
  const option = boot.guidance[kind]?.options[name];
  return option && option.default !== value;
}

function put(kind, name, value) {
  const now = guiding();
  const next = { ...now[kind], [name]: value ?? boot.guidance[kind].options[name].default };
  enter({ guidance: guided({ ...now, [kind]: next }) }); // which leaves out defaults
}

function field(kind, name, option) {
  const value = guiding()[kind]?.[name];
  const key = `${kind}.${name}`;
  const take = (next) => put(kind, name, next);
  if (option.choices.length) return choice(key, option, value ?? option.default, take);
  const binary = option.whole && option.low === 0 && option.high === 1;
  if (binary) return tick(key, option, Boolean(value ?? option.default), take);
  const label = h("span", { title: t("field.range", { low: option.low, high: option.high }) }, option.label);
  return number(name, option, value ?? null, take, key, label);
}

function choice(key, option, value, take) {
  const select = h("select", { "data-option": key, onchange: () => take(option.low + select.selectedIndex) },
    option.choices.map((text, index) => h("option", { selected: option.low + index === value }, text)));
  return h("label", { class: "option wide" }, h("span", {}, option.label), select);
}

function tick(key, option, checked, take) {
  const onchange = () => take(Number(input.checked));
  const input = h("input", { type: "checkbox", checked, "data-option": key, onchange });
  return h("label", { class: "option tick" }, input, h("span", {}, option.label));
}

function draw() {
  if (!place) return;
  const value = current().guidance;
  // While a number is typed its field stays as it is
  if (value === drawn || place.contains(document.activeElement)) return;
  drawn = value;
  place.replaceChildren(...Object.entries(boot.guidance).map(([kind, { label, help, options }]) =>
    h("fieldset", { class: "guidance" }, h("legend", {}, label), help ? h("p", { class: "help" }, help) : null,
      Object.entries(options).map(([name, option]) => field(kind, name, option)))));
}

export function start() {
  mount("#guidance-fields", (element) => {
    place = element;
    drawn = null;
    element.addEventListener("focusout", () => setTimeout(draw));
    draw();
  });
  bus.addEventListener("form", draw);
}
