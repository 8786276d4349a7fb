// How many tokens the prompts have, beside each of them.

import { api, boot, t } from "./live.js";
import { facts } from "./checkpoints.js";
import { current } from "./fields.js";
import { styled, withoutComments } from "./prompt-grammar.js";
import { additions } from "./styles.js";
import * as tokenizer from "./tokenizer.js";

const timers = {};
const counted = {};

// CLIP's are counted here at each key; by the server, some moments later, while the tokenizer's table is still on its
// way, and those of models that read by other tokenizers. Nothing is shown where nobody knows how a model reads.
function count(name) {
  const values = current();
  const text = styled(withoutComments(values[name] ?? ""), additions(name));
  const evaluations = Number(values.steps) * (boot.samplers[values.sampler]?.evaluations ?? 1) || 1;
  const { reads = "clip" } = facts();
  const model = reads === "clip" ? "" : values.checkpoint;
  const here = !model && tokenizer.ready();
  const key = JSON.stringify([text, evaluations, here, model]);
  if (counted[name] === key) return;
  counted[name] = key;
  clearTimeout(timers[name]);
  if (here) return show(name, tokenizer.count(text, evaluations, name === "prompt"));
  timers[name] = setTimeout(async () => {
    const question = { text, model, evaluations, negative: name !== "prompt" };
    const answer = await api("tokens", question).catch(() => null);
    if (answer && counted[name] === key) show(name, answer);
  }, 250);
}

function show(name, answer) {
  const place = document.getElementById(`count-${name.replaceAll("_", "-")}`);
  if (!place) return;
  const told = answer.chunks > 1 ? "tokens.chunks" : answer.count > answer.limit ? "tokens.left_out" : "tokens.label";
  place.textContent = answer.limit ? `${answer.count}/${answer.limit}` : "";
  place.setAttribute("aria-label", answer.limit ? t("tokens.label", answer) : "");
  place.classList.toggle("over", answer.chunks > 1 || answer.count > answer.limit);
  place.title = answer.limit ? t(told, { ...answer, over: answer.count - answer.limit }) : "";
}

export const countAll = () => ["prompt", "negative_prompt"].forEach(count);

export function beginCounting() {
  countAll();
  setTimeout(() => tokenizer.load().then(countAll), 1500); // the page first: the table is half a megabyte
}
