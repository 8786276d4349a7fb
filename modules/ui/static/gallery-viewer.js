// One picture of the gallery over the whole window, with what it was made with beside it.

import { bus, number, t, url, boot } from "./live.js";
import { button, h, icon, iconButton } from "./dom.js";
import { copied } from "./copying.js";
import { destinations } from "./details.js";
import { reuse } from "./fill.js";
import * as store from "./gallery-store.js";
import { extras } from "./pnginfo.js";
import { showTab } from "./tabs.js";
import { rescueToast, toast } from "./toast.js";
import { zoomable } from "./zoom.js";

const { state } = store;
const when = new Intl.DateTimeFormat(boot.language, { dateStyle: "long", timeStyle: "short" });
let view = null; // {id, at, dialog, image, zoom, ...}

export const pictureOpen = () => view !== null;

export function openPicture(id, actions) {
  const image = h("img", { alt: "", draggable: "false" });
  const stage = h("div", { class: "light-stage" }, image);
  const counter = h("span", { class: "counter" });
  const side = h("aside", { class: "light-side", "aria-label": t("parameters") });
  const previous = iconButton(t("viewer.previous"), "chevron-left", () => go(-1), { class: "tool square previous" });
  const next = iconButton(t("viewer.next"), "chevron-right", () => go(1), { class: "tool square next" });
  const tools = h("div", { class: "light-tools" });
  const dialog = h("dialog", { class: "lightbox", tabindex: "-1", "aria-label": t("viewer.label"), onclose: shut, onkeydown: pressed },
    h("div", { class: "light-main" }, h("header", { class: "light-top" }, counter, tools), stage, previous, next), side);
  document.body.append(dialog);
  view = { id, at: store.position(id), dialog, image, counter, side, tools, previous, next, actions, zoom: zoomable(stage, image, { swipe: go }) };
  display();
  dialog.showModal();
  dialog.focus(); // no button: one that comes to its end would lose the keyboard
}

function shut() {
  const { dialog, id, actions } = view;
  rescueToast();
  dialog.remove();
  view = null;
  actions.closed(id);
}

const item = () => state.items[view.at];

function display() {
  const found = item();
  if (!found) return view.dialog.close();
  view.id = found.id;
  const { image } = view;
  view.zoom.reset();
  // The thumbnail stands in until the picture is there, so that stepping never shows nothing.
  image.src = url(`thumbs/${found.id}`);
  image.alt = found.prompt || t("picture.untitled");
  image.style.setProperty("--w", `${found.width}px`);
  image.style.setProperty("--ratio", `${found.width} / ${found.height}`);
  image.classList.toggle("small", Math.max(found.width, found.height) < 512);
  load(found.id);
  for (const by of [1, -1]) if (state.items[view.at + by]) new Image().src = url(`pictures/${state.items[view.at + by].id}`);
  update();
  view.side.replaceChildren(...facts(found));
  view.side.scrollTop = 0;
  if (view.at > state.items.length - 12) store.more();
  return undefined;
}

async function load(id) {
  const picture = new Image();
  picture.src = url(`pictures/${id}`);
  try {
    await picture.decode();
    if (view?.id === id) view.image.src = picture.src;
  } catch {
    if (view?.id === id) toast(t("picture.unreadable"), { danger: true });
  }
}

// What may change while a picture is looked at: its place, its heart.
function update() {
  const found = item();
  const { counter, tools, previous, next, actions } = view;
  counter.textContent = `${number(view.at + 1)} / ${number(state.count)}`;
  previous.setAttribute("aria-disabled", String(view.at === 0));
  next.setAttribute("aria-disabled", String(view.at >= state.items.length - 1));
  const key = `${found.id} ${found.favourite} ${found.trashed}`;
  if (tools.dataset.key === key) return;
  tools.dataset.key = key;
  const had = tools.contains(document.activeElement) ? document.activeElement.dataset.act : null;
  const kept = [
    iconButton(t("action.favourite"), "heart", () => actions.love([found.id], !found.favourite), { class: "tool square heart", "aria-pressed": String(found.favourite), "data-act": "love" }),
    h("a", { class: "tool square", href: url(`pictures/${found.id}?download=1`), download: "", "aria-label": t("action.download"), title: t("action.download") }, icon("download")),
    iconButton(t("gallery.delete"), "trash-2", remove, { "data-act": "remove" })];
  const trashed = [button(t("gallery.restore"), "undo-2", bringBack, { "data-act": "restore" })];
  tools.replaceChildren(iconButton(t("viewer.zoom"), "maximize-2", () => view.zoom.toggle(), { "data-act": "zoom" }), ...(found.trashed ? trashed : kept), iconButton(t("close"), "x", () => view.dialog.close(), { "data-act": "close" }));
  if (had) (tools.querySelector(`[data-act="${had}"]`) ?? view.dialog).focus();
}

