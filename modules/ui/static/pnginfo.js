// PNG Info: any picture, dropped, chosen, pasted or from the gallery, and what it says of how it was made.

import { api, number, t, url } from "./live.js";
import { button, h, icon, mount } from "./dom.js";
import { copied } from "./copying.js";
import { take } from "./paste.js";
import { replay } from "./replay.js";
import { onVisible, showTab } from "./tabs.js";
import { complain, toast } from "./toast.js";

const MOST_BYTES = 64 * 2 ** 20; // what the server takes
const KINDS = "image/png,image/jpeg,image/webp,image/avif";
const RECENT = 18; // pictures of the gallery that are offered
let parts = null;
let shown = null; // {file} or {id}, and the address its picture is shown from
let asked = 0; // of the picture looked at: answers to an older one are dropped

function build(element) {
  const input = h("input", { type: "file", accept: KINDS, hidden: true, onchange: () => input.files[0] && look({ file: input.files[0] }) });
  const drop = h("button", { type: "button", class: "pnginfo-drop", onclick: () => input.click() }, icon("image"), h("strong", {}, t("pnginfo.drop")), h("span", {}, t("pnginfo.drop.text")));
  const recent = h("div", { class: "pnginfo-recent", role: "group", "aria-label": t("pnginfo.recent") });
  const stage = h("div", { class: "pnginfo-stage" });
  const side = h("div", { class: "pnginfo-side", "aria-live": "polite" });
  element.replaceChildren(h("div", { class: "pnginfo-left" }, stage, drop, input, recent), side);
  parts = { element, input, drop, recent, stage, side };
  for (const name of ["dragover", "dragleave", "drop"]) element.addEventListener(name, dragged);
  onVisible(element, offer);
  if (shown) look(shown);
  else empty();
}

function dragged(event) {
  const file = event.dataTransfer?.files[0];
  event.preventDefault();
  parts.element.classList.toggle("over", event.type === "dragover");
  if (event.type === "drop" && file) look({ file });
}

function empty() {
  parts.stage.replaceChildren();
  parts.side.replaceChildren(h("div", { class: "message" }, icon("info"), h("p", { class: "title" }, t("pnginfo.empty")), h("p", {}, t("pnginfo.empty.text"))));
}

// The newest of the gallery, to begin with one of them.
async function offer() {
  const { pictures } = await api(`gallery?limit=${RECENT}`).catch(() => ({ pictures: [] }));
  parts.recent.replaceChildren(...pictures.map(({ id, prompt }) =>
    h("button", { type: "button", class: "tile done", "data-id": id, title: prompt || t("picture.untitled"), "aria-label": prompt || t("picture.untitled"), onclick: () => look({ id }) },
      h("img", { src: url(`thumbs/${id}`), alt: "", loading: "lazy" }))));
  parts.recent.hidden = !pictures.length;
}

