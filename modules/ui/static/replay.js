// Making a picture again from what it says, and telling how far the two are apart.

import { api, bus, ended, jobs, number, receive, t } from "./live.js";
import { button, h, icon } from "./dom.js";

const ICONS = { identical: "circle-check", rounding: "circle-check", different: "triangle-alert" };

// A button and the place for its answer. begin(): asks the server for the job. compact: the button alone is shown first.
export function replay(begin, attributes = {}) {
  const place = h("div", { class: "replay", role: "status", hidden: true });
  const press = button(t("replay"), "refresh-cw", run, { title: t("replay.title"), ...attributes });

  async function run() {
    press.disabled = true;
    say(h("p", { class: "replay-wait" }, h("span", { class: "pulse" }), t("replay.running")));
    try {
      const view = await begin();
      receive(view);
      say(...answer(await outcome(view.id)));
    } catch (error) {
      say(h("p", { class: "replay-verdict different" }, icon("triangle-alert"), h("span", {}, [error.message, error.hint].filter(Boolean).join(" "))));
    }
    press.disabled = false;
  }

  const say = (...children) => {
    place.hidden = false;
    place.replaceChildren(...children);
  };
  return { press, place };
}

function answer(found) {
  if (!found) return [h("p", { class: "replay-verdict" }, icon("info"), h("span", {}, t("replay.stopped")))];
  const apart = found.difference;
  const numbers = apart && apart.largest ? t("replay.numbers", { largest: apart.largest, mean: number(apart.mean, 4), share: number(100 * apart.share, 2) }) : "";
  return [
    h("p", { class: `replay-verdict ${found.verdict}` }, icon(ICONS[found.verdict]), h("span", {}, t(`replay.verdict.${found.verdict}`))),
    numbers ? h("p", { class: "replay-numbers" }, numbers) : null,
    found.reasons.length ? h("ul", {}, found.reasons.map((reason) => h("li", {}, t(`replay.reason.${reason.code}`, reason)))) : null].filter(Boolean);
}

// Resolves once the job is over; null where it was stopped. Rejects with the job's error.
function outcome(job) {
  return new Promise((resolve, reject) => {
    const look = async () => {
      const view = jobs.get(job);
      if (!view || !ended(view)) return;
      bus.removeEventListener("job", look);
      if (view.error) reject(view.error);
      else api(`jobs/${job}/replay`).then((found) => resolve(found.outcome), reject);
    };
    bus.addEventListener("job", look);
    look();
  });
}
