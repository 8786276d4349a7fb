// Styles: chosen from a sheet, shown as chips under the buttons, kept in the form as a JSON list of names.

import { api, bus, t } from "./live.js";
import { button, h, icon, iconButton, mount } from "./dom.js";
import { current, enter } from "./fields.js";
import { styled } from "./prompt-grammar.js";
import { ask, complain } from "./toast.js";

let known = [];
let asked = null;
let sheet = null;

export const chosen = () => JSON.parse(current().styles || "[]");
const choose = (names) => enter({ styles: JSON.stringify(names) });
const of = (name) => known.find((style) => style.name === name);

// The texts that the chosen styles add to a prompt or negative prompt.
export const additions = (field) => chosen().map((name) => of(name)?.[field] ?? "");

async function look() {
  asked ??= api("styles");
  known = await asked.then(({ styles }) => styles, (error) => { asked = null; complain(error); return known; });
  draw();
}

function toggle(name) {
  const names = chosen();
  choose(names.includes(name) ? names.filter((each) => each !== name) : [...names, name]);
}

// What AUTOMATIC1111's clipboard button does: the styles become text of the prompt and are chosen no longer.
function insert() {
  const values = current();
  const [prompt, negative] = ["prompt", "negative_prompt"].map((name) => styled(values[name], additions(name)));
  enter({ prompt, negative_prompt: negative, styles: "[]" });
  sheet?.close();
}

async function change(path, body) {
  try {
    known = (await api(path, body)).styles;
    asked = Promise.resolve({ styles: known });
    draw();
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

function edit(style, old = null) {
  const area = (name, label, rows) => h("label", { class: "field" }, h("span", {}, label), h("textarea", { name, rows, maxlength: 100_000 }));
  const form = h("form", { class: "style-form", method: "dialog" },
    h("label", { class: "field" }, h("span", {}, t("styles.name")), h("input", { name: "name", maxlength: 200, required: true, autocomplete: "off" })),
    area("prompt", t("prompt"), 4), area("negative_prompt", t("negative_prompt"), 3),
    h("p", { class: "fine" }, t("styles.place")),
    h("div", { class: "ask-actions" }, button(t("cancel"), null, () => dialog.close()), h("button", { type: "submit", class: "tool lead" }, icon("check"), h("span", {}, t("styles.save")))));
  const dialog = h("dialog", { class: "sheet wide", "aria-label": t("styles.edit"), onclose: () => dialog.remove() },
    h("div", { class: "sheet-head" }, h("h2", {}, old ? t("styles.edit") : t("styles.new")), iconButton(t("close"), "x", () => dialog.close())), form);
  for (const name of ["name", "prompt", "negative_prompt"]) form.elements[name].value = style[name] ?? "";
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(form));
    if (!(await change("styles", values))) return;
    const name = values.name.trim();
    if (old && old !== name) {
      await change("styles/delete", { name: old });
      choose(chosen().map((each) => (each === old ? name : each)));
    }
    dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
}

async function remove(name) {
  if (!(await ask(t("styles.delete"), t("styles.delete.text", { name }), t("styles.delete.yes")))) return;
  if (await change("styles/delete", { name })) choose(chosen().filter((each) => each !== name));
}

function row(style, names) {
  const box = h("input", { type: "checkbox", checked: names.includes(style.name), onchange: () => toggle(style.name) });
  return h("li", { class: "style-row" },
    h("label", {}, box, h("span", { class: "style-name" }, style.name), h("span", { class: "style-text" }, [style.prompt, style.negative_prompt].filter(Boolean).join("  −  "))),
    iconButton(t("styles.edit"), "pencil", () => edit(style, style.name)), iconButton(t("styles.delete"), "trash-2", () => remove(style.name)));
}

function open() {
  const list = h("ul", { class: "style-list" });
  const search = h("input", { type: "search", placeholder: t("styles.search"), "aria-label": t("styles.search"), oninput: () => drawList() });
  const values = current();
  sheet = h("dialog", { class: "sheet wide", "aria-label": t("styles"), onclose: () => { sheet.remove(); sheet = null; }, onclick: (event) => event.target === sheet && sheet.close() },
    h("div", { class: "sheet-head" }, h("h2", {}, t("styles")), iconButton(t("close"), "x", () => sheet.close())),
    search, list, h("p", { class: "fine none" }, t("styles.none")),
    h("div", { class: "ask-actions" },
      button(t("styles.new"), "star", () => edit({ prompt: values.prompt, negative_prompt: values.negative_prompt })),
      button(t("styles.insert"), "text-quote", insert, { id: "styles-insert", title: t("styles.insert.title") })));
  sheet.list = list;
  sheet.search = search;
  document.body.append(sheet);
  sheet.showModal();
  asked = null;
  look();
}

function drawList() {
  if (!sheet) return;
  const names = chosen();
  const wanted = sheet.search.value.trim().toLowerCase();
  sheet.search.hidden = known.length < 8;
  sheet.list.replaceChildren(...known.filter((style) => `${style.name} ${style.prompt}`.toLowerCase().includes(wanted)).map((style) => row(style, names)));
  sheet.querySelector(".none").hidden = known.length > 0;
  sheet.querySelector("#styles-insert").disabled = !names.length;
}

function draw() {
  drawList();
  const place = document.getElementById("styles-chosen");
  if (!place) return;
  const names = chosen();
  const key = JSON.stringify([names, names.map((name) => !!of(name))]);
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.replaceChildren(...names.map((name) =>
    h("button", { type: "button", class: "chip style", title: t("styles.drop", { name }), "aria-label": t("styles.drop", { name }), onclick: () => toggle(name) }, h("span", {}, name), icon("x"))));
}

export function start() {
  mount("#styles-tools", (element) => {
    element.append(button(t("styles"), "star", open, { id: "styles-open", "aria-haspopup": "dialog" }), h("div", { id: "styles-chosen" }));
    draw();
  });
  bus.addEventListener("form", () => {
    if (chosen().length && !known.length && !asked) look();
    draw();
  });
}
