// The settings, drawn from their own descriptions: whatever the server lists is here, in its words if the texts have none.

import { boot, bus, t } from "./live.js";
import { button, h, icon, iconButton, mount, worded } from "./dom.js";
import { change, described, reload, reset } from "./preferences.js";
import { onVisible, reloadHere } from "./tabs.js";
import { followTheme } from "./theme.js";

const rows = new Map(); // setting's name -> {spec, element, show, fold, note}
let parts = null;
let overruled = {};

const has = (key) => Object.hasOwn(boot.texts, key);
const word = (key, fallback) => (has(key) ? t(key) : fallback);
const sectionName = (name) => word(`section.${name}`, name[0].toUpperCase() + name.slice(1));
const choiceName = (spec, value) => word(`${spec.label_key}.${value}`, (spec.name === "language" && boot.languages[value]) || value);
const fold = (text) => text.toLocaleLowerCase(boot.language).normalize("NFD").replace(/\p{M}/gu, "");

function build(element) {
  const search = h("input", { type: "search", placeholder: t("settings.search"), "aria-label": t("settings.search"), maxlength: 200, autocomplete: "off", spellcheck: "false", oninput: sift });
  const nav = h("nav", { class: "settings-nav", "aria-label": t("settings.sections") });
  const body = h("div", { class: "settings-body" });
  const none = h("div", { class: "message", hidden: true }, icon("search"), h("p", { class: "title" }, t("settings.none")));
  element.replaceChildren(h("div", { class: "settings-head" }, h("label", { class: "search" }, icon("search"), search)), h("div", { class: "settings-frame" }, nav, h("div", {}, body, none)));
  parts = { element, search, nav, body, none };
  onVisible(element, draw);
}

async function draw() {
  let answer;
  try {
    answer = await (rows.size ? reload() : described());
  } catch (error) {
    parts.body.replaceChildren(h("div", { class: "message danger" }, icon("triangle-alert"), h("p", { class: "title" }, error.message), h("p", {}, error.hint), h("div", { class: "actions" }, button(t("error.again"), "rotate-ccw", draw))));
    return;
  }
  overruled = answer.overruled;
  const listed = answer.settings.filter((spec) => !spec.hidden);
  if ([...rows.keys()].join() !== listed.map((spec) => spec.name).join()) drawAll(answer.sections, listed);
  for (const spec of answer.settings) rows.get(spec.name)?.show(spec.value);
}

function drawAll(sections, listed) {
  rows.clear();
  const shown = sections.filter((name) => listed.some((spec) => spec.section === name));
  parts.nav.replaceChildren(...shown.map((name) => h("button", { type: "button", "data-section": name, onclick: () => go(name) }, sectionName(name), h("i", { class: "dot", hidden: true }))));
  parts.body.replaceChildren(...shown.map((name) => h("section", { class: "settings-section", "data-section": name, "aria-label": sectionName(name) }, h("h2", {}, sectionName(name)),
    h("div", { class: "settings-card" }, listed.filter((spec) => spec.section === name).map(row)))));
  watch();
  sift();
}

function row(spec) {
  const id = `setting-${spec.name}`;
  const label = word(spec.label_key, spec.label);
  const help = word(spec.help_key, spec.help);
  const note = h("span", { class: "inf-note", role: "alert" });
  const saved = h("span", { class: "saved", "aria-hidden": "true", onanimationend: () => saved.classList.remove("now") }, icon("check"));
  const back = iconButton(t("settings.reset"), "rotate-ccw", () => attempt(() => reset([spec.name])), { class: "tool square back" });
  const dot = h("i", { class: "dot", title: t("settings.changed") });
  const control = { bool: toggle, choice, int: figure, float: figure, text: line }[spec.kind](spec, id, store);
  const forced = overruled[spec.name] && t("settings.overruled", { value: choiceName(spec, overruled[spec.name]) });
  const element = h("div", { class: `setting ${spec.kind}`, "data-name": spec.name },
    h("div", { class: "setting-text" },
      h("label", { for: id, id: `${id}-label` }, label, dot),
      h("p", { id: `${id}-help` }, worded(help), marked(spec.needs_restart && t("settings.restart")), marked(forced))),
    h("div", { class: "setting-control" }, saved, back, control.element, note));
  let stored = spec.value;
  const show = (value) => {
    stored = value;
    control.show(value);
    const changed = value !== spec.default;
    dot.hidden = !changed;
    back.classList.toggle("idle", !changed);
    mark("");
    spotSection(spec.section);
  };
  const mark = (problem) => {
    note.textContent = problem;
    control.field.setAttribute("aria-invalid", String(Boolean(problem)));
  };

  // One after another: leaving a field stores it, and the button that was pressed to leave it may reset it.
  let last = Promise.resolve();
  const attempt = (run) => { last = last.then(() => settle(run)); };

  async function settle(run) {
    try {
      await run();
      saved.classList.remove("now");
      void saved.offsetWidth; // so that the mark appears anew
      saved.classList.add("now");
      if (spec.needs_restart) element.classList.add("pending");
    } catch (error) {
      mark(error.field === spec.name ? error.hint || error.message : [error.message, error.hint].filter(Boolean).join(" "));
    }
  }

  function store(value) {
    const problem = outside(spec, value);
    if (problem) return mark(problem);
    return value === stored ? mark("") : attempt(() => change({ [spec.name]: value }));
  }

  const words = [spec.name, label, help, spec.label, spec.help, sectionName(spec.section), ...spec.choices.map((each) => choiceName(spec, each))];
  rows.set(spec.name, { spec, element, show, changed: () => !dot.hidden, text: fold(words.join(" ")) });
  show(spec.value);
  return element;
}

