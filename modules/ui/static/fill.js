// Filling the form with what a picture, a parameters text or a list of models says, in the words of the form's fields.

import { boot } from "./live.js";
import { usable } from "./checkpoints.js";
import { enter } from "./fields.js";
import { guided } from "./guidance.js";
import { packed } from "./options.js";

// Fields that are not named stay as they are.
export function fill(wanted) {
  const { checkpoint, guidance, text_encoder: encoder } = wanted;
  const fields = { ...wanted };
  if (checkpoint && !boot.checkpoints.includes(checkpoint)) { // gone, not loadable, or newer than this page
    fields.checkpoint = null;
    usable().then(() => boot.checkpoints.includes(checkpoint) && fill({ checkpoint }), () => {});
  }
  if (guidance && typeof guidance !== "string") fields.guidance = guided(guidance);
  if (encoder && !String(encoder).startsWith("[")) {
    fields.text_encoder = JSON.stringify([encoder].flat().filter((name) => name !== "Automatic"));
  }
  if (wanted.options || wanted.schedule_options) fields.sampler_options = packed(fields, fields);
  if ("prompt" in wanted && !("styles" in wanted)) fields.styles = "[]"; // theirs are in the text
  enter(fields);
}

// What a picture's own values put into the form: its record's plan. only: the names of some of them.
export function reuse(record, only = null) {
  const { plan } = record;
  const all = { ...planned(plan ?? {}), ...written(record) };
  fill(only ? Object.fromEntries(only.map((name) => [name, all[name]])) : all);
}

const written = ({ prompt, negative_prompt, steps, width, height, seed }) => ({
  prompt, negative_prompt, steps, width, height,
  seed: seed === null ? null : String(seed), // other programs' pictures may not say
});

const planned = (plan) => ({
  sampler: plan.sampler, schedule: plan.schedule,
  cfg_scale: plan.cfg_scale, distilled_cfg_scale: plan.distilled_cfg_scale, shift: plan.shift ?? 0,
  checkpoint: plan.checkpoint_name, vae: plan.vae_name ?? "Automatic", text_encoder: plan.text_encoder_names ?? [],
  clip_skip: plan.clip_skip, tiling: plan.tiling, guidance: plan.guidance ?? {},
  options: plan.options ?? {}, schedule_options: plan.schedule_options, emphasis: plan.emphasis,
  discard_penultimate: plan.discard_penultimate, noise_source: plan.noise_source, ensd: plan.ensd,
  variation_seed: plan.variation_seeds?.[0] ?? "-1", variation_strength: plan.variation_strength,
  seed_resize_width: plan.seed_resize?.[0] ?? 0, seed_resize_height: plan.seed_resize?.[1] ?? 0,
});
