// A picture's parameters into the clipboard.

import { t } from "./live.js";
import { icon } from "./dom.js";

// On a phone the button may be its icon alone, so both say it.
function say(element, text, iconName) {
  element.querySelector("span").textContent = t(text);
  element.querySelector(".icon").replaceWith(icon(iconName));
}

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
  say(element, "action.copied", "check");
  setTimeout(() => say(element, "action.copy", "copy"), 1500);
}
