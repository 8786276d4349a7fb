// The picture: what is being made, then what was made.

import { active, api, boot, bus, ended, jobs, newestFirst, number, t, url } from "./live.js";
import { h, mount } from "./dom.js";
import { drawDetails } from "./details.js";
import { enter } from "./fields.js";
import { record } from "./records.js";
import { failure, isStarter, message, welcome } from "./stage-messages.js";
import { openViewer } from "./viewer.js";

// index null: whichever picture is being made; watched: the job that was seen running last, before anything was picked
const focus = { job: null, index: null, follow: true, picked: false, watched: null };
const mine = new Set(); // jobs that this page sent
let parts = null;
let shown = ""; // what the stage shows now, so that the same picture is never loaded twice
let problem = null;
let away = false; // the server, as far as the connection knows

export const shownJob = () => jobs.get(focus.job) ?? null;

export const shownIndex = () => (shownJob() ? chosen(shownJob()).index : null);

export async function shownRecord() {
  const job = shownJob();
  const image = job && chosen(job);
  return image?.picture ? record(image.picture) : null;
}

export function look(job, index = null, follow = false) {
  Object.assign(focus, { job: job.id, index, follow, picked: true });
  problem = null;
  draw();
  bus.dispatchEvent(new CustomEvent("looked"));
}

// Until the person chose something: what runs or ran before their eyes, else what was made last. After that, the next of
// the person's own jobs.
function followOn() {
  const running = active().filter((job) => !focus.picked || mine.has(job.id))[0];
  const last = newestFirst().find((job) => ended(job) && job.images.some((image) => image.picture));
  if (!focus.picked) {
    focus.watched = running?.id ?? focus.watched;
    const watched = jobs.get(focus.watched); // it stays in view when it ends without a picture, too
    focus.job = (watched && (!last || !ended(watched) || watched.created >= last.created) ? watched : last)?.id ?? null;
  } else if (focus.follow && running && shownJob() && ended(shownJob()) && !shownJob().error) {
    Object.assign(focus, { job: running.id, index: null });
  }
}

function chosen(job) {
  if (focus.index !== null) return job.images[focus.index];
  const running = job.images.find((image) => image.state === "running");
  const done = job.images.filter((image) => image.state === "done");
  return running ?? (ended(job) ? done[0] : done.at(-1)) ?? job.images[0];
}

function build(element) {
  const stage = h("div", { class: "stage", tabindex: "-1" });
  const bar = h("div", { class: "progress", role: "progressbar", "aria-label": t("progress.label"), "aria-valuemin": 0, "aria-valuemax": 100 }, h("i"));
  const state = h("span", { class: "state", role: "status", "aria-live": "polite" });
  const figures = h("span", { class: "figures" });
  const thumbs = h("div", { class: "thumbs", role: "listbox", "aria-label": t("thumbs.label") });
  const details = h("div", { class: "details" });
  parts = { stage, bar, state, figures, thumbs, details };
  element.replaceChildren(stage, bar, h("div", { class: "status-line" }, state, figures), thumbs, details);
  shown = "";
  draw();
}

// --- stage ------------------------------------------------------------------------------------------------------------
function put(key, ...children) {
  if (shown === key) return;
  shown = key;
  parts.stage.replaceChildren(...children);
}

let loading = false;
let next = null;

// A picture takes the other's place only once it is decoded, so that nothing flickers; while one is loading only the
// newest request waits.
async function show(key, address, image, job) {
  if (shown === key) return;
  if (loading) {
    next = [key, address, image, job];
    return;
  }
  loading = true;
  const picture = new Image();
  picture.alt = job.plan.prompt || t("picture.untitled");
  picture.src = address;
  try {
    await picture.decode();
    if (focus.job === job.id && !problem) {
      sized(picture, job.plan);
      picture.className = image.state === "done" ? "final" : "preview";
      if (image.state === "done") picture.addEventListener("click", () => openViewer(doneOf(job), image.picture));
      const old = parts.stage.querySelector("img");
      if (old && parts.stage.childElementCount === 1) old.replaceWith(picture);
      else parts.stage.replaceChildren(picture);
      shown = key;
    }
  } catch {
    if (image.state === "done") put(key, message("triangle-alert", t("picture.unreadable")));
  }
  loading = false;
  const [...waiting] = next ?? [];
  next = null;
  if (waiting.length) show(...waiting);
}

