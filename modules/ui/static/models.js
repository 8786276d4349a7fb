// What lies in the model folders: what each file is, which one is loaded, and what can be done with it.

import { api, boot, bus, number, t } from "./live.js";
import { button, h, icon, mount } from "./dom.js";
import { current } from "./fields.js";
import { fill } from "./fill.js";
import { inWords, predictionName, takeForm } from "./model-take.js";
import { markdown } from "./markdown.js";
import { chooseFile } from "./parts.js";
import { change } from "./preferences.js";
import { onVisible, showTab } from "./tabs.js";
import { complain, toast } from "./toast.js";

const KINDS = ["checkpoints", "vaes", "text_encoders"];
const USE = { checkpoints: "models.use", vaes: "models.use.vae", text_encoders: "models.use.text_encoder" };
const FIELD = { checkpoints: "checkpoint", vaes: "vae", text_encoders: "text_encoder" };
const EVERY = 3_000; // ms between two looks while the tab is open
const state = { kind: "checkpoints", query: "", listing: null, loaded: [], error: null };
const cards = new Map(); // name -> text of its card
const unfolded = new Set(); // names whose card is open
const told = new Set(); // conversions whose end was told
let parts = null;
let timer = 0;
let drawn = "";
let taking = ""; // name of the checkpoint that is being taken as something else
let fresh = false;

function build(element) {
  const search = h("input", { type: "search", placeholder: t("models.search"), "aria-label": t("models.search"), maxlength: 200, autocomplete: "off", spellcheck: "false", oninput: () => { state.query = search.value; draw(); } });
  const kinds = h("div", { class: "segments", role: "group", "aria-label": t("gallery.show") }, KINDS.map((kind) =>
    h("button", { type: "button", "data-kind": kind, onclick: () => { state.kind = kind; draw(); } }, h("span", {}, t(`models.${kind}`)), h("b", { class: "badge" }))));
  const unload = button(t("models.unload"), "cpu", free, { class: "tool lined", id: "unload", title: t("models.unload.title") });
  const refresh = button(t("models.refresh"), "refresh-cw", lookAgain, { class: "tool lined", id: "refresh-models" });
  const list = h("div", { class: "model-list" });
  const where = h("p", { class: "model-where fine" });
  element.replaceChildren(h("div", { class: "models-bar" }, kinds, h("label", { class: "search" }, icon("search"), search), h("span", { class: "spring" }), unload, refresh), list, where);
  parts = { element, search, kinds, unload, refresh, list, where };
  drawn = "";
  onVisible(element, () => { look(); timer = setInterval(look, EVERY); }, () => clearInterval(timer));
}

async function look(path = "library", body = undefined) {
  if (document.hidden || state.error?.code === "login") return;
  try {
    state.listing = await api(path, body);
    state.error = null;
    tellConversions();
  } catch (error) {
    state.error = error;
  }
  draw();
}

async function lookAgain() {
  parts.refresh.classList.add("busy");
  await look("library/refresh", {});
  parts.refresh.classList.remove("busy");
  if (state.error) complain(state.error);
  else toast(t("models.refreshed", { count: number(KINDS.reduce((sum, kind) => sum + state.listing[kind].length, 0)) }));
}

async function free() {
  try {
    await api("engine/unload", {});
    toast(t("models.unloaded"));
  } catch (error) {
    complain(error);
  }
}

// --- list ------------------------------------------------------------------------------------------------------------------
const fold = (text) => text.toLocaleLowerCase(boot.language);

function found() {
  const words = fold(state.query).split(/\s+/).filter(Boolean);
  const text = (model) => fold([model.name, model.label, model.dtype, model.short_hash, model.file].filter(Boolean).join(" "));
  return state.listing[state.kind].filter((model) => words.every((each) => text(model).includes(each)));
}

