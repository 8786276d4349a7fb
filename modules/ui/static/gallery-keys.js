// The gallery's keyboard. It listens before the rest of the page does, for Esc there stops the job that runs.

const STEPS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", Home: "first", End: "last" };

export function startKeys(gallery) {
  const { at, bringBack, clear, discard, focusSearch, goTo, itemAt, love, open, rangeTo, selectAll, state, step, targets, toggle, view } = gallery;

  function loveThese() {
    const ids = targets();
    if (ids.length && state.kind !== "trash") love(ids, !ids.every((id) => itemAt(id).favourite));
  }

  // True when the key meant the gallery.
  function pressed(event) {
    const control = event.ctrlKey || event.metaKey;
    const writing = event.target.matches?.("input, textarea, select, [contenteditable]");
    const onTab = event.target.id === "tab-gallery-button"; // where the keyboard is after the tab was opened
    if (onTab && ["ArrowLeft", "ArrowRight", "Enter", " "].includes(event.key)) return false;
    const inside = onTab || event.target.closest?.("#inf-gallery") || event.target === document.body;
    if (writing && event.target.type === "search" && inside && event.key === "Escape") {
      event.target.blur();
      return true;
    }
    if (writing || !inside || event.altKey) return false;
    if (control && event.key.toLowerCase() === "a") return selectAll() ?? true;
    if (control) return false;
    if (STEPS[event.key]) {
      const before = at();
      const id = step(STEPS[event.key]);
      if (event.shiftKey && id) {
        if (before && !targets().includes(before)) toggle(before);
        rangeTo(id);
      }
      return true;
    }
    if (event.key === "Escape") return clear() || !document.body.matches(":focus-within");
    if (event.key === " " && at()) return toggle(at()) ?? true;
    if (event.key === "Enter" && event.target.matches?.(".open")) return view(at()) ?? true;
    if (event.key === "Delete" || event.key === "Backspace") {
      if (state.kind !== "trash") remove();
      return true;
    }
    if (event.key === "/") return focusSearch() ?? true;
    if (event.key.toLowerCase() === "f") return loveThese() ?? true;
    if (event.key.toLowerCase() === "r" && state.kind === "trash") return bringBack(targets()) ?? true;
    return false;
  }

  async function remove() {
    const ids = targets();
    const place = ids.length ? state.items.findIndex((item) => item.id === ids[0]) : -1;
    if (!(await discard(ids))) return;
    const next = state.items[Math.min(place, state.items.length - 1)];
    if (next) goTo(next.id);
  }

  addEventListener("keydown", (event) => {
    if (!open() || !pressed(event)) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
}
