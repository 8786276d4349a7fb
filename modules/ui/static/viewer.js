// A picture over the whole window: arrows step through its batch, F marks a favourite, Esc closes.

import { t, url } from "./live.js";
import { h, iconButton } from "./dom.js";
import { record, toggleFavourite } from "./records.js";

let open = null; // {dialog, ids, at}

export const viewing = () => open;

export function openViewer(ids, id) {
  const image = h("img", { alt: "" });
  const caption = h("p", { class: "caption" });
  const several = ids.length > 1;
  const heart = iconButton(t("action.favourite"), "heart", () => favourite(), { class: "tool square heart" });
  const dialog = h("dialog", { class: "viewer", "aria-label": t("viewer.label"), onclose: shut, onclick: (event) => event.target === dialog && dialog.close() },
    h("div", { class: "viewer-tools" }, heart,
      h("a", { class: "tool square", download: "", "aria-label": t("action.download"), title: t("action.download") }),
      iconButton(t("close"), "x", () => dialog.close())),
    several ? iconButton(t("viewer.previous"), "chevron-left", () => stepBy(-1), { class: "tool square previous" }) : null,
    image, several ? iconButton(t("viewer.next"), "chevron-right", () => stepBy(1), { class: "tool square next" }) : null, caption);
  dialog.querySelector("a").append(iconButton("", "download", null).firstChild);
  document.body.append(dialog);
  open = { dialog, ids, at: Math.max(0, ids.indexOf(id)), image, caption, heart };
  display();
  dialog.showModal();
}

function shut() {
  open?.dialog.remove();
  open = null;
}

async function display() {
  const { ids, at, image, caption, heart, dialog } = open;
  const id = ids[at];
  heart.dataset.picture = id;
  dialog.querySelector("a").href = url(`pictures/${id}?download=1`);
  image.src = url(`pictures/${id}`);
  const found = await record(id).catch(() => null);
  if (!open || open.ids[open.at] !== id || !found) return;
  image.alt = found.prompt;
  image.style.setProperty("--w", `${found.width}px`);
  image.classList.toggle("small", Math.max(found.width, found.height) < 384);
  heart.setAttribute("aria-pressed", String(found.favourite));
  caption.textContent = `${ids.length > 1 ? `${at + 1}/${ids.length}  ·  ` : ""}${found.width} × ${found.height}  ·  ${found.prompt}`;
}

export function stepBy(by) {
  if (!open) return;
  open.at = (open.at + by + open.ids.length) % open.ids.length;
  display();
}

export const favourite = () => open && toggleFavourite(open.ids[open.at]);
