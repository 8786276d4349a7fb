// Numbers out of range: said at once below the field, and never corrected.

import { t } from "./live.js";
import { h } from "./dom.js";

const NUMBERS = [
  "#t2i-controls input[type=number]", "#clip-skip input", "#seed :is(input, textarea)",
  "#variation-seed :is(input, textarea)",
].join();
const numbers = () => [...document.querySelectorAll(NUMBERS)];
const check = ({ target }) => target.matches?.(NUMBERS) && note(target);

export const noteAll = () => numbers().forEach(note);

// The first field that holds something wrong, told so.
export function firstWrong() {
  const options = "#t2i-controls .option input[aria-invalid]"; // option-fields.js says what is wrong with those
  return numbers().find((input) => note(input)) ?? document.querySelector(options);
}

// Gradio puts a number into its range when it is left: what was typed stays, with the sentence below it.
function hold(event) {
  if (event.target.matches?.(NUMBERS) && note(event.target)) event.stopImmediatePropagation();
}

// Says below the field what is wrong with it; returns that sentence, "" for none.
function note(input) {
  const block = input.closest(".block");
  if (!block) return "";
  const problem = input.closest("#seed, #variation-seed") ? seedProblem(input.value) : rangeProblem(input);
  let place = block.querySelector(".inf-note");
  if (!place && problem) block.append((place = h("span", { class: "inf-note", role: "alert" })));
  if (place && place.textContent !== problem) place.textContent = problem;
  input.setAttribute("aria-invalid", String(Boolean(problem)));
  return problem;
}

const seedProblem = (text) => (/^\s*(-1|\d{1,19})?\s*$/.test(text) ? "" : t("field.seed"));

function rangeProblem(input) {
  const [low, high, value] = [Number(input.min), Number(input.max), Number(input.value)];
  if (input.value === "" || Number.isNaN(value)) return t("field.number");
  const outside = (input.min && value < low) || (input.max && value > high);
  if (outside) return t("field.range", { low: input.min, high: input.max });
  if (Number(input.step) === 1 && !Number.isInteger(value)) return t("settings.whole");
  if (Number(input.step) === 8 && value % 8) return t("field.multiple", { multiple: 8 });
  return "";
}

export function start() {
  document.addEventListener("input", check);
  for (const left of ["blur", "change"]) document.addEventListener(left, hold, true);
}
