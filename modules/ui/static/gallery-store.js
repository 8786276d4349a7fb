// The gallery's pictures as far as they are known: pages by keyset, new ones merged in, changes sent to the server.

import { api, bus } from "./live.js";
import { record } from "./records.js";

const PAGE = 120;
export const KINDS = ["all", "favourites", "trash"];
export const state = { kind: "all", query: "", items: [], count: 0, done: false, error: null, trash: 0 };

let generation = 0; // of the filter: answers to an older one are dropped
let loading = null;

const tell = (reason) => bus.dispatchEvent(new CustomEvent("gallery", { detail: { reason } }));
const newer = (a, b) => a.created > b.created || (a.created === b.created && a.id > b.id);
export const position = (id) => state.items.findIndex((item) => item.id === id);

function address(before) {
  const query = new URLSearchParams({ limit: PAGE });
  if (before) query.set("before", before);
  if (state.kind === "favourites") query.set("favourites", "true");
  if (state.kind === "trash") query.set("trash", "true");
  if (state.query) query.set("query", state.query);
  return `gallery?${query}`;
}

export function filter(changes) {
  Object.assign(state, changes, { items: [], done: false, error: null, count: 0 });
  generation += 1;
  loading = null;
  tell("filter");
  return more();
}

// The next page; calls while one is under way share it.
export function more() {
  if (state.done) return Promise.resolve();
  loading ??= next(generation).finally(() => { loading = null; });
  return loading;
}

async function next(asked) {
  try {
    const answer = await api(address(state.items.at(-1)?.id));
    if (asked !== generation) return;
    const known = new Set(state.items.map((item) => item.id));
    state.items.push(...answer.pictures.filter((item) => !known.has(item.id)));
    Object.assign(state, { count: answer.count, done: answer.pictures.length < PAGE, error: null });
  } catch (error) {
    if (asked !== generation) return;
    state.error = error;
  }
  tell("more");
}

// What came, went or changed among the newest pictures.
export async function refresh() {
  const asked = generation;
  const answer = await api(address(null)).catch(() => null);
  if (!answer || asked !== generation) return;
  const known = new Set(state.items.map((item) => item.id));
  const last = answer.pictures.at(-1);
  const whole = answer.pictures.length < PAGE;
  const joins = whole || state.items.length === 0 || answer.pictures.some((item) => known.has(item.id));
  const older = whole || !joins ? [] : state.items.filter((item) => newer(last, item));
  state.items = [...answer.pictures, ...older];
  Object.assign(state, { count: answer.count, error: null, done: whole || (joins && state.done && older.length > 0) });
  tell("refresh");
}

export async function countTrash() {
  const answer = await api("gallery?trash=true&limit=1").catch(() => null);
  if (!answer) return;
  state.trash = answer.count;
  tell("trash");
}

// --- changes: shown at once, taken back where the server refuses --------------------------------------------------------
function without(ids) {
  const gone = new Set(ids);
  const { items, count } = state;
  state.items = items.filter((item) => !gone.has(item.id));
  state.count = count - (items.length - state.items.length);
  tell("change");
  return () => Object.assign(state, { items, count });
}

export async function favourite(ids, wanted) {
  const chosen = new Set(ids);
  const mark = (value) => {
    for (const item of state.items) if (chosen.has(item.id)) item.favourite = value;
    tell("change");
  };
  mark(wanted);
  try {
    await api("gallery/favourite", { ids, favourite: wanted });
  } catch (error) {
    mark(!wanted);
    throw error;
  }
  for (const id of ids) {
    for (const element of document.querySelectorAll(`.heart[data-picture="${id}"]`)) element.setAttribute("aria-pressed", String(wanted));
    if (ids.length === 1) record(id, true).catch(() => {}); // the picture below the canvas remembers it, too
  }
}

async function moved(route, ids) {
  const undo = without(ids);
  try {
    await api(`gallery/${route}`, { ids });
  } catch (error) {
    undo();
    tell("change");
    throw error;
  }
  countTrash();
}

export const discard = (ids) => moved("trash", ids);
export const restore = (ids) => moved("restore", ids);

export async function undoDiscard(ids) {
  await api("gallery/restore", { ids });
  await Promise.all([refreshAround(ids), countTrash()]);
}

// Undone pictures come back to where they were, which may be far below the first page.
async function refreshAround(ids) {
  const back = await Promise.all(ids.map((id) => api(`pictures/${id}/record`).catch(() => null)));
  const known = new Set(state.items.map((item) => item.id));
  const found = back.filter((item) => item && !known.has(item.id) && item.trashed === (state.kind === "trash"));
  state.items = [...state.items, ...found].sort((a, b) => b.created - a.created || b.id - a.id);
  state.count += found.length;
  tell("change");
}

export async function emptyTrash() {
  const { deleted } = await api("gallery/empty", {});
  state.trash = 0;
  bus.dispatchEvent(new CustomEvent("emptied"));
  if (state.kind === "trash") await filter({});
  return deleted;
}

// One word to the server for many pictures that are finished at about the same time.
let soon = 0;

export function start() {
  bus.addEventListener("favourite", ({ detail: { id, favourite: wanted } }) => { // set below the canvas
    const item = state.items[position(id)];
    if (!item && wanted && state.kind === "favourites") refresh();
    if (!item || item.favourite === wanted) return;
    item.favourite = wanted;
    tell("change");
  });
  bus.addEventListener("job", ({ detail: { job, old } }) => {
    const before = new Set(old?.images.map((image) => image.picture));
    if (state.kind === "trash" || !old || !job.images.some((image) => image.picture && !before.has(image.picture))) return;
    soon ||= setTimeout(() => { soon = 0; refresh(); }, 250);
  });
}
