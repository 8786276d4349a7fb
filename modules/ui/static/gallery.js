// The gallery: the newest first, only what is in view is in the document, so that ten thousand pictures scroll as ten do.

import { bus, number, t, url } from "./live.js";
import { button, h, icon, iconButton, mount } from "./dom.js";
import { bringBack, discard, download, emptyTrash, love } from "./gallery-actions.js";
import { day } from "./gallery-days.js";
import { arrange, beside, between } from "./gallery-layout.js";
import { startKeys } from "./gallery-keys.js";
import { openPicture, pictureOpen } from "./gallery-viewer.js";
import * as store from "./gallery-store.js";
import { described, setting } from "./preferences.js";
import { onVisible, showTab } from "./tabs.js";

const GAP = 8; // px
const AHEAD = 900; // px drawn above and below the window
const { state } = store;
const selected = new Set();
const shots = new Map(); // picture id -> element
let parts = null;
let plan = { rows: [], height: 0, spots: [] };
let active = null; // id of the picture the keyboard is at
let anchor = null; // id where a range begins
let visible = false;
let scrolled = 0; // where the window was when the tab was left
let frame = 0;
let stale = false; // what is in view has changed

// --- the page around the pictures -----------------------------------------------------------------------------------------
function build(element) {
  const search = h("input", { type: "search", placeholder: t("gallery.search"), "aria-label": t("gallery.search"), maxlength: 500, autocomplete: "off", spellcheck: "false", oninput: typed });
  const kinds = h("div", { class: "segments", role: "group", "aria-label": t("gallery.show") },
    store.KINDS.map((kind) => h("button", { type: "button", "data-kind": kind, "aria-pressed": String(kind === state.kind), onclick: () => choose(kind) },
      icon({ all: "image", favourites: "heart", trash: "trash-2" }[kind]), h("span", {}, t(`gallery.${kind}`)), kind === "trash" ? h("b", { class: "badge", hidden: true }) : null)));
  const count = h("p", { class: "count", role: "status" });
  const bar = h("div", { class: "gallery-bar" }, kinds, h("label", { class: "search" }, icon("search"), search), count);
  const chosen = h("div", { class: "gallery-bar chosen", hidden: true, role: "toolbar", "aria-label": t("gallery.selection") });
  const notice = h("div", { class: "gallery-notice", hidden: true });
  const grid = h("div", { class: "shots", role: "list", "aria-label": t("gallery.list"), onclick: clicked, onpointerdown: pressed });
  const foot = h("div", { class: "gallery-foot" });
  element.replaceChildren(h("div", { class: "gallery-head" }, bar, chosen), notice, grid, foot);
  parts = { element, search, kinds, count, bar, chosen, notice, grid, foot };
  shots.clear();
  new ResizeObserver(relayout).observe(grid);
  onVisible(element, shown, hidden);
}

async function shown() {
  visible = true;
  await described().catch(() => {});
  store.countTrash();
  if (state.items.length) {
    relayout();
    scrollTo({ top: scrolled });
    store.refresh();
  } else store.filter({});
}

function hidden() {
  visible = false;
  clear();
}

function choose(kind) {
  if (kind === state.kind) return;
  clear();
  active = null;
  store.filter({ kind });
  scrollTo({ top: 0 });
}

let typing = 0;

function typed() {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const query = parts.search.value.trim();
    if (query === state.query) return;
    clear();
    store.filter({ query });
  }, 200);
}

function drawHead() {
  for (const each of parts.kinds.children) each.setAttribute("aria-pressed", String(each.dataset.kind === state.kind));
  const badge = parts.kinds.querySelector(".badge");
  badge.hidden = !state.trash;
  badge.textContent = number(state.trash);
  parts.count.textContent = state.items.length ? t(state.count === 1 ? "gallery.count.one" : "gallery.count", { count: number(state.count) }) : "";
  const full = state.kind === "trash" && state.items.length > 0;
  parts.notice.hidden = !full;
  if (full && !parts.notice.childElementCount) parts.notice.append(icon("info"), h("p", {}, t("gallery.trash.text")), button(t("gallery.empty_trash"), "trash-2", emptyTrash, { class: "tool final", id: "empty-trash" }));
  drawChosen();
  drawFoot();
}

