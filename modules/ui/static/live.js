// What the page knows of the server: texts, requests, and the jobs as one stream of events tells them.

export const boot = JSON.parse(document.getElementById("inferenz-boot").textContent);
export const base = new URL("inferenz/", location.origin + location.pathname.replace(/[^/]*$/, ""));
export const bus = new EventTarget(); // "job" {job, old}, "engine" {status}, "connection" {state}
export const jobs = new Map(); // id -> newest snapshot
export const ended = (job) => ["completed", "interrupted", "failed"].includes(job.state);

export function t(key, values = {}) {
  return (boot.texts[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] ?? "" : whole)); // {prompt} may be meant as such
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(boot.language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

export const url = (path) => new URL(path, base).href;

// Asks the server; answers JSON. Throws {code, message, hint, field} as the server words it, or code "unreachable".
export async function api(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(url(path), options);
  } catch {
    throw { code: "unreachable", message: t("error.unreachable"), hint: t("error.unreachable.hint") };
  }
  const values = await answer.json().catch(() => ({}));
  if (answer.ok) return values;
  if (values.error?.code === "login") loggedOut();
  throw values.error ?? { code: "server", message: t("error.server"), hint: "" };
}

const emit = (name, detail) => bus.dispatchEvent(new CustomEvent(name, { detail }));

// Snapshots may arrive out of order (an answer to a request, the stream): the highest seq wins. A brief one lacks what
// does not change while a job runs.
export function receive(view) {
  const old = jobs.get(view.id);
  if (old && old.seq > view.seq) return;
  const images = view.images.map((image, index) => ({ ...old?.images[index], ...image }));
  const job = { ...old, ...view, images };
  jobs.set(job.id, job);
  if (job.plan) emit("job", { job, old });
  else api(`jobs/${job.id}`).then(receive, () => {});
}

// Without a session nothing is asked any more: the bar says so, and its link leads to the login.
function loggedOut() {
  clearTimeout(retry);
  clearTimeout(silence);
  source?.close();
  emit("connection", { state: "login" });
}

let source = null;
let retry = 0;
let silence = 0;

function listen() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource(url("events"));
  source.onopen = heard;
  source.onmessage = (event) => {
    heard();
    const values = JSON.parse(event.data);
    if (values.engine) emit("engine", { status: values.engine });
    else if (values.id) receive(values);
  };
  source.onerror = lost;
}

// The server sends a heartbeat every few seconds; a connection that says nothing for longer is dead.
function heard() {
  emit("connection", { state: "open" });
  clearTimeout(silence);
  silence = setTimeout(() => { lost(); listen(); }, 40_000);
}

async function lost() {
  emit("connection", { state: "lost" });
  if (source.readyState !== EventSource.CLOSED) return;
  clearTimeout(retry);
  retry = setTimeout(listen, 2_000);
  await api("status").catch(() => {}); // whether this is the end of the session: see loggedOut
}

export const newestFirst = () => [...jobs.values()].filter((job) => job.plan).sort((a, b) => b.created - a.created);
export const active = () => newestFirst().filter((job) => !ended(job)).reverse();

// A browser keeps six connections to a server, and a stream holds one for ever: a tab that nobody looks at and that has
// nothing to wait for lets go of its own. When it is looked at again the stream begins with everything that happened.
function rest() {
  if (document.visibilityState === "visible" || active().length) return;
  clearTimeout(silence);
  clearTimeout(retry);
  source.close();
}

export const listening = () => source?.readyState !== EventSource.CLOSED;

export function start() {
  listen();
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible") rest();
    else if (!listening()) listen();
  });
  bus.addEventListener("job", ({ detail: { job } }) => ended(job) && rest());
}
