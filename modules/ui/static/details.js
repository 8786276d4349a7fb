// Below the picture: what it was made with, and what can be done with it.

import { t, url } from "./live.js";
import { button, h, icon, iconButton } from "./dom.js";
import { copied } from "./copying.js";
import { reuse } from "./fill.js";
import { record, toggleFavourite } from "./records.js";

export const destinations = []; // {label, icon, run(record)}: where a picture can be sent; other tabs add theirs

// id: of the picture, null for none; notices: what its job has to say
export async function drawDetails(place, id, notices) {
  const key = `${id ?? ""} ${notices.length}`;
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  if (!id) return place.replaceChildren();
  const found = await record(id).catch(() => null);
  if (!found || place.dataset.key !== key) return null;
  return place.replaceChildren(...detailsOf(found, notices, place));
}

function detailsOf(found, notices, place) {
  const notice = (text) => h("p", { class: "notice" }, icon("info"), h("span", {}, text));
  return [
    actions(found, place),
    ...notices.map(notice),
    h("dl", { class: "facts" }, factsOf(found)),
    h("details", { class: "parameters" }, h("summary", {}, icon("chevron-right"), t("parameters")),
      h("pre", { class: "infotext" }, found.infotext))];
}

function actions(found, place) {
  const download = {
    class: "tool square", href: url(`pictures/${found.id}?download=1`), download: "",
    "aria-label": t("action.download"), title: t("action.download"),
  };
  const copy = button(t("action.copy"), "copy", () => copied(copy, found.infotext, place),
    { class: "tool brief", title: t("action.copy") });
  return h("div", { class: "actions" },
    button(t("action.reuse"), "undo-2", () => reuse(found), { id: "action-reuse", title: t("action.reuse.title") }),
    sendMenu(found),
    copy,
    h("span", { class: "spring" }),
    heart(found),
    h("a", download, icon("download")));
}

function factsOf({ seed, width, height, sampler, steps, plan, checkpoint }) {
  const facts = [
    ["seed", seed], ["size", `${width} × ${height}`], ["sampler", plan?.sampler_label ?? sampler], ["steps", steps],
    ["cfg_scale", plan?.cfg_scale], ["checkpoint", checkpoint],
  ];
  const known = facts.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return known.map(([name, value]) => h("div", {}, h("dt", {}, t(name)), h("dd", {}, String(value))));
}

function sendMenu(found) {
  const send = (run) => {
    menu.open = false;
    run(found);
  };
  const item = ({ label, icon: name, run }) =>
    h("button", { type: "button", role: "menuitem", onclick: () => send(run) }, icon(name), label);
  const menu = h("details", { class: "menu" },
    h("summary", { class: "tool" }, icon("send"), h("span", {}, t("action.send")), icon("chevron-down")),
    h("div", { class: "menu-list", role: "menu" }, destinations.map(item)));
  return menu;
}

function heart(found) {
  const attributes = { "aria-pressed": String(found.favourite), class: "tool square heart", "data-picture": found.id };
  return iconButton(t("action.favourite"), "heart", () => toggleFavourite(found.id), attributes);
}

export function start() {
  destinations.push(
    { label: t("send.prompt"), icon: "text-quote", run: (found) => reuse(found, ["prompt", "negative_prompt"]) },
    { label: t("send.seed"), icon: "dices", run: (found) => reuse(found, ["seed"]) },
    { label: t("send.size"), icon: "maximize-2", run: (found) => reuse(found, ["width", "height"]) });
}
