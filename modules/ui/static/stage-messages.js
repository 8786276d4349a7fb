// What stands in the picture's place while there is none: how to begin, or what went wrong and what helps.

import { api, boot, receive, t } from "./live.js";
import { button, h, icon, iconButton, worded } from "./dom.js";
import { current } from "./fields.js";
import { fill } from "./fill.js";
import { generate } from "./form.js";
import { revealField } from "./sections.js";
import { complain } from "./toast.js";

export function message(iconName, title, text = "", ...actions) {
  const sentences = [h("p", { class: "title" }, worded(title)), text && h("p", {}, worded(text))];
  return h("div", { class: "message" }, icon(iconName), ...sentences,
    actions.length ? h("div", { class: "actions" }, actions) : null);
}

// --- what went wrong -------------------------------------------------------------------------------------------------
// Finished pictures that could not be written wait on the server: they are written again, not made again.
async function saveAgain(job, element) {
  element.disabled = true;
  try {
    receive(await api(`jobs/${job.id}/save`, {}));
  } catch (error) {
    element.disabled = false;
    complain(error);
  }
}

async function showLog() {
  const { logs } = await api("engine/log").catch((error) => complain(error) ?? { logs: [] });
  const titled = ({ name, lines }) => [...(logs.length > 1 ? [`== ${name} ==`] : []), ...lines];
  const pre = h("pre", { class: "infotext", tabindex: "0" }, logs.flatMap(titled).join("\n") || t("log.empty"));
  const [onclose, onclick] = [() => dialog.remove(), (event) => event.target === dialog && dialog.close()];
  const close = iconButton(t("close"), "x", () => dialog.close());
  const dialog = h("dialog", { class: "sheet wide", "aria-label": t("log.title"), onclose, onclick },
    h("div", { class: "sheet-head" }, h("h2", {}, t("log.title")), close), pre);
  document.body.append(dialog);
  dialog.showModal();
  pre.scrollTop = pre.scrollHeight;
}

function makeSmaller({ width, height }) {
  const side = (value) => Math.max(64, Math.round(value / 16) * 8);
  fill({ width: side(width), height: side(height), batch_size: 1 });
  setTimeout(() => generate(), 400);
}

// What helps against an error. job: the one it came from, null for a request that was refused.
function cures(error, job) {
  const again = button(t("error.again"), "rotate-ccw", () => generate());
  const look = (name, iconName, field) => button(t(name), iconName, () => revealField(field));
  if (error.code?.startsWith("checkpoint")) return [look("error.checkpoint", "layers", "checkpoint")];
  switch (error.code) {
    case "out_of_memory":
      return [job?.plan && button(t("error.smaller"), "image", () => makeSmaller(job.plan)),
        button(t("error.free"), "cpu", () => api("engine/unload", {}))];
    case "bad_request":
      return [error.field && look("error.field", "pencil", error.field)];
    case "storage": {
      const save = (event) => saveAgain(job, event.currentTarget);
      return [job?.unsaved ? button(t("error.save"), "download", save) : again];
    }
    case "worker_gone":
      return [again, button(t("error.log"), "text-quote", showLog)];
    default:
      return [again];
  }
}

export function failure(error, job) {
  const box = message("triangle-alert", error.message, error.hint, ...cures(error, job).filter(Boolean));
  box.classList.add("danger");
  box.setAttribute("role", "alert");
  return box;
}

// --- how to begin ----------------------------------------------------------------------------------------------------
export const isStarter = () => boot.starter.includes(current().checkpoint);

function example(prompt) {
  const make = () => {
    fill({ prompt });
    setTimeout(() => generate(), 250);
  };
  return h("button", { type: "button", class: "example", onclick: make }, icon("sparkles"), h("span", {}, prompt));
}

export function welcome() {
  const other = isStarter() ? "" : ".other";
  const folder = h("span", {}, t("welcome.folder"), " ", h("code", {}, boot.folder));
  const below = h("p", { class: "fine" }, icon("folder-open"), folder);
  if (!boot.checkpoints.length) {
    const [title, text] = [t("welcome.none"), t("welcome.none.text")];
    return h("div", { class: "welcome" }, h("p", { class: "title" }, title), h("p", {}, text), below);
  }
  const examples = (other ? boot.examples_general : boot.examples).map(example);
  return h("div", { class: "welcome" },
    h("p", { class: "title" }, t(`welcome.title${other}`)),
    h("p", {}, t(`welcome.text${other}`)),
    h("div", { class: "examples", role: "group", "aria-label": t("welcome.examples") }, examples), below);
}
