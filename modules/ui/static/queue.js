// What is made and what waits, one line each: opened by the count on top, to take out one or all.

import { active, api, bus, t } from "./live.js";
import { button, h, iconButton } from "./dom.js";
import { look, phase } from "./canvas.js";
import { complain } from "./toast.js";

let sheet = null;

// The last one first, so that none begins while those before it end.
async function interrupt(jobs) {
  for (const job of [...jobs].reverse()) await api(`jobs/${job.id}/interrupt`, {}).catch(complain);
}

function row(job) {
  const prompt = job.plan.prompt || t("picture.untitled");
  return h("li", { class: "queue-row", "data-job": job.id },
    h("button", { type: "button", class: "queue-job", onclick: () => { sheet.close(); look(job, null, true); } },
      h("span", { class: "queue-prompt" }, prompt), h("span", { class: "fine" })),
    iconButton(`${t("interrupt")}: ${prompt}`, "x", () => interrupt([job]), { title: t("interrupt") }));
}

// Lines stay as long as their jobs do: what is replaced under the pointer cannot be pressed.
function draw() {
  if (!sheet) return;
  const jobs = active();
  if (!jobs.length) return sheet.close();
  const kept = new Map([...sheet.list.children].map((element) => [element.dataset.job, element]));
  const rows = jobs.map((job) => kept.get(job.id) ?? row(job));
  rows.forEach((element, index) => { element.querySelector(".fine").textContent = phase(jobs[index]); });
  if (rows.map((each) => each.dataset.job).join() === [...kept.keys()].join()) return;
  sheet.list.replaceChildren(...rows);
  if (!sheet.contains(document.activeElement)) sheet.list.querySelector(".tool")?.focus();
}

export function open() {
  const list = h("ul", { class: "style-list" });
  const onclose = () => { sheet.remove(); sheet = null; };
  const onclick = (event) => event.target === sheet && sheet.close();
  sheet = h("dialog", { class: "sheet wide", "aria-label": t("queue.title"), onclose, onclick },
    h("div", { class: "sheet-head" }, h("h2", {}, t("queue.title")), iconButton(t("close"), "x", () => sheet.close())),
    list,
    h("div", { class: "ask-actions" },
      button(t("queue.all"), "square", () => interrupt(active()), { class: "tool final", id: "interrupt-all" })));
  sheet.list = list;
  document.body.append(sheet);
  sheet.showModal();
  draw();
}

export function start() {
  bus.addEventListener("job", draw);
}