function drawFoot() {
  if (state.items.length) {
    const failed = state.error && h("p", { class: "gallery-more" }, state.error.message, button(t("error.again"), "rotate-ccw", store.more));
    return parts.foot.replaceChildren(...[failed, !state.error && !state.done && h("span", { class: "pulse" })].filter(Boolean));
  }
  if (state.error) return parts.foot.replaceChildren(message("triangle-alert", state.error.message, state.error.hint, button(t("error.again"), "rotate-ccw", () => store.filter({}))));
  if (!state.done) return parts.foot.replaceChildren(h("span", { class: "pulse" }));
  if (state.query) return parts.foot.replaceChildren(message("search", t("gallery.none.found", { query: state.query }), t("gallery.none.found.text"), button(t("gallery.clear_search"), "x", clearSearch)));
  const [name, action] = {
    all: ["image", button(t("gallery.none.all.action"), "sparkles", () => showTab("txt2img"), { class: "tool lead" })],
    favourites: ["heart", null],
    trash: ["trash-2", null],
  }[state.kind];
  return parts.foot.replaceChildren(message(name, t(`gallery.none.${state.kind}`), t(`gallery.none.${state.kind}.text`), action));
}

const message = (name, title, text, action) =>
  h("div", { class: "message gallery-empty" }, icon(name), h("p", { class: "title" }, title), text ? h("p", {}, text) : null, action ? h("div", { class: "actions" }, action) : null);

export function clearSearch() {
  parts.search.value = "";
  store.filter({ query: "" });
}

// --- the pictures in view -------------------------------------------------------------------------------------------------
function relayout() {
  if (!parts?.grid.clientWidth) return;
  const width = parts.grid.clientWidth;
  const kept = held();
  plan = arrange(state.items, { width, target: Math.min(setting("gallery_thumb_size", 220), width / 2.4), gap: width < 600 ? 4 : GAP, day });
  parts.grid.style.height = `${plan.height}px`;
  keep(kept);
  draw();
}

// What the person looks at stays where it is when something comes in above it.
function held() {
  if (parts.grid.getBoundingClientRect().top >= 0) return null;
  for (const [id, element] of shots) {
    const { top, bottom } = element.getBoundingClientRect();
    if (bottom > 0 && top < innerHeight) return { id, top };
  }
  return null;
}

function keep(kept) {
  const at = kept ? store.position(kept.id) : -1;
  if (at < 0) return;
  const top = parts.grid.getBoundingClientRect().top + plan.rows[plan.spots[at][0]].top;
  if (Math.abs(top - kept.top) > 1) scrollBy({ top: top - kept.top, behavior: "instant" });
}

// all: also what is in view already, because it may look or stand otherwise now; a scroll only adds and takes away.
function draw(all = true) {
  frame = 0;
  stale = false;
  if (!visible || !parts) return;
  const above = -parts.grid.getBoundingClientRect().top;
  const [from, to] = between(plan.rows, above - AHEAD, above + innerHeight + AHEAD);
  drop(from, to);
  let last = null; // the document keeps the pictures' order, for those who hear or tab through them
  const place = (key, make) => {
    const element = shots.get(key) ?? make();
    shots.set(key, element);
    if (!element.parentNode || (last ? last.nextSibling : parts.grid.firstChild) !== element) parts.grid.insertBefore(element, last ? last.nextSibling : parts.grid.firstChild);
    last = element;
    return element;
  };
  for (const row of plan.rows.slice(from, to)) {
    if (row.day) {
      place(`day ${row.day}`, () => h("h2", { class: "day" }, row.day)).style.transform = `translateY(${row.top}px)`;
      continue;
    }
    for (const { item, left, width } of row.cells) {
      const fresh = !shots.has(item.id);
      const element = place(item.id, () => shot(item));
      if (!fresh && !all) continue;
      element.style.cssText = `width:${width}px;height:${row.height}px;transform:translate(${left}px,${row.top}px)`;
      update(element, item);
    }
  }
  if (!state.done && !state.error && above + innerHeight + 2 * AHEAD > plan.height) store.more();
}