// Small native sizes are shown larger, yet never more than four times.
function sized(picture, plan) {
  const scale = Math.min(4, Math.max(1, 512 / Math.max(plan.width, plan.height)));
  picture.style.setProperty("--w", `${plan.width * scale}px`);
  picture.style.setProperty("--ratio", `${plan.width} / ${plan.height}`);
}

const doneOf = (job) => job.images.filter((image) => image.picture).map((image) => image.picture);

// --- everything below the stage ---------------------------------------------------------------------------------------
export function phase(job, image = chosen(job)) {
  if (job.state === "queued") return job.ahead ? t("state.ahead", { count: job.ahead }) : t("state.queued");
  if (job.state === "loading") return t("state.loading", { name: job.plan.checkpoint.name });
  if (job.state === "running") {
    const at = image.state === "running" ? image : job.images.find((each) => each.state === "running") ?? image;
    return job.images.length > 1 ? t("state.running.many", { index: at.index + 1, count: job.images.length }) : t("state.running");
  }
  return t(`state.${job.state}`);
}

function figuresOf(job, image) {
  const bits = [];
  if (image.steps && !ended(job)) bits.push(`${image.step}/${image.steps}`);
  if (job.state === "running" && job.steps_per_second) bits.push(`${number(job.steps_per_second, 1)} it/s`);
  if (job.state === "running" && job.eta !== null && job.eta !== undefined) bits.push(t("state.eta", { seconds: number(Math.ceil(job.eta)) }));
  const took = job.images.length > 1 && job.started && job.ended ? job.ended - job.started : image.seconds; // of a batch: all of it
  if (ended(job) && took) bits.push(t("state.took", { seconds: number(took, 1) }));
  return bits.join("  ·  ");
}

function draw() {
  if (!parts) return;
  const job = shownJob();
  const image = job && chosen(job);
  drawStage(job, image);
  const percent = job ? Math.round(100 * (job.progress ?? 0)) : 0;
  const busy = Boolean(job) && !ended(job);
  parts.bar.classList.toggle("busy", busy);
  parts.bar.classList.toggle("unsure", busy && percent === 0);
  parts.bar.setAttribute("aria-valuenow", percent);
  parts.bar.firstChild.style.setProperty("--part", percent / 100);
  const unsaved = job?.unsaved ? `  ·  ${t(job.unsaved === 1 ? "state.unsaved.one" : "state.unsaved", { count: job.unsaved })}` : "";
  const words = job && !problem ? phase(job, image) + unsaved : "";
  if (parts.state.textContent !== words) parts.state.textContent = words; // said aloud, so only when it changes
  parts.state.classList.toggle("busy", busy);
  parts.figures.textContent = job && !problem ? figuresOf(job, image) : "";
  drawThumbs(job, image);
  const picture = !problem && image?.state === "done" ? image.picture : null;
  drawDetails(parts.details, picture, job?.notices ?? []);
  drawStops();
}

function drawStops() {
  for (const name of ["interrupt", "skip"]) {
    const element = document.getElementById(name);
    if (element) element.toggleAttribute("data-idle", !active().length || (name === "skip" && !active().some((each) => each.state === "running")));
  }
}

