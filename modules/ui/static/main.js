// Starts every part of the page, in the order in which they listen to each other.

import * as canvas from "./canvas.js";
import * as details from "./details.js";
import * as fieldTools from "./field-tools.js";
import * as fields from "./fields.js";
import * as following from "./following.js";
import * as form from "./form.js";
import * as gallery from "./gallery.js";
import * as galleryViewer from "./gallery-viewer.js";
import * as guidance from "./guidance.js";
import * as how from "./how.js";
import * as keys from "./keys.js";
import * as lists from "./lists.js";
import * as live from "./live.js";
import * as models from "./models.js";
import * as numbers from "./numbers.js";
import * as options from "./options.js";
import * as parts from "./parts.js";
import * as paste from "./paste.js";
import * as pnginfo from "./pnginfo.js";
import * as promptView from "./prompt-view.js";
import * as queue from "./queue.js";
import * as sections from "./sections.js";
import * as settings from "./settings.js";
import * as shell from "./shell.js";
import * as strip from "./strip.js";
import * as styles from "./styles.js";
import * as tabs from "./tabs.js";
import * as theme from "./theme.js";
import * as wishes from "./wishes.js";
import { fill } from "./fill.js";
import { boot, url } from "./live.js";
import { complain } from "./toast.js";

// Icons are one sprite, put into the page so that every `use` is local.
fetch(url("static/icons.svg")).then((answer) => answer.text()).then((text) => {
  const sprite = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  sprite.setAttribute("hidden", "");
  sprite.style.display = "none";
  document.body.prepend(sprite);
});

// What Gradio's events call by name.
const { keep, generate } = form;
const { interrupt, skip } = canvas;
const merge = (list) => lists.introduced(form.merge(list));
window.inferenz = { keep, merge, choices: lists.choices, generate, interrupt, skip, fill };

const listening = [
  form, fields, following, fieldTools, numbers, lists, parts, wishes, styles, promptView, options, guidance, sections,
  details, canvas, queue, strip, how, gallery, galleryViewer, paste, pnginfo, models, settings, keys,
  theme, shell, tabs, live,
];
for (const part of listening) part.start();

// What the start of the server could not do, such as indexing new pictures on a full disk.
if (boot.trouble) complain({ message: boot.trouble });