function draw() {
  if (!parts) return;
  if (!state.listing) {
    if (state.error) parts.list.replaceChildren(message("triangle-alert", state.error.message, state.error.hint, button(t("error.again"), "rotate-ccw", () => look())));
    return;
  }
  for (const each of parts.kinds.children) {
    each.setAttribute("aria-pressed", String(each.dataset.kind === state.kind));
    each.querySelector(".badge").textContent = number(state.listing[each.dataset.kind].length);
  }
  parts.unload.hidden = !state.loaded.length;
  // The list is asked for every few seconds: without a change nothing is touched, least of all what has the focus.
  const key = JSON.stringify([state.kind, state.query, state.listing, state.loaded, current().checkpoint, current().vae, current().text_encoder, [...unfolded], cards.size, taking]);
  if (key === drawn || (taking && parts.list.querySelector(".take-form") && !fresh)) return; // what is being chosen stays
  fresh = false;
  drawn = key;
  const models = found();
  const at = document.activeElement?.closest?.("[data-act]")?.dataset.act;
  parts.list.replaceChildren(...(models.length ? models.map(row) : [nothing()]));
  if (at) parts.list.querySelector(`[data-act="${CSS.escape(at)}"]`)?.focus();
  const folders = state.listing.folders[state.kind];
  parts.where.replaceChildren(icon("folder-open"), h("span", {}, t(`models.where.${state.kind}`), " ", ...folders.flatMap((folder, index) => [index ? ", " : "", h("code", {}, folder)]), ". ", t("models.where.soon")));
}

function nothing() {
  if (state.query) return message("search", t("models.none.found"), "", button(t("gallery.clear_search"), "x", () => { parts.search.value = state.query = ""; draw(); }));
  return message(state.kind === "checkpoints" ? "box" : "layers", t(`models.none.${state.kind}`), t(`models.none.${state.kind}.text`));
}

const message = (name, title, text, action) =>
  h("div", { class: "message" }, icon(name), h("p", { class: "title" }, title), text ? h("p", {}, text) : null, action ? h("div", { class: "actions" }, action) : null);

const size = (bytes) => (bytes >= 2 ** 30 ? `${number(bytes / 2 ** 30, 2)} GB` : bytes >= 2 ** 20 ? `${number(bytes / 2 ** 20)} MB` : `${number(bytes && Math.max(1, bytes / 1024))} kB`);
const PRECISION = { F64: "fp64", F32: "fp32", F16: "fp16", BF16: "bf16", F8_E4M3: "fp8", F8_E5M2: "fp8" };

function row(model) {
  const checkpoint = state.kind === "checkpoints";
  const loaded = checkpoint && state.loaded.includes(model.name);
  const selected = state.kind === "text_encoders" ? JSON.parse(current().text_encoder || "[]").includes(model.name) : current()[FIELD[state.kind]] === model.name;
  const converting = state.listing.conversions.find((each) => each.name === model.name);
  const [folder, name] = [model.name.split("/").slice(0, -1).join("/"), model.name.split("/").at(-1)];
  const missing = checkpoint && model.supported ? model.lacks.map(({ kind, name }) => (name === "vae" ? t("vae") : t("parts.encoder", { kind }))) : [];
  const facts = [[t("models.family"), model.family === "unknown" && model.label === "Unknown" ? null : model.label], [t("models.dtype"), PRECISION[model.dtype] ?? model.dtype], [t("models.size"), size(model.size)],
    checkpoint && model.supported && [t("models.native"), `${model.defaults.width} × ${model.defaults.height}`],
    checkpoint && model.supported && [t("models.prediction"), predictionName(model.prediction)],
    model.supported && model.variant && [t(checkpoint ? "models.variant" : "models.kind"), model.variant],
    [t("models.hash"), model.short_hash ?? (model.supported ? t("models.hash.later") : null)]].filter((each) => each && each[1]);
  return h("article", { class: `model${model.supported ? "" : " off"}${selected ? " selected" : ""}`, "data-name": model.name, "aria-label": model.name },
    h("div", { class: "model-main" },
      h("h3", {}, folder ? h("span", { class: "model-folder" }, `${folder} / `) : null, name,
        loaded ? h("span", { class: "chip-state loaded" }, icon("circle-check"), t("models.loaded")) : null),
      h("dl", { class: "model-facts" }, facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value)))),
      missing.length ? h("p", { class: "model-note" }, icon("info"), h("span", {}, t("models.without", { parts: missing.join(", ") }))) : null,
      model.taken ? h("p", { class: "model-note" }, icon("pencil"), h("span", {}, `${t("models.taken")} ${inWords(model)}. `, t("models.take.as_is", { what: inWords(model.recognised) }))) : null,
      checkpoint && Object.keys(model.profile).length ? h("p", { class: "model-note" }, icon("star"), h("span", {}, t("models.profile"))) : null,
      model.converted ? h("p", { class: "model-note" }, icon("check"), h("span", {}, t("models.converted.to", { name: model.converted })))
        : model.problem ? h("p", { class: "model-problem" }, icon("triangle-alert"), h("span", {}, model.problem)) : null,
      converting?.state === "failed" ? h("p", { class: "model-problem danger", role: "alert" }, icon("triangle-alert"), h("span", {}, t("models.convert.failed", { problem: converting.problem }))) : null),
    h("div", { class: "model-do" }, ...actions(model, selected, converting, checkpoint)),
    checkpoint && taking === model.name ? takePlace(model) : null,
    unfolded.has(model.name) ? h("div", { class: "model-card" }, cards.has(model.name) ? markdown(cards.get(model.name)) : h("span", { class: "pulse" })) : null);
}