function drawStage(job, image) {
  if (problem) return put(`problem ${problem.message}`, failure(problem, job));
  if (!job) return put(`welcome ${isStarter()} ${boot.checkpoints.length > 0}`, welcome());
  if (image.state === "done" && image.picture) return show(`picture ${image.picture}`, url(`pictures/${image.picture}`), image, job);
  if (job.error) return put(`error ${job.id} ${job.unsaved} ${job.error.message}`, failure(job.error, job));
  if (image.preview_seq && !ended(job)) return show(`preview ${job.id} ${image.index} ${image.preview_seq}`, url(`jobs/${job.id}/preview/${image.index}?seq=${image.preview_seq}`), image, job);
  if (ended(job)) return put(`ended ${job.id} ${image.index}`, message("square", t(`state.${job.state}`), t("state.nothing")));
  if (parts.stage.querySelector("img") && focus.follow) return null; // the last picture stays until the first preview
  const waiting = h("div", { class: "waiting" }, h("span", { class: "pulse" }));
  sized(waiting, job.plan);
  return put(`waiting ${job.id} ${image.index}`, waiting);
}

function drawThumbs(job, image) {
  const several = !problem && job && job.images.length > 1 && !(ended(job) && !job.images.some((each) => each.picture));
  parts.thumbs.hidden = !several;
  const key = several ? `${job.id} ${image.index} ${job.images.map((each) => each.state + (each.picture ?? "") + (each.state === "running" ? each.step : "")).join()}` : "";
  if (parts.thumbs.dataset.key === key) return;
  parts.thumbs.dataset.key = key;
  const tiles = several ? job.images.map((each) => tile(each, each.index === image.index, () => look(job, each.index), t("thumbs.one", { index: each.index + 1 }))) : [];
  parts.thumbs.replaceChildren(...tiles);
}

export function tile(image, selected, onclick, label) {
  const filled = image.state === "done" ? 1 : image.steps ? image.step / image.steps : 0;
  return h("button", { type: "button", class: `tile ${image.state}`, role: "option", "aria-selected": String(selected), "aria-label": label, title: label, onclick },
    image.picture ? h("img", { src: url(`thumbs/${image.picture}`), alt: "", loading: "lazy" }) : null,
    image.state === "running" ? h("i", { class: "filling", style: { "--part": filled } }) : null);
}

// --- life -------------------------------------------------------------------------------------------------------------
export function start() {
  mount("#inf-canvas", build);
  mount("#interrupt, #skip", drawStops);
  bus.addEventListener("job", () => {
    followOn();
    draw();
  });
  bus.addEventListener("form", () => parts && !problem && !shownJob() && draw()); // examples fit the checkpoint
  bus.addEventListener("submitting", () => { problem = null; });
  bus.addEventListener("submitted", ({ detail }) => {
    mine.add(detail.id);
    // What runs already stays in view; its successor is followed when it ends.
    const busy = shownJob() && mine.has(focus.job) && !ended(shownJob()) && focus.follow;
    focus.picked = true;
    if (busy && focus.job !== detail.id) draw();
    else look(detail, null, true);
  });
  bus.addEventListener("connection", returned);
  bus.addEventListener("refused", ({ detail }) => { problem = detail; shown = ""; draw(); });
  bus.addEventListener("reuse-seed", async ({ detail: field }) => {
    const found = await shownRecord();
    const job = found ? null : shownJob() ?? newestFirst()[0];
    if (!found && !job) return;
    const varied = field === "variation_seed" && (found ?? job).plan?.variation_seeds?.[0]; // without one its seed, as in AUTOMATIC1111
    enter({ [field]: String(varied || (found ? found.seed : job.images[0].seed)) });
  });
}

// What could not be sent while the server was away is no news once it is back: what it does now is.
function returned({ detail: { state } }) {
  const back = away && state === "open";
  away = state !== "open";
  if (!back || problem?.code !== "unreachable") return;
  problem = null;
  draw();
}

export const current = () => active().find((job) => job.id === focus.job) ?? active()[0];
export const interrupt = () => current() && api(`jobs/${current().id}/interrupt`, {}).catch(() => {});
export const skip = () => current() && api(`jobs/${current().id}/skip`, {}).catch(() => {});