// What has left the view leaves the document, so that what stays is in order already and need not be moved.
function drop(from, to) {
  const wanted = new Set(plan.rows.slice(from, to).flatMap((row) => (row.day ? `day ${row.day}` : row.cells.map((cell) => cell.item.id))));
  for (const [key, element] of shots) {
    if (wanted.has(key)) continue;
    element.remove();
    shots.delete(key);
  }
}

function shot(item) {
  const image = h("img", { src: url(`thumbs/${item.id}`), alt: "", decoding: "async", draggable: "false" });
  image.addEventListener("load", () => image.classList.add("there"));
  image.addEventListener("error", () => element.classList.add("broken"));
  if (image.complete && image.naturalWidth) image.classList.add("there");
  const element = h("div", { class: "shot", role: "listitem", "data-id": item.id },
    h("button", { type: "button", class: "open", "aria-label": item.prompt || t("picture.untitled"), title: item.prompt }, image, h("span", { class: "gone" }, icon("image"))),
    h("button", { type: "button", class: "pick", tabindex: "-1", "aria-label": t("gallery.select"), "aria-pressed": "false" }, icon("check")),
    h("button", { type: "button", class: "heart", tabindex: "-1", "data-picture": item.id, "aria-label": t("action.favourite"), title: t("action.favourite") }, icon("heart")));
  return element;
}

function update(element, item) {
  const chosen = selected.has(item.id);
  element.classList.toggle("picked", chosen);
  element.querySelector(".pick").setAttribute("aria-pressed", String(chosen));
  const heart = element.querySelector(".heart");
  heart.setAttribute("aria-pressed", String(item.favourite));
  heart.hidden = item.trashed;
  element.querySelector(".open").tabIndex = item.id === (active ?? state.items[0]?.id) ? 0 : -1;
}

const follow = () => { frame ||= requestAnimationFrame(() => draw(stale)); };

function soon() {
  stale = true;
  follow();
}

// --- choosing -----------------------------------------------------------------------------------------------------------
export function clear() {
  if (!selected.size) return false;
  selected.clear();
  changed();
  return true;
}

function changed() {
  parts.element.classList.toggle("choosing", selected.size > 0);
  drawChosen();
  soon();
}

export function toggle(id) {
  if (!selected.delete(id)) selected.add(id);
  anchor = id;
  changed();
}

export function rangeTo(id) {
  const [from, to] = [store.position(anchor ?? id), store.position(id)].sort((a, b) => a - b);
  for (const item of state.items.slice(Math.max(0, from), to + 1)) selected.add(item.id);
  changed();
}

export function selectAll() {
  for (const item of state.items) selected.add(item.id);
  changed();
}

const chosenIds = () => state.items.filter((item) => selected.has(item.id)).map((item) => item.id);
export const targets = () => (selected.size ? chosenIds() : active ? [active] : []);

let drawn = "";

function drawChosen() {
  for (const id of selected) if (store.position(id) < 0) selected.delete(id);
  const ids = chosenIds();
  const loved = ids.length > 0 && ids.every((id) => state.items[store.position(id)].favourite);
  parts.chosen.hidden = !ids.length;
  parts.bar.hidden = ids.length > 0;
  parts.element.classList.toggle("choosing", ids.length > 0);
  const key = `${ids.length} ${loved} ${state.kind} ${state.items.length === ids.length}`;
  if (drawn === key) return;
  drawn = key;
  parts.chosen.replaceChildren(
    iconButton(t("gallery.unselect"), "x", clear),
    h("strong", { role: "status" }, t(ids.length === 1 ? "gallery.selected.one" : "gallery.selected", { count: number(ids.length) })),
    button(t("gallery.select_all"), "check", selectAll, { hidden: ids.length === state.items.length, class: "tool wide-only" }),
    h("span", { class: "spring" }),
    ...(state.kind === "trash"
      ? [button(t("gallery.restore"), "undo-2", () => bringBack(chosenIds()))]
      : [iconButton(t(loved ? "gallery.unfavourite" : "action.favourite"), "heart", () => love(chosenIds(), !loved), { class: "tool square heart", "aria-pressed": String(loved) }),
        iconButton(t("action.download"), "download", () => download(chosenIds())),
        iconButton(t("gallery.delete"), "trash-2", () => discard(chosenIds()), { class: "tool square delete" })]));
}

