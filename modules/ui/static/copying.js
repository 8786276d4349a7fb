// A picture's parameters into the clipboard.

import { t } from "./live.js";

// element: the button that says so. place: where the parameters are folded.
export async function copied(element, text, place) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no clipboard outside a secure context: select the text, so that the person can copy it
    const details = place.querySelector(".parameters");
    details.open = true;
    getSelection().selectAllChildren(details.querySelector("pre"));
    return;
  }
  element.querySelector("span").textContent = t("action.copied");
  setTimeout(() => { element.querySelector("span").textContent = t("action.copy"); }, 1500);
}
