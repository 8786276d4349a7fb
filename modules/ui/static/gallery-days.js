// Words for the days on which pictures were made: today, yesterday, or the date.

import { boot, t } from "./live.js";

const days = new Map(); // midnight in ms -> words
const dayName = new Intl.DateTimeFormat(boot.language, { weekday: "long", day: "numeric", month: "long" });
const dayNameWithYear = new Intl.DateTimeFormat(boot.language, { day: "numeric", month: "long", year: "numeric" });
const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();

export function day({ created }) {
  const date = new Date(created * 1000);
  const key = midnight(date);
  if (!days.has(key)) {
    const ago = Math.round((midnight(new Date()) - key) / 86_400_000);
    const plain = date.getFullYear() === new Date().getFullYear() ? dayName : dayNameWithYear;
    days.set(key, ago === 0 ? t("gallery.today") : ago === 1 ? t("gallery.yesterday") : plain.format(date));
  }
  return days.get(key);
}