async function send(path, file) {
  let answer;
  try {
    answer = await fetch(url(path), { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
  } catch {
    throw { code: "unreachable", message: t("error.unreachable"), hint: t("error.unreachable.hint") };
  }
  if (answer.ok) return answer;
  const values = await answer.json().catch(() => ({}));
  throw values.error ?? { code: "server", message: t("error.server"), hint: "" };
}

// From elsewhere: a picture of the gallery by its {id}, or a {file} that was dropped.
function inspect(source) {
  showTab("pnginfo");
  if (parts) look(source);
  else shown = source;
}

// What is dropped on the prompts fills the form, as in AUTOMATIC1111; anywhere else it is looked at. Left alone, the
// browser would leave the page for the picture.
function droppedElsewhere(event) {
  if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  const prompts = event.target.closest?.("#t2i-prompts");
  document.getElementById("t2i-prompts")?.classList.toggle("over", Boolean(prompts) && event.type === "dragover");
  const file = event.type === "drop" && event.dataTransfer.files[0];
  if (!file || document.querySelector("dialog[open]")) return;
  if (prompts) fillFrom(file);
  else inspect({ file });
}

async function fillFrom(file) {
  try {
    const found = await (await send("inspect", file)).json();
    if (found.fields.length || found.prompt) take(found);
    else toast(t("pnginfo.none.text"));
  } catch (error) {
    complain(error);
  }
}

async function look(source) {
  const mine = ++asked;
  if (shown?.address?.startsWith("blob:")) URL.revokeObjectURL(shown.address);
  shown = { ...source, address: source.file ? URL.createObjectURL(source.file) : url(`pictures/${source.id}`) };
  parts.input.value = "";
  parts.element.classList.add("filled");
  const picture = h("img", { alt: source.file?.name ?? "", src: shown.address, onerror: () => picture.remove(), onload: () => sized(picture) });
  parts.stage.replaceChildren(picture);
  parts.side.replaceChildren(h("span", { class: "pulse" }));
  try {
    if (source.file?.size > MOST_BYTES) throw { message: t("pnginfo.large", { size: number(MOST_BYTES / 2 ** 20) }), hint: "" };
    const found = source.file ? await (await send("inspect", source.file)).json() : await api(`pictures/${source.id}/inspect`);
    if (mine === asked) parts.side.replaceChildren(...described(found));
  } catch (error) {
    if (mine !== asked) return;
    parts.stage.replaceChildren(); // a browser shows half a picture, or an empty one
    parts.side.replaceChildren(h("div", { class: "message danger", role: "alert" }, icon("triangle-alert"), h("p", { class: "title" }, error.message), error.hint ? h("p", {}, error.hint) : null));
  }
}

// Small pictures are shown larger, as on the canvas.
function sized(picture) {
  const { naturalWidth: width, naturalHeight: height } = picture;
  picture.style.setProperty("--w", `${width * Math.min(4, Math.max(1, 512 / Math.max(width, height)))}px`);
}

function described(found) {
  const known = Boolean(found.program);
  const again = replay(() => (shown.file ? send("replay", shown.file).then((answer) => answer.json()) : api(`pictures/${shown.id}/replay`, {})), { class: "tool lined", id: "pnginfo-replay" });
  const copy = button(t("action.copy"), "copy", () => copied(copy, found.text, parts.side), { class: "tool lined" });
  return [
    h("p", { class: "pnginfo-program" }, h("strong", {}, known ? found.program : t("pnginfo.none")), h("span", {}, `${found.format}  ·  ${found.width} × ${found.height}`)),
    known ? null : h("p", { class: "pnginfo-note" }, icon("info"), h("span", {}, t("pnginfo.none.text"))),
    ...found.notes.map((note) => h("p", { class: "pnginfo-note" }, icon("info"), h("span", {}, note))),
    h("div", { class: "pnginfo-do" },
      found.fields.length || found.prompt ? button(t("pnginfo.send"), "send", () => { take(found); showTab("txt2img"); scrollTo({ top: 0 }); }, { class: "tool lead", id: "pnginfo-send" }) : null,
      found.text ? copy : null,
      button(t("share"), "download", strip, { class: "tool lined", id: "pnginfo-strip", title: t("share.title") }),
      found.replayable ? again.press : null),
    again.place,
    found.prompt ? h("p", { class: "light-prompt" }, found.prompt) : null,
    found.negative_prompt ? h("div", { class: "light-negative" }, h("h3", {}, t("negative_prompt")), h("p", {}, found.negative_prompt)) : null,
    found.fields.length ? h("dl", { class: "light-facts" }, found.fields.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))) : null,
    found.text ? h("details", { class: "parameters" }, h("summary", {}, icon("chevron-right"), t("parameters")), h("pre", { class: "infotext" }, found.text)) : null,
    ...Object.entries(found.others).map(([name, text]) => h("details", { class: "parameters" }, h("summary", {}, icon("chevron-right"), name), h("pre", { class: "infotext" }, text)))].filter(Boolean);
}

// The answer is saved under the name that the server gives it, as a link to it would be.
async function strip() {
  if (!shown.file) return save(url(`pictures/${shown.id}/stripped`), "");
  try {
    const answer = await send("strip", shown.file);
    const address = URL.createObjectURL(await answer.blob());
    save(address, shown.file.name.replace(/^(\d{5,9})-\d+(?=\.)/, "$1").replace(/(\.[^.]*)?$/, "-shared$1"));
    return setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (error) {
    return complain(error);
  }
}

function save(address, name) {
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

// What the gallery's viewer offers beside its own: id of the picture, leave(): closes the viewer.
export function extras(id, leave) {
  const again = replay(() => api(`pictures/${id}/replay`, {}), { class: "tool lined" });
  return h("div", { class: "light-extras" },
    h("div", { class: "light-more" },
      h("a", { class: "tool lined", href: url(`pictures/${id}/stripped`), download: "", title: t("share.title") }, icon("download"), h("span", {}, t("share"))),
      again.press,
      button(t("tab.pnginfo"), "eye", () => { leave(); inspect({ id }); }, { class: "tool lined", title: t("pnginfo.look") })),
    again.place);
}

export function start() {
  mount("#inf-pnginfo", build);
  for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, droppedElsewhere);
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file && parts?.element.offsetParent) look({ file });
  });
}
