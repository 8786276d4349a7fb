// Model cards: the little of Markdown that they use, built as elements, so that nothing in a file can become a script.

import { h } from "./dom.js";

const INLINE = /(`[^`]+`)|\*\*([^*]+)\*\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>)]+)/g;

function inline(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, strong, label, target, bare] = found;
    if (found.index > at) parts.push(text.slice(at, found.index));
    if (code) parts.push(h("code", {}, code.slice(1, -1)));
    else if (strong) parts.push(h("strong", {}, strong));
    else parts.push(h("a", { href: target ?? bare, target: "_blank", rel: "noreferrer noopener" }, label ?? bare));
    at = found.index + whole.length;
  }
  return [...parts, text.slice(at)];
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table(lines) {
  const [head, , ...body] = lines.map(cells);
  const titled = head.some(Boolean);
  return h("div", { class: "card-table" }, h("table", {}, titled ? h("thead", {}, h("tr", {}, head.map((cell) => h("th", {}, inline(cell))))) : null,
    h("tbody", {}, body.map((row) => h("tr", {}, row.map((cell) => h("td", {}, inline(cell))))))));
}

// Paragraphs, headings, lists, tables and code, from text without its front matter.
export function markdown(text) {
  const blocks = text.replace(/\r\n?/g, "\n").replace(/^---\n[\s\S]*?\n---\n/, "").split(/\n{2,}(?=\S)/);
  return blocks.flatMap((block) => {
    const lines = block.replace(/^\n+|\s+$/g, "").split("\n");
    const heading = /^(#{1,6})\s+(.*)/.exec(lines[0]);
    if (heading) return [h(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])), ...(lines.length > 1 ? markdown(lines.slice(1).join("\n")) : [])];
    if (lines[0].startsWith("```")) return [h("pre", {}, lines.slice(1).join("\n").replace(/\n?```\s*$/, ""))];
    if (lines.length > 1 && lines[0].includes("|") && /^[\s|:-]+$/.test(lines[1])) return [table(lines)];
    const item = /^\s*(?:[-*+]|(\d+)[.)])\s+/;
    if (item.test(lines[0])) {
      const items = lines.reduce((all, line) => (item.test(line) ? [...all, line.replace(item, "")] : [...all.slice(0, -1), `${all.at(-1)} ${line.trim()}`]), []);
      return [h(item.exec(lines[0])[1] ? "ol" : "ul", {}, items.map((each) => h("li", {}, inline(each))))];
    }
    return lines.join("").trim() ? [h("p", {}, inline(lines.join(" ")))] : [];
  });
}
