// The row of tabs, seen from the browser: which one is open, and opening another.

export const tabButton = (name) => document.getElementById(`tab-${name}-button`);

export const showTab = (name) => tabButton(name)?.click();

// Calls `shown()` whenever the element comes into view after having been on a closed tab, and `hidden()` when it goes.
export function onVisible(element, shown, hidden = () => {}) {
  let visible = false;
  new IntersectionObserver(() => {
    const now = element.offsetParent !== null;
    if (now === visible) return;
    visible = now;
    (now ? shown : hidden)();
  }).observe(element);
}

// A reload that the page itself asked for comes back to the tab it was asked from.
const RETURN = "inferenz.tab";

export function reloadHere(name) {
  sessionStorage.setItem(RETURN, name);
  location.reload();
}

export function start() {
  // On a phone the row is wider than the screen: the tab that was opened is seen whole.
  document.addEventListener("click", ({ target }) => target.closest?.("#inf-tabs [role=tab]")?.scrollIntoView({ inline: "center", block: "nearest" }));
  const name = sessionStorage.getItem(RETURN);
  sessionStorage.removeItem(RETURN);
  if (!name) return;
  // Gradio attaches its listeners some moments after its elements: press until the tab is open.
  const press = (tries) => {
    if (tabButton(name)?.getAttribute("aria-selected") === "true" || tries === 0) return;
    showTab(name);
    setTimeout(() => press(tries - 1), 120);
  };
  press(60);
}
