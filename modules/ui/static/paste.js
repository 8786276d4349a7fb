// Filling the form from a parameters text: the arrow at the prompt, and whatever else has such a text.

import { api, boot, t } from "./live.js";
import { mount } from "./dom.js";
import { fill, reuse } from "./fill.js";
import { shownRecord } from "./canvas.js";
import { PACKED } from "./options.js";
import { complain, toast } from "./toast.js";

const typed = () => document.querySelector("#prompt textarea")?.value.trim() ?? "";

// Puts what was read into the form and says what was not taken.
export function take({ values, missed, said }) {
  fill(values);
  // What a job can be asked for, and this form has no field for
  const beyond = Object.entries(said).filter(([name]) => !boot.fields.includes(name) && !PACKED.includes(name)).map(([name, label]) => ({ name: label, value: values[name] }));
  const left = [...missed, ...beyond];
  if (!left.length) return toast(t("paste.done"));
  const names = left.map(({ name, value }) => (value ? `${name}: ${value}` : name)).join(", ");
  return toast(t("paste.missed", { names }), { seconds: 10 });
}

async function paste() {
  try {
    const text = typed();
    if (!text) return await pasteLast();
    const found = await api("paste", { text });
    return found.found ? take(found) : toast(t("paste.none"));
  } catch (error) {
    return complain(error);
  }
}

// As in AUTOMATIC1111: with nothing in the prompt, what was made last.
async function pasteLast() {
  const last = (await shownRecord()) ?? (await api("gallery?limit=1")).pictures[0];
  if (!last) return toast(t("paste.nothing"));
  if (!last.infotext) return reuse(last);
  const found = await api("paste", { text: last.infotext });
  // The history has the prompts without loss
  return take({ ...found, values: { ...found.values, prompt: last.prompt, negative_prompt: last.negative_prompt } });
}

export function start() {
  mount("#paste", (element) => element.addEventListener("click", paste));
}
