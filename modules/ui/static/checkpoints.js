// What the page knows of the checkpoints: which can be loaded, and what each of them is and wants.

import { api, boot, bus } from "./live.js";
import { current, tell } from "./fields.js";

export const facts = (name = current().checkpoint) => boot.models[name] ?? {};

// Of one checkpoint, as modules/ui/defaults.py has it for those that were there when the page was made.
function described({ defaults, prediction, profile, reads }) {
  const encoders = [profile.text_encoder ?? []].flat().filter((name) => name !== "Automatic");
  const { width, height, steps, cfg_scale, sampler, schedule, clip_skip } = defaults;
  const wishes = {
    width, height, steps, cfg_scale, sampler, schedule, clip_skip,
    distilled_cfg_scale: defaults.distilled_cfg_scale ?? 0, shift: defaults.shift ?? 0,
    vae: profile.vae ?? "Automatic", text_encoder: JSON.stringify(encoders),
  };
  const [distilled, remembered] = [defaults.distilled_cfg_scale !== null, Object.keys(profile).length > 0];
  return { flow: prediction === "flow", distilled, profile: remembered, reads, wishes };
}

const isStarter = (model) => model.metadata["modelspec.title"]?.startsWith(boot.starter_title);

// The checkpoints that can be loaded now; the page learns of those that came after it.
export async function usable() {
  const models = (await api("models")).checkpoints.filter((model) => model.supported);
  boot.checkpoints = models.map((model) => model.name);
  boot.models = Object.fromEntries(models.map((model) => [model.name, described(model)]));
  boot.starter = models.filter(isStarter).map((model) => model.name);
  bus.dispatchEvent(new CustomEvent("models"));
  tell(); // what was learnt may change what is offered
  return models;
}