const marked = (text) => (text ? h("span", { class: "restart" }, text) : null);

// What can be told without asking the server, in the page's language.
function outside(spec, value) {
  if (spec.kind !== "int" && spec.kind !== "float") return "";
  if (value === "" || Number.isNaN(Number(value))) return t("field.number");
  const [low, high] = [spec.low ?? -Infinity, spec.high ?? Infinity];
  if (Number(value) < low || Number(value) > high) return t("field.range", { low, high });
  return spec.kind === "int" && !Number.isInteger(Number(value)) ? t("settings.whole") : "";
}

// --- controls: each {element, field, show(value)} ------------------------------------------------------------------------
const describedBy = (id) => ({ id, "aria-describedby": `${id}-help` });

function toggle(spec, id, store) {
  const field = h("button", { type: "button", class: "switch", role: "switch", "aria-labelledby": `${id}-label`, ...describedBy(id), onclick: () => store(field.getAttribute("aria-checked") !== "true") }, h("i"));
  return { element: field, field, show: (value) => field.setAttribute("aria-checked", String(value)) };
}

function figure(spec, id, store) {
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    const problem = outside(spec, field.value);
    if (problem) store(field.value);
    else timer = setTimeout(() => store(Number(field.value)), 600);
  };
  const now = () => {
    clearTimeout(timer);
    store(field.value === "" ? "" : Number(field.value));
  };
  const field = h("input", { type: "number", min: spec.low, max: spec.high, step: spec.kind === "int" ? 1 : "any", inputmode: spec.kind === "int" ? "numeric" : "decimal", ...describedBy(id), oninput: later, onchange: now });
  return { element: field, field, show: (value) => { if (field.value === "" || Number(field.value) !== value) field.value = value; } };
}

function line(spec, id, store) {
  const field = h("input", { type: "text", maxlength: spec.high ?? 400, ...describedBy(id), onchange: () => store(field.value) });
  return { element: field, field, show: (value) => { field.value = value; } };
}

function choice(spec, id, store) {
  if (spec.choices.length > 4) {
    const field = h("select", { ...describedBy(id), onchange: () => store(field.value) }, spec.choices.map((value) => h("option", { value }, choiceName(spec, value))));
    return { element: field, field, show: (value) => { field.value = value; } };
  }
  const field = h("div", { class: "segments", role: "group", "aria-labelledby": `${id}-label`, ...describedBy(id) },
    spec.choices.map((value) => h("button", { type: "button", "data-value": value, onclick: () => store(value) }, choiceName(spec, value))));
  const show = (value) => {
    for (const each of field.children) each.setAttribute("aria-pressed", String(each.dataset.value === value));
  };
  return { element: field, field, show };
}

// --- finding -------------------------------------------------------------------------------------------------------------
function sift() {
  const words = fold(parts.search.value).split(/\s+/).filter(Boolean);
  let found = 0;
  for (const { element, text } of rows.values()) {
    element.hidden = !words.every((each) => text.includes(each));
    found += element.hidden ? 0 : 1;
  }
  for (const section of parts.body.querySelectorAll(".settings-section")) {
    section.hidden = !section.querySelector(".setting:not([hidden])");
    parts.nav.querySelector(`[data-section="${CSS.escape(section.dataset.section)}"]`).hidden = section.hidden;
  }
  parts.none.hidden = found > 0 || !rows.size;
}

function spotSection(name) {
  const mark = parts.nav.querySelector(`[data-section="${CSS.escape(name)}"] .dot`);
  if (mark) mark.hidden = ![...rows.values()].some((each) => each.spec.section === name && each.changed());
}

function go(name) {
  const place = parts.body.querySelector(`.settings-section[data-section="${CSS.escape(name)}"]`);
  place.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  light(name);
}

const light = (name) => {
  for (const each of parts.nav.children) each.setAttribute("aria-current", String(each.dataset.section === name));
};

// The section at the top of the window is the one that the list of sections marks.
function watch() {
  const seen = new IntersectionObserver((entries) => {
    const top = entries.filter((entry) => entry.isIntersecting)[0];
    if (top) light(top.target.dataset.section);
  }, { rootMargin: "-80px 0px -70% 0px" });
  for (const section of parts.body.children) seen.observe(section);
  if (parts.nav.firstChild) light(parts.nav.firstChild.dataset.section);
}

// --- what takes effect in the page itself -----------------------------------------------------------------------------------
function adopt({ detail: { name, value } }) {
  rows.get(name)?.show(value);
  if (name === "theme") {
    localStorage.removeItem("inferenz.theme"); // this choice is newer than that of the button on top
    boot.theme = value;
    followTheme();
  }
  if (name === "language") {
    document.cookie = `inferenz_language=${value === "auto" ? "" : value}; path=/; max-age=${value === "auto" ? 0 : 31_536_000}; samesite=lax`;
    reloadHere("settings"); // the page is another one in another language
  }
}

export function start() {
  mount("#inf-settings", build);
  bus.addEventListener("setting", adopt);
}