// --- mouse, touch -----------------------------------------------------------------------------------------------------------
const idOf = (element) => Number(element.closest(".shot")?.dataset.id) || null;
let holding = 0;
let long = false;

// A long press chooses, as everywhere on a phone.
function pressed(event) {
  const id = idOf(event.target);
  long = false;
  if (!id || event.pointerType !== "touch") return;
  holding = setTimeout(() => {
    long = true;
    toggle(id);
    navigator.vibrate?.(12);
  }, 450);
  const end = () => clearTimeout(holding);
  for (const name of ["pointerup", "pointercancel", "pointermove"]) addEventListener(name, end, { once: true });
}

function clicked(event) {
  const id = idOf(event.target);
  if (!id) return;
  active = id;
  if (long) long = false;
  else if (event.target.closest(".heart")) love([id], !state.items[store.position(id)].favourite);
  else if (event.shiftKey) rangeTo(id);
  else if (event.target.closest(".pick") || event.ctrlKey || event.metaKey || selected.size) toggle(id);
  else view(id);
  soon();
}

export function view(id) {
  openPicture(id, { love, discard, bringBack, closed: (last) => goTo(last) });
}

// --- keyboard ---------------------------------------------------------------------------------------------------------------
export function goTo(id) {
  const at = store.position(id);
  if (at < 0) return;
  active = id;
  const row = plan.rows[plan.spots[at][0]];
  const top = parts.grid.getBoundingClientRect().top + row.top;
  const head = parts.element.querySelector(".gallery-head").offsetHeight + 12;
  if (top < head) scrollBy({ top: top - head - (plan.rows[plan.spots[at][0] - 1]?.day ? 46 : 0), behavior: "instant" });
  else if (top + row.height > innerHeight - 12) scrollBy({ top: top + row.height - innerHeight + 12, behavior: "instant" });
  draw();
  shots.get(id)?.querySelector(".open").focus({ preventScroll: true });
}

// Steps through the grid: "left", "right", "up", "down", "first", "last". Returns the id it is at then.
export function step(where) {
  if (!state.items.length) return null;
  const at = active ? store.position(active) : -1;
  if (at < 0) goTo(state.items[0].id);
  else {
    const next = { left: () => at - 1, right: () => at + 1, up: () => beside(plan, at, -1), down: () => beside(plan, at, 1), first: () => 0, last: () => state.items.length - 1 }[where]();
    goTo(state.items[Math.min(state.items.length - 1, Math.max(0, next))].id);
  }
  return active;
}

export const at = () => active;
export const open = () => visible && !pictureOpen() && !document.querySelector("dialog[open]");
export const focusSearch = () => parts.search.focus();
export const itemAt = (id) => state.items[store.position(id)];

export function start() {
  store.start();
  mount("#inf-gallery", build);
  startKeys({ at, bringBack, clear, discard, focusSearch, goTo, itemAt, love, open, rangeTo, selectAll, state, step, targets, toggle, view });
  addEventListener("scroll", () => {
    if (!visible) return;
    scrolled = scrollY;
    follow();
  }, { passive: true });
  addEventListener("resize", soon);
  bus.addEventListener("gallery", ({ detail: { reason } }) => {
    if (!parts) return;
    if (reason !== "trash") relayout();
    drawHead();
  });
  bus.addEventListener("setting", ({ detail: { name } }) => name === "gallery_thumb_size" && relayout());
}
