// The settings as the browser knows them: asked for once, changed through the server, told to whoever listens.

import { api, bus } from "./live.js";

let known = null; // a promise of {sections, settings}
const values = new Map();

export const setting = (name, fallback) => values.get(name) ?? fallback;

export async function described() {
  known ??= api("settings").catch((error) => {
    known = null;
    throw error;
  });
  const answer = await known;
  for (const spec of answer.settings) if (!values.has(spec.name)) values.set(spec.name, spec.value);
  return answer;
}

function accept(changed) {
  for (const [name, value] of Object.entries(changed)) {
    values.set(name, value);
    bus.dispatchEvent(new CustomEvent("setting", { detail: { name, value } }));
  }
  return changed;
}

// Throws the server's error, which names the setting and what it accepts.
export const change = async (wanted) => accept((await api("settings", { values: wanted })).values);
export const reset = async (names) => accept((await api("settings/reset", { names })).values);

// Another page, or the command line, may have changed something since.
export async function reload() {
  known = null;
  values.clear();
  return described();
}
