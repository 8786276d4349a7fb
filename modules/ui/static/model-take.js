// "Take as": what a checkpoint is, where its header does not say it rightly. Kept by the server for this file.

import { api, t } from "./live.js";
import { button, h } from "./dom.js";
import { facts, usable } from "./checkpoints.js";
import { current } from "./fields.js";
import { followAnew } from "./following.js";
import { complain, toast } from "./toast.js";

const PREDICTION = { epsilon: "ε", v: "v", edm: "EDM", flow: "flow" };
export const predictionName = (name) => PREDICTION[name] ?? name;
let families = null; // a promise: family -> {label, predictions, variants}

// In words: family, prediction and variant.
export const inWords = ({ label, prediction, variant }) => [label, variant, predictionName(prediction)].filter(Boolean).join(", ");

function select(label, entries, value, onchange) {
  const field = h("select", { onchange: () => onchange(field.value) }, entries.map(([name, text]) => h("option", { value: name, selected: name === value }, text)));
  return h("label", { class: "option" }, h("span", {}, label), field);
}

// Fills `place` with the form; done() is called when the server has taken something.
export async function takeForm(place, model, done) {
  try {
    families ??= api("models/families");
    const known = await families;
    const wanted = { family: model.taken?.family ?? "", prediction: model.taken?.prediction ?? "", variant: model.taken?.variant ?? null };
    draw(place, model, known, wanted, done);
  } catch (error) {
    families = null;
    complain(error);
  }
}

const ASIS = "\u0000"; // "" is the plain variant

function draw(place, model, known, wanted, done) {
  const own = model.recognised;
  const kind = known[wanted.family || own.family];
  const again = (change) => draw(place, model, known, { ...wanted, ...change }, done);
  const asIs = (what) => t("models.take.as_is", { what });
  const variant = (name) => name || t("models.take.plain");
  place.replaceChildren(h("div", { class: "take-form" },
    select(t("models.family"), [["", asIs(own.label)], ...Object.entries(known).map(([name, each]) => [name, each.label])], wanted.family, (family) => again({ family, prediction: "", variant: null })),
    select(t("models.prediction"), [["", asIs(predictionName(own.prediction))], ...(kind?.predictions ?? []).map((name) => [name, predictionName(name)])], wanted.prediction, (prediction) => again({ prediction })),
    select(t("models.variant"), [[ASIS, asIs(variant(own.variant))], ...(kind?.variants ?? []).map((name) => [name, variant(name)])], wanted.variant ?? ASIS, (name) => again({ variant: name === ASIS ? null : name })),
    h("div", { class: "take-do" },
      button(t("models.take.apply"), "check", () => take(model, wanted, done), { class: "tool lined", "data-act": `apply ${model.name}` }),
      model.taken ? button(t("models.take.reset"), "rotate-ccw", () => take(model, {}, done), { "data-act": `reset ${model.name}` }) : "")));
}

async function take(model, wanted, done) {
  try {
    const before = facts(model.name).wishes;
    const answer = await api("models/take", { name: model.name, ...wanted });
    toast(t("models.take.done", { name: model.name, what: inWords(answer) }));
    if (before && current().checkpoint === model.name) await followAnew(before);
    else await usable();
    done();
  } catch (error) {
    complain(error);
  }
}
