// Files beside the checkpoint, Forge's "VAE / Text Encoder": for each part the checkpoint's own or what is found by itself,
// else a file that was chosen. The form keeps them as a name (vae) and a JSON list of names (text_encoder).

import { api, bus, t } from "./live.js";
import { h, icon, iconButton, mount } from "./dom.js";
import { current, enter } from "./fields.js";

const AUTOMATIC = "Automatic";
let place = null;
let sheet = null;
let of = null; // the checkpoint that `parts` are of
let parts = [];

const encoders = () => JSON.parse(current().text_encoder || "[]");
// The file that is chosen for a part; a checkpoint may take one file in either of two places, never in both.
function chosen(part) {
  if (part.field === "vae") return current().vae;
  return encoders().find((name) => part.files.includes(name)) ?? AUTOMATIC;
}

async function look() {
  const { checkpoint } = current();
  if (!checkpoint) return;
  const answer = await api(`models/parts?checkpoint=${encodeURIComponent(checkpoint)}`).catch(() => null);
  if (!answer || checkpoint !== current().checkpoint) return;
  of = checkpoint;
  parts = answer.parts;
  leaveMisfits();
  draw();
}

// Files that were chosen for another checkpoint and do not fit this one.
function leaveMisfits() {
  const files = (field) => parts.filter((part) => part.field === field).flatMap((part) => part.files);
  const { vae } = current();
  const kept = encoders().filter((name) => files("text_encoder").includes(name));
  const wanted = {};
  const own = parts.some((part) => part.field === "vae" && part.own);
  if (vae !== AUTOMATIC && !(vae === "None" && own) && !files("vae").includes(vae)) wanted.vae = AUTOMATIC;
  if (kept.length < encoders().length) wanted.text_encoder = JSON.stringify(kept);
  if (Object.keys(wanted).length) enter(wanted);
}

function choose(part, name) {
  if (part.field === "vae") return enter({ vae: name });
  const others = encoders().filter((each) => !part.files.includes(each));
  return enter({ text_encoder: JSON.stringify(name === AUTOMATIC ? others : [...others, name]) });
}

// Puts a file where it fits with the chosen checkpoint; false where it fits nowhere.
export async function chooseFile(name) {
  await look(); // it may be new
  const part = parts.find((each) => each.files.includes(name));
  if (part) choose(part, name);
  return Boolean(part);
}

const short = (name) => name.split("/").at(-1);
const label = (part) => (part.field === "vae" ? t("vae") : t("parts.encoder", { kind: part.kind_label }));
const folder = (part) => (part.field === "vae" ? "models/VAE" : "models/text_encoder");
const missing = () => parts.filter((part) => part.missing && chosen(part) === AUTOMATIC);

function draw() {
  drawSheet();
  const note = document.getElementById("parts-note");
  const lost = of === current().checkpoint ? missing() : [];
  const said = lost.length ? t("parts.missing", { name: short(of), parts: lost.map(label).join(", "), files: lost.map((part) => `${part.usual} (${folder(part)})`).join(", ") }) : "";
  if (note && note.textContent !== said) note.replaceChildren(...(said ? [icon("triangle-alert"), h("span", {}, said)] : []));
  if (!place) return;
  const names = [current().vae, ...encoders()].filter((name) => name && name !== AUTOMATIC);
  const text = names.length ? names.map((name) => (name === "None" ? t("parts.none") : short(name))).join(", ") : t("parts.automatic");
  place.querySelector("#parts-open span").textContent = text;
  place.querySelector("#parts-open").title = text;
  place.querySelector("#parts-open").setAttribute("aria-invalid", String(lost.length > 0));
}

function row(part, value, name, text, fine = "") {
  const box = h("input", { type: "radio", name: `part-${part.name}`, checked: value === name, onchange: () => choose(part, name) });
  return h("li", { class: "style-row" }, h("label", {}, box, h("span", { class: "style-name" }, text), h("span", { class: "style-text" }, fine)));
}

function group(part, wanted) {
  const value = chosen(part);
  const automatic = part.automatic ? short(part.automatic) : part.own ? t("parts.own") : part.optional ? t("parts.without") : "";
  const files = part.files.filter((name) => name.toLowerCase().includes(wanted) || name === value);
  return h("section", { class: "part-choice", "aria-label": label(part) },
    h("h3", {}, label(part)),
    part.missing ? h("p", { class: "inf-note" }, t("parts.put", { file: part.usual, folder: folder(part) })) : null,
    h("ul", { class: "style-list" },
      row(part, value, AUTOMATIC, t("parts.automatic"), automatic),
      part.field === "vae" && part.own ? row(part, value, "None", t("parts.none")) : null,
      files.map((name) => row(part, value, name, short(name), name === short(name) ? "" : name))));
}

function drawSheet() {
  if (!sheet) return;
  const wanted = sheet.search.value.trim().toLowerCase();
  sheet.search.hidden = parts.reduce((count, part) => count + part.files.length, 0) < 8;
  const at = document.activeElement?.closest?.(".style-row")?.textContent;
  sheet.list.replaceChildren(...(parts.length ? parts.map((part) => group(part, wanted)) : [h("p", { class: "fine" }, t("parts.nothing"))]));
  if (at) [...sheet.list.querySelectorAll(".style-row")].find((each) => each.textContent === at)?.querySelector("input").focus();
}

function open() {
  const list = h("div", { class: "sheet-body" });
  const search = h("input", { type: "search", placeholder: t("parts.search"), "aria-label": t("parts.search"), oninput: drawSheet });
  sheet = h("dialog", { class: "sheet wide", "aria-label": t("parts"), onclose: () => { sheet.remove(); sheet = null; }, onclick: (event) => event.target === sheet && sheet.close() },
    h("div", { class: "sheet-head" }, h("h2", {}, t("parts")), iconButton(t("close"), "x", () => sheet.close())), search, list);
  Object.assign(sheet, { list, search });
  document.body.append(sheet);
  sheet.showModal();
  drawSheet();
  look(); // files may have come
}

export function start() {
  mount("#parts-choice", (element) => {
    place = element;
    element.replaceChildren(h("span", { class: "field-label", id: "parts-label" }, t("parts")),
      h("button", { type: "button", id: "parts-open", class: "parts-open", "aria-haspopup": "dialog", "aria-labelledby": "parts-label parts-open", onclick: open }, h("span", {}), icon("chevron-down")));
    draw();
  });
  bus.addEventListener("models", look);
  bus.addEventListener("form", () => (of === current().checkpoint ? draw() : look()));
}