function facts(found) {
  const plan = found.plan ?? {};
  const pairs = [[t("size"), `${found.width} × ${found.height}`], [t("seed"), found.seed], [t("sampler"), plan.sampler_label || found.sampler], [t("schedule"), plan.schedule_label],
    [t("steps"), found.steps || null], [t("cfg_scale"), plan.cfg_scale ? number(plan.cfg_scale, plan.cfg_scale % 1 ? 1 : 0) : null], [t("clip_skip"), plan.clip_skip > 1 ? plan.clip_skip : null], [t("checkpoint"), found.checkpoint]];
  const copy = button(t("action.copy"), "copy", () => copied(copy, found.infotext, view.side), { class: "tool lined" });
  const text = h("details", { class: "parameters" }, h("summary", {}, icon("chevron-right"), t("parameters")), h("pre", { class: "infotext" }, found.infotext));
  return [
    h("p", { class: "light-when" }, when.format(new Date(found.created * 1000))),
    h("p", { class: `light-prompt${found.prompt ? "" : " none"}` }, found.prompt || t("picture.untitled")),
    found.negative_prompt ? h("div", { class: "light-negative" }, h("h3", {}, t("negative_prompt")), h("p", {}, found.negative_prompt)) : null,
    h("dl", { class: "light-facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value))))),
    h("div", { class: "light-do" },
      button(t("gallery.send"), "send", () => send(found), { class: "tool lead", id: "send-txt2img", title: t("action.reuse.title") }),
      h("div", { class: "light-more" }, copy, others(found)),
      extras(found.id, () => view.dialog.close())),
    found.infotext ? text : null,
    h("p", { class: "light-file" }, icon("folder-open"), h("span", {}, found.path.replace(/^\.inferenz\/trash\//, "")), h("span", {}, size(found.bytes)))].filter(Boolean);
}

const size = (bytes) => (bytes >= 2 ** 20 ? `${number(bytes / 2 ** 20, 1)} MB` : `${number(Math.max(1, Math.round(bytes / 1024)))} kB`);

function others(found) {
  const menu = h("details", { class: "menu" }, h("summary", { class: "tool lined" }, h("span", {}, t("gallery.send_part")), icon("chevron-down")),
    h("div", { class: "menu-list", role: "menu" }, destinations.map(({ label, icon: name, run }) =>
      h("button", { type: "button", role: "menuitem", onclick: () => { run(found); leave(); } }, icon(name), label))));
  return menu;
}

function send(found) {
  reuse({ ...found, steps: found.steps || null });
  leave();
}

function leave() {
  view.dialog.close();
  showTab("txt2img");
  scrollTo({ top: 0 });
}

function go(by) {
  if (!state.items[view.at + by]) return;
  view.at += by;
  display();
}

const remove = () => view.actions.discard([item().id]);
const bringBack = () => view.actions.bringBack([item().id]);

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea")) return;
  const act = {
    ArrowLeft: () => go(-1), ArrowRight: () => go(1),
    Home: () => go(-view.at), End: () => go(state.items.length - 1 - view.at),
    Delete: () => !item().trashed && remove(), Backspace: () => !item().trashed && remove(),
    f: () => !item().trashed && view.actions.love([item().id], !item().favourite), z: () => view.zoom.toggle(), r: () => item().trashed && bringBack(),
    c: () => copied(view.side.querySelector(".light-more .tool"), item().infotext, view.side),
  }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

export function start() {
  bus.addEventListener("gallery", () => {
    if (!view) return;
    const now = store.position(view.id);
    if (now === view.at) return update();
    // Gone: the one that took its place; else it only moved.
    if (now >= 0) {
      view.at = now;
      return update();
    }
    if (!state.items.length) return view.dialog.close();
    view.at = Math.min(view.at, state.items.length - 1);
    return display();
  });
}
