// Ctrl + Up and Down in a prompt: the weight of the selection, of the brackets around the caret, or of its word. The
// keys do what AUTOMATIC1111's do: (text:1.1) by tenths, <lora:name:0.8> by twentieths, ((text)) becomes (text:1.2).

const STEP = 0.1;
const NETWORK_STEP = 0.05;
const WEIGHT = "[+-]?(?:\\d+\\.?\\d*|\\.\\d+)";
const WEIGHTED = new RegExp(`^(.*):\\s*(${WEIGHT})\\s*$`, "s");
const WEIGHT_AHEAD = new RegExp(`^:\\s*(${WEIGHT})\\s*\\)`);
const NETWORK = new RegExp(`^(\\w+:[^:]+)(?::(${WEIGHT}))?(:.*)?$`, "s");
const EDGE = /[\s,:|\\()[\]{}<>]/; // of a word

const escaped = (text, at) => /\\*$/.exec(text.slice(0, at))[0].length % 2 === 1;

// The place of the nearest bracket `wanted` from `at` on in the direction `by`; -1 where there is none or one of
// `other` comes first.
function nearest(text, at, by, wanted, other) {
  for (let place = at; place >= 0 && place < text.length; place += by) {
    if (text[place] === other && !escaped(text, place)) return -1;
    if (text[place] === wanted && !escaped(text, place)) return place;
  }
  return -1;
}

// What is inside of the pair of brackets around the caret, as [start, end]; null where there is none.
function inside(text, caret, open, close) {
  const [start, end] = [nearest(text, caret - 1, -1, open, close), nearest(text, caret, 1, close, open)];
  return start < 0 || end < 0 ? null : [start + 1, end];
}

function network(text, caret) {
  const place = inside(text, caret, "<", ">");
  const found = place && NETWORK.exec(text.slice(...place));
  return found && { place, name: found[1], weight: Number(found[2] ?? 1), rest: found[3] ?? "" };
}

function word(text, caret) {
  let [start, end] = [caret, caret];
  while (start > 0 && !EDGE.test(text[start - 1])) start -= 1;
  while (end < text.length && !EDGE.test(text[end])) end += 1;
  return [start, end];
}

// What the caret stands for: text in round brackets without its weight, text in square ones unless they edit or
// alternate, a word.
function meant(text, caret) {
  const round = inside(text, caret, "(", ")");
  if (round) {
    const weighted = WEIGHTED.exec(text.slice(...round));
    return weighted ? [round[0], round[0] + weighted[1].length] : round;
  }
  const square = inside(text, caret, "[", "]");
  return square && !/[:|]/.test(text.slice(...square)) ? square : word(text, caret);
}

// The weight that text[start:end] has, and what the new one replaces: the text and the brackets around it.
function weightOf(text, start, end) {
  const real = start > 0 && !escaped(text, start - 1);
  const ahead = real && text[start - 1] === "(" && WEIGHT_AHEAD.exec(text.slice(end));
  if (ahead) return { weight: Number(ahead[1]), from: start - 1, to: end + ahead[0].length };
  const [open, close] = [text[start - 1], text[end]];
  let depth = 0;
  if (real && [["(", ")"], ["[", "]"]].some(([first, second]) => first === open && second === close)) {
    const left = (at) => text[start - at - 1] === open && !escaped(text, start - at - 1);
    const pair = (at) => left(at) && text[end + at] === close;
    while (pair(depth)) depth += 1;
  }
  const factor = open === "[" ? 1 / 1.1 : 1.1;
  return { weight: Math.round(factor ** depth / STEP) * STEP, from: start - depth, to: end + depth };
}

const shown = (weight) => String(Number(weight.toFixed(2)));

// As typing would, so that it can be undone.
function put(area, from, to, text, start, end) {
  area.setSelectionRange(from, to);
  if (!document.execCommand("insertText", false, text)) {
    area.setRangeText(text, from, to);
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }
  area.setSelectionRange(start, end);
}

// up: 1 or -1.
export function weigh(area, up) {
  const text = area.value;
  let [start, end] = [area.selectionStart, area.selectionEnd];
  const added = start === end && network(text, start);
  if (added) {
    const caret = start;
    const weight = shown(added.weight + up * NETWORK_STEP);
    return put(area, ...added.place, `${added.name}:${weight}${added.rest}`, caret, caret);
  }
  if (start === end) [start, end] = meant(text, start);
  while (end > start && text[end - 1] === " ") end -= 1;
  if (start === end) return null;
  const { weight, from, to } = weightOf(text, start, end);
  const now = shown(Math.max(0, weight + up * STEP));
  const bare = now === "1";
  const at = bare ? from : from + 1;
  const words = text.slice(start, end);
  return put(area, from, to, bare ? words : `(${words}:${now})`, at, at + words.length);
}
