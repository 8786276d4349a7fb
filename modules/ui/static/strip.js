// The session strip: everything made or being made lately, newest first; the running tile fills.

import { bus, ended, newestFirst, t } from "./live.js";
import { h, mount } from "./dom.js";
import { look, shownIndex, shownJob, tile } from "./canvas.js";
import { record } from "./records.js";

let list = null;
let frame = 0;
const gone = new Set(); // pictures that were deleted for good: their jobs remember them still

function draw() {
  frame = 0;
  if (!list) return;
  const tiles = [];
  for (const job of newestFirst().slice(0, 30)) {
    const images = job.images.filter((image) => (ended(job) ? image.picture : image.state !== "skipped") && !gone.has(image.picture));
    for (const image of [...images].reverse()) tiles.push([job, image]);
  }
  const kept = new Map([...list.children].map((element) => [element.dataset.key, element]));
  const now = tiles.slice(0, 60).map(([job, image]) => {
    const selected = shownJob()?.id === job.id && shownIndex() === image.index;
    const key = `${job.id}/${image.index}/${image.state}/${image.picture ?? ""}`;
    const element = kept.get(key) ?? Object.assign(tile(image, false, () => look(job, image.index), job.plan.prompt || t("picture.untitled")));
    if (!element.dataset.key) element.querySelector("img")?.addEventListener("error", () => check(image.picture));
    element.dataset.key = key;
    element.dataset.picture = image.picture ?? "";
    element.setAttribute("aria-selected", String(selected));
    element.querySelector(".filling")?.style.setProperty("--part", image.steps ? image.step / image.steps : 0);
    return element;
  });
  list.replaceChildren(...now);
  list.parentElement.classList.toggle("empty", !now.length);
}

const soon = () => { frame ||= requestAnimationFrame(draw); };

// A thumbnail that does not come may be a server that does not answer: only a picture that is not there is left out.
async function check(id) {
  try {
    await record(id, true);
  } catch (error) {
    if (!["missing", "picture_missing"].includes(error.code)) return;
    gone.add(id);
    soon();
  }
}

export function start() {
  mount("#inf-strip", (element) => {
    list = h("div", { class: "strip-list", role: "listbox", "aria-label": t("strip.label") });
    element.replaceChildren(h("h2", {}, t("strip.title")), list, h("p", { class: "fine" }, t("strip.empty")));
    draw();
  });
  bus.addEventListener("emptied", () => {
    for (const { dataset } of list?.children ?? []) if (dataset.picture) check(Number(dataset.picture));
  });
  bus.addEventListener("job", soon);
  bus.addEventListener("submitted", soon);
  bus.addEventListener("looked", soon);
}
