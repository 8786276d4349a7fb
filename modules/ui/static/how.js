// How it works: what happened, in four parts, for the picture that was made last.

import { api, bus, ended, jobs, newestFirst, number, t, url } from "./live.js";
import { h, icon, mount } from "./dom.js";
import { shownJob } from "./canvas.js";

let place = null;
let drawn = "";

const subject = () => {
  const made = (job) => job?.images.some((image) => image.state === "done");
  return made(shownJob()) ? shownJob() : newestFirst().find(made);
};

function part(index, title, text, ...content) {
  return h("section", { class: "part" }, h("div", { class: "part-head" }, h("span", { class: "part-number" }, String(index)), h("div", {}, h("h2", {}, title), h("p", {}, text))), h("div", { class: "part-body" }, content));
}

// CLIP's vocabulary writes each byte as one character: those of printable Latin-1 as themselves, the others, in order,
// from U+0100 on. A character outside it may be cut into several tokens: they are shown as the one they make.
const BYTES = (() => {
  const plain = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return new Map(Array.from({ length: 256 }, (_, byte) => [plain(byte) ? byte : next++, byte]));
})();

function text(tokens) {
  const bytes = [...tokens.join("").replaceAll("</w>", "")].map((letter) => BYTES.get(letter.codePointAt(0)));
  if (bytes.includes(undefined)) return tokens.join(""); // of another vocabulary
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(bytes));
  } catch {
    return null;
  }
}

function readable(flat) {
  const shown = [];
  for (let at = 0; at < flat.length;) {
    let [size, found] = [1, text(flat.slice(at, at + 1))];
    while (found === null && size < 4 && at + size < flat.length) {
      size += 1;
      found = text(flat.slice(at, at + size));
    }
    if (found === null) [size, found] = [1, flat[at].replace("</w>", "")];
    shown.push(found);
    at += size;
  }
  return shown;
}

function tokens(chunks) {
  const flat = (chunks ?? []).flat();
  if (!flat.length) return h("p", { class: "fine" }, t("how.prompt.empty"));
  return h("ol", { class: "tokens" }, readable(flat).map((token) => h("li", {}, token)));
}

function facts(pairs) {
  return h("dl", { class: "facts rows" }, pairs.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

async function draw() {
  if (!place || !place.offsetParent) return;
  const job = subject();
  if (!job) {
    drawn = "";
    place.replaceChildren(h("div", { class: "message" }, icon("film"), h("p", { class: "title" }, t("how.empty")), h("p", {}, t("how.empty.text"))));
    return;
  }
  const image = job.images.find((each) => each.state === "done");
  const key = `${job.id} ${image.index}`;
  if (drawn === key) return;
  drawn = key;
  const full = await api(`jobs/${job.id}`).catch(() => jobs.get(job.id));
  const trace = await api(`jobs/${job.id}/trace/${image.index}`).catch(() => ({ frames: [] }));
  if (drawn !== key) return;
  const source = full.model_source ? t(`how.model.${full.model_source}`) : "";
  place.replaceChildren(h("div", { class: "how" },
    part(1, t("how.model"), t("how.model.text"), facts([[t("checkpoint"), full.plan.checkpoint.name], [t("how.model.time"), `${number(full.model_seconds, 2)} s`], [t("how.model.source"), source], [t("how.model.device"), full.device], [t("how.model.dtype"), full.dtype]])),
    part(2, t("how.prompt"), t("how.prompt.text", { seconds: number(full.encode_seconds, 2) }),
      h("div", { class: "two" }, h("div", {}, h("h3", {}, t("prompt")), tokens(full.tokens), h("h3", {}, t("negative_prompt")), tokens(full.negative_tokens)),
        h("figure", {}, h("img", { src: url(`jobs/${job.id}/noise/${image.index}`), alt: t("how.noise"), onerror: (event) => event.target.closest("figure").remove() }), h("figcaption", {}, t("how.noise.caption", { seed: image.seed }))))),
    part(3, t("how.steps"), t("how.steps.text", { steps: full.plan.steps, sampler: full.sampler_label }),
      trace.frames.length ? h("ol", { class: "film", tabindex: "0", "aria-label": t("how.steps") }, trace.frames.map((frame) =>
        h("li", {}, h("img", { src: url(`jobs/${job.id}/trace/${image.index}/${frame.step}`), alt: t("how.step", { step: frame.step }), loading: "lazy" }),
          h("b", {}, String(frame.step)), h("span", {}, `σ ${number(frame.sigma, frame.sigma < 1 ? 3 : 2)}`), h("span", {}, `${number(frame.seconds, 2)} s`)))) : h("p", { class: "fine" }, t("how.steps.none"))),
    part(4, t("how.result"), t("how.result.text", { seconds: number(image.seconds, 2) }),
      h("div", { class: "result" }, h("img", { src: url(`pictures/${image.picture}`), alt: full.plan.prompt }),
        h("div", { class: "result-side" }, h("blockquote", {}, full.plan.prompt || t("picture.untitled")),
          facts([[t("size"), `${full.plan.width} × ${full.plan.height}`], [t("seed"), image.seed], [t("sampler"), full.sampler_label], [t("schedule"), full.schedule_label], [t("steps"), full.plan.steps], [t("cfg_scale"), number(full.plan.cfg_scale, (String(full.plan.cfg_scale).split(".")[1] ?? "").length)]]))))));
}

export function start() {
  mount("#inf-how", (element) => {
    place = element;
    drawn = "";
    // A tab that was opened becomes visible without any other sign.
    new IntersectionObserver(draw).observe(element);
    draw();
  });
  bus.addEventListener("job", ({ detail: { job } }) => ended(job) && draw());
}
