// Around the tabs: language, queue, footer, and the bar that says when the server is away.

import { active, boot, bus, number, t, url } from "./live.js";
import { h, icon, iconButton, mount } from "./dom.js";
import { help } from "./keys.js";
import { open as openQueue } from "./queue.js";
import { followTheme, toggleTheme } from "./theme.js";

// Gradio names the browser's language, whichever the page is in.
function speakAs() {
  if (document.documentElement.lang !== boot.language) document.documentElement.lang = boot.language;
}

function speak(language) {
  document.cookie = `inferenz_language=${language}; path=/; max-age=31536000; samesite=lax`;
  location.reload();
}

function tools(element) {
  const chosen = h("select", { id: "language", "aria-label": t("language"), title: t("language"), onchange: (event) => speak(event.target.value) },
    Object.entries(boot.languages).map(([code, name]) => h("option", { value: code, selected: code === boot.language }, name)));
  element.replaceChildren(...[
    h("button", { type: "button", id: "queue-chip", title: t("queue.title"), "aria-haspopup": "dialog", hidden: true, onclick: openQueue }, h("span", { role: "status" })),
    iconButton(t("theme.toggle"), "moon", toggleTheme, { id: "theme-toggle" }),
    h("span", { class: "select" }, icon("languages"), chosen),
    iconButton(t("keys.title"), "circle-question-mark", help, { id: "help" }),
    boot.login ? h("form", { method: "post", action: url("logout") }, h("button", { class: "tool square", "aria-label": t("logout"), title: t("logout") }, icon("log-out"))) : null].filter(Boolean));
  followTheme();
  count();
}

function count() {
  const all = active();
  const chip = document.getElementById("queue-chip");
  if (chip) {
    chip.hidden = all.length < 2;
    chip.firstChild.textContent = t("queue", { count: all.length });
  }
  const newest = all.find((job) => job.state === "running") ?? all[0];
  document.title = newest ? `${Math.round(100 * (newest.progress ?? 0))} % · Inferenz` : "Inferenz";
}

const gigabytes = (bytes) => `${number(bytes / 2 ** 30, 1)} GB`;

let status = null; // the newest; it may have come before the footer's element did

function footer() {
  const place = document.getElementById("inf-status");
  if (!place || !status) return;
  const parts = [status.device_name || status.device, status.dtype];
  if (status.memory_total) parts.push(t("footer.memory", { used: gigabytes(status.memory_used), total: gigabytes(status.memory_total) }));
  if (status.memory_mode) parts.push(t(`footer.mode.${status.memory_mode}`));
  if (status.memory_needed) parts.push(t("footer.needs", { needed: gigabytes(status.memory_needed) }));
  place.textContent = parts.filter(Boolean).join("  ·  ");
  place.title = (status.devices ?? []).map((each) => [each.device, each.device_name, each.state].filter(Boolean).join("  ·  ")).join("\n");
  place.dataset.state = status.state;
  // At its first start the worker is just not there yet: what comes after a death is worth a word.
  if (status.state === "gone") bar("worker", t("bar.worker.gone"));
  else if (status.state === "starting" && status.restarts > 0) bar("worker", t("bar.worker"));
  else bar("worker", null);
}

const bars = new Map();
let patience = 0;

function bar(kind, text) {
  if (text) bars.set(kind, text);
  else bars.delete(kind);
  const element = document.getElementById("inf-bar");
  if (!element) return;
  element.hidden = !bars.size;
  element.replaceChildren(...[...bars.values()].slice(-1).map((line) => h("span", {}, icon("wifi-off"), line, line === t("bar.login") && h("a", { href: location.href }, t("login.submit")))));
}

function connection({ detail: { state } }) {
  clearTimeout(patience);
  if (state === "open") return bar("connection", null);
  if (state === "login") return bar("connection", t("bar.login"));
  // A blink is nobody's business; two seconds are.
  patience = setTimeout(() => bar("connection", t("bar.lost")), 2_000);
  return null;
}

export function start() {
  mount("#inf-tools", tools);
  bus.addEventListener("job", count);
  mount("#inf-status", footer);
  bus.addEventListener("engine", ({ detail }) => {
    status = detail.status;
    footer();
  });
  bus.addEventListener("connection", connection);
  speakAs();
  new MutationObserver(speakAs).observe(document.documentElement, { attributes: true, attributeFilter: ["lang"] });
}
