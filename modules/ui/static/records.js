// What the server knows of each picture, asked for once, and the heart that is part of it.

import { api, bus } from "./live.js";

const records = new Map(); // picture id -> record

export async function record(id, fresh = false) {
  if (fresh || !records.has(id)) records.set(id, await api(`pictures/${id}/record`));
  return records.get(id);
}

export async function toggleFavourite(id) {
  const found = await record(id);
  const favourite = !found.favourite;
  await api("gallery/favourite", { ids: [id], favourite });
  records.set(id, { ...found, favourite });
  bus.dispatchEvent(new CustomEvent("favourite", { detail: { id, favourite } }));
  const hearts = document.querySelectorAll(`.heart[data-picture="${id}"]`);
  for (const element of hearts) element.setAttribute("aria-pressed", String(favourite));
}
