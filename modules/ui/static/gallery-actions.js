// What can be done with pictures of the gallery: hearts, the trash and back, files.

import { number, t, url } from "./live.js";
import { h } from "./dom.js";
import * as store from "./gallery-store.js";
import { setting } from "./preferences.js";
import { ask, complain, toast } from "./toast.js";

const counted = (key, count) => t(count === 1 ? `${key}.one` : key, { count: number(count) });

export async function love(ids, wanted) {
  await store.favourite(ids, wanted).catch(complain);
}

// True when they are in the trash.
export async function discard(ids) {
  if (!ids.length) return false;
  const agreed = !setting("confirm_delete", false)
    || (await ask(counted("gallery.ask", ids.length), t("gallery.ask.text"), t("gallery.delete")));
  if (!agreed) return false;
  try {
    await store.discard(ids);
  } catch (error) {
    complain(error);
    return false;
  }
  const undo = () => store.undoDiscard(ids).catch(complain);
  toast(counted("gallery.deleted", ids.length), { label: t("gallery.undo"), run: undo, seconds: 8 });
  return true;
}

export async function bringBack(ids) {
  try {
    await store.restore(ids);
    toast(counted("gallery.restored", ids.length));
  } catch (error) {
    complain(error);
  }
}

export async function emptyTrash() {
  await store.countTrash();
  const { trash } = store.state;
  const text = t(trash === 1 ? "gallery.ask_empty.text.one" : "gallery.ask_empty.text");
  if (!(await ask(counted("gallery.ask_empty", trash), text, t("gallery.empty_trash")))) return;
  try {
    await store.emptyTrash();
    toast(t("gallery.emptied"));
  } catch (error) {
    complain(error);
    store.refresh();
  }
}

// One picture as its file, several as one archive. A form, because a link cannot carry a thousand numbers.
export function download(ids) {
  if (ids.length === 1) {
    const link = h("a", { href: url(`pictures/${ids[0]}?download=1`), download: "" });
    document.body.append(link);
    link.click();
    link.remove();
    return;
  }
  const listed = h("input", { name: "ids", value: ids.join(" ") });
  const form = h("form", { method: "post", action: url("gallery/archive"), hidden: true }, listed);
  document.body.append(form);
  form.submit();
  form.remove();
}
