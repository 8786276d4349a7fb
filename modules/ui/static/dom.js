// Building and finding elements. Text always goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object") {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A text whose flags, such as --no-half-vae, do not break at their hyphens: something for append() and h().
export function worded(text) {
  const parts = text.split(/(?<!\S)(--[a-z][\w-]*)/); // every second one is a flag
  return parts.map((part, index) => (index % 2 ? h("span", { class: "flag" }, part) : part));
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function button(label, iconName, onclick, attributes = {}) {
  return h("button", { type: "button", class: "tool", onclick, ...attributes }, iconName && icon(iconName), h("span", {}, label));
}

export function iconButton(label, iconName, onclick, attributes = {}) {
  return h("button", { type: "button", class: "tool square", "aria-label": label, title: label, onclick, ...attributes }, icon(iconName));
}

const mounts = [];

// Calls `build(element)` whenever an element matching `selector` comes onto the page, once per element: Gradio puts a
// tab's elements into the document only when the tab is opened.
export function mount(selector, build) {
  mounts.push({ selector, build, seen: new WeakSet() });
  settle();
}

function settle() {
  for (const { selector, build, seen } of mounts) {
    for (const element of document.querySelectorAll(selector)) {
      if (seen.has(element)) continue;
      seen.add(element);
      build(element);
    }
  }
}

new MutationObserver(settle).observe(document.documentElement, { childList: true, subtree: true });
