// The field of one option of a sampler, a schedule or a guidance: its number, and what is wrong with it.

import { boot, t } from "./live.js";
import { h } from "./dom.js";

function problem(option, text) {
  const value = Number(text);
  if (text.trim() === "") return "";
  if (!Number.isFinite(value)) return t("field.number");
  if (value < option.low || value > option.high) return t("field.range", { low: option.low, high: option.high });
  return option.whole && !Number.isInteger(value) ? t("settings.whole") : "";
}

// What an option's name does not say: over it for a mouse, and below its number while that is written. Plug-ins' names
// have nothing.
const help = (name) => boot.texts[`option.help.${name}`] ?? null;

// value, put: what the field holds, and what takes a new value (null for the default).
export function number(name, option, value, put, key = name, label = h("code", {}, name)) {
  const note = h("span", { class: "inf-note" });
  const input = h("input", {
    type: "text", inputmode: "decimal", value, placeholder: option.default, autocomplete: "off", "data-option": key,
    oninput: () => {
      note.textContent = problem(option, input.value);
      input.toggleAttribute("aria-invalid", Boolean(note.textContent));
      const value = Number(input.value);
      if (!note.textContent) put(input.value.trim() === "" || value === option.default ? null : value);
    },
  });
  const hint = help(name);
  return h("label", { class: "option", title: hint }, label, input, note, hint ? h("span", { class: "hint" }, hint) : null);
}
