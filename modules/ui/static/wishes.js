// What the chosen checkpoint makes of the form: inputs that only some models have, what is of no use with it, its own
// size, and the settings that are remembered for it.

import { api, boot, bus, t } from "./live.js";
import { button, h, mount } from "./dom.js";
import { facts, usable } from "./checkpoints.js";
import { current, enter } from "./fields.js";
import { changed } from "./following.js";
import { complain, toast } from "./toast.js";

const REMEMBERED = ["width", "height", "steps", "cfg_scale", "sampler", "schedule", "clip_skip", "vae"];
const FAR = 1.6; // times the area that the checkpoint was made for

function draw() {
  const values = current();
  const { flow, distilled } = facts();
  document.body.classList.toggle("has-shift", Boolean(flow));
  document.body.classList.toggle("has-distilled", Boolean(distilled));
  document.body.classList.toggle("no-negative", Number(values.cfg_scale) === 1);
  for (const name of ["sampler", "schedule"]) misfit(name, flow && boot.unfit[name].includes(values[name]));
  drawNative();
  drawProfile();
}

// As in numbers.js what is wrong with a field stands below it; a job with it would be refused.
function misfit(name, wrong) {
  const field = document.getElementById(name);
  if (!field) return;
  let note = field.querySelector(".inf-note");
  if (!note && wrong) field.append((note = h("span", { class: "inf-note", role: "alert" })));
  if (note) note.textContent = wrong ? t("sampling.unfit.note") : "";
}

function drawNative() {
  const chip = document.getElementById("native");
  const { wishes } = facts();
  if (!chip || !wishes) return;
  const share = (current().width * current().height) / (wishes.width * wishes.height);
  chip.hidden = share < FAR && share > 1 / FAR;
  chip.textContent = `${wishes.width} × ${wishes.height}`;
}

// What a profile remembers, and a request takes of the inputs that only some models have.
export function inputs() {
  const values = current();
  const { flow, distilled } = facts();
  const encoders = JSON.parse(values.text_encoder || "[]");
  return {
    text_encoder: encoders.length ? encoders : "Automatic",
    distilled_cfg_scale: distilled ? values.distilled_cfg_scale : null,
    shift: flow && Number(values.shift) > 0 ? values.shift : null, // 0: the model's own rule
  };
}

async function remember(forget) {
  const values = current();
  const wanted = { ...Object.fromEntries(REMEMBERED.map((name) => [name, values[name]])), ...inputs() };
  try {
    await api("models/profile", { name: values.checkpoint, values: forget ? {} : wanted });
    await usable();
    if (forget) enter(facts().wishes);
    toast(t(forget ? "profile.forgotten" : "profile.remembered", { name: values.checkpoint }));
  } catch (error) {
    complain(error);
  }
}

function drawProfile() {
  const place = document.getElementById("profile-tools");
  const { profile, wishes } = facts();
  if (!place || !wishes) return;
  const names = [...REMEMBERED, "text_encoder", "distilled_cfg_scale", "shift"];
  place.querySelector("#profile-remember").disabled = !names.some(changed);
  place.querySelector("#profile-forget").hidden = !profile;
}

export function start() {
  mount("#profile-tools", (element) => {
    const titled = (id, title) => ({ id, title: t(title) });
    element.replaceChildren(
      button(t("profile.remember"), "star", () => remember(false), titled("profile-remember", "profile.remember.title")),
      button(t("profile.forget"), "rotate-ccw", () => remember(true), titled("profile-forget", "profile.forget.title")));
    drawProfile();
  });
  mount("#native", (chip) => {
    chip.addEventListener("click", () => {
      const { width, height } = facts().wishes;
      enter({ width, height });
    });
    drawNative();
  });
  bus.addEventListener("form", draw);
  draw();
}