function takePlace(model) {
  const place = h("div", { class: "model-take" });
  takeForm(place, model, () => { taking = ""; fresh = true; look(); });
  return place;
}

function actions(model, selected, converting, checkpoint) {
  const act = (name) => ({ "data-act": `${name} ${model.name}` });
  const about = model.card && button(t("models.about"), "info", () => unfold(model), { "aria-expanded": String(unfolded.has(model.name)), ...act("about") });
  const change = checkpoint && (model.supported || model.taken) && button(t("models.take"), "pencil", () => { taking = taking === model.name ? "" : model.name; fresh = true; draw(); }, { "aria-expanded": String(taking === model.name), title: t("models.take.title"), ...act("take") });
  if (converting?.state === "running") return [h("span", { class: "converting", role: "status" }, h("i", { class: "bar" }), t("models.converting", { seconds: number(converting.seconds) }))];
  if (model.convertible) return [about, button(t("models.convert"), "refresh-cw", () => convert(model), { class: "tool lined", title: t("models.convert.title"), ...act("convert") })].filter(Boolean);
  if (!model.supported) return [about, change].filter(Boolean);
  if (selected) return [about, change, h("span", { class: "chip-state" }, icon("check"), t("models.selected"))].filter(Boolean);
  return [about, change, button(t(USE[state.kind]), null, () => use(model, checkpoint), { class: "tool lined use", ...act("use") })].filter(Boolean);
}

// --- what can be done ---------------------------------------------------------------------------------------------------------
async function use(model, checkpoint) {
  const field = FIELD[state.kind];
  if (!checkpoint && !(await chooseFile(model.name))) return toast(t("parts.misfit", { name: model.name, checkpoint: current().checkpoint }), { danger: true });
  if (checkpoint) fill({ checkpoint: model.name });
  if (field !== "text_encoder") change({ [field]: model.name }).catch(complain);
  toast(t("models.used", { name: model.name }), { label: t("tab.txt2img"), icon: "sparkles", run: () => showTab("txt2img") });
  return setTimeout(draw, 300);
}

async function unfold(model) {
  if (!unfolded.delete(model.name)) unfolded.add(model.name);
  draw();
  if (!unfolded.has(model.name) || cards.has(model.name)) return;
  try {
    cards.set(model.name, (await api(`library/card?name=${encodeURIComponent(model.name)}`)).text);
  } catch (error) {
    unfolded.delete(model.name);
    complain(error);
  }
  draw();
}

async function convert(model) {
  try {
    told.delete(model.name);
    await api("library/convert", { name: model.name });
  } catch (error) {
    complain(error);
  }
  look();
}

function tellConversions() {
  for (const each of state.listing.conversions) {
    if (each.state === "running") told.delete(each.name);
    else if (!told.has(each.name)) {
      told.add(each.name);
      if (each.state === "done" && drawn) toast(t("models.converted", { name: each.name }));
    }
  }
}

export function start() {
  mount("#inf-models", build);
  bus.addEventListener("engine", ({ detail: { status } }) => {
    const changed = String(status.loaded ?? []) !== String(state.loaded);
    state.loaded = status.loaded ?? [];
    if (changed) draw();
  });
}
