// What one click does to a field: the chips below the size, the dice and the last seed, and a double click that resets.

import { bus } from "./live.js";
import { mount } from "./dom.js";
import { current, enter, names } from "./fields.js";
import { shaped, usual } from "./following.js";

const ratio = (text) => {
  const [width, height] = text.split(":").map(Number);
  return width / height;
};

function aspect(text) {
  const { width, height } = current();
  const area = usual("width") * usual("height");
  const chosen = width * height;
  enter(shaped(ratio(text), chosen > area * 1.7 || chosen < area / 1.7 ? chosen : area));
}

export function markAspect() {
  const { width, height } = current();
  for (const chip of document.querySelectorAll("[data-aspect]")) {
    const near = Math.abs(Math.log(width / height / ratio(chip.dataset.aspect))) < 0.05;
    chip.setAttribute("aria-pressed", String(near));
  }
}

function swap() {
  const { width, height } = current();
  enter({ width: height, height: width });
}

function reset(event) {
  const block = event.target.closest?.("#t2i-controls .block");
  const label = event.target.closest?.("[data-testid=block-info]");
  if (!block || (event.target.type !== "range" && !label)) return;
  const name = block.id.replaceAll("-", "_");
  if (!names.includes(name)) return;
  getSelection()?.removeAllRanges(); // a double click on a word selects it
  enter({ [name]: usual(name) });
}

export function start() {
  mount("#size-tools", (element) => {
    element.addEventListener("click", (event) => {
      const chip = event.target.closest("button");
      if (chip?.dataset.aspect) aspect(chip.dataset.aspect);
      else if (chip?.id === "swap") swap();
    });
    markAspect();
  });
  mount(".seed-tools", (element) => element.addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    const { field } = element.dataset;
    if (chip?.id.endsWith("-dice")) enter({ [field]: "-1" });
    if (chip?.id.endsWith("-reuse")) bus.dispatchEvent(new CustomEvent("reuse-seed", { detail: field }));
  }));
  document.addEventListener("dblclick", reset);
}
