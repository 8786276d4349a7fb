// The prompt grammar in the browser, so that tokens are counted as they are typed. It says the same as
// modules/prompting: a test runs both over the same texts.

const DEPTH = 100;
const LEXEMES = /\\[^]|[()[\]:|]|[^\\()[\]:|]+|\\/g;
const NUMBER = /^\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)\s*$/;

// --- editing: [from:to:when], [a|b] ------------------------------------------------------------------------------------
// A tree is a list of strings, {before, after, when} and {options}.
const frame = (opening) => ({ opening, parts: [[]], separators: [], depth: 0, broken: false });

export function parse(text) {
  const stack = [frame("")];
  const open = { "[": 0, "(": 0 };
  for (const token of text.match(LEXEMES) ?? []) {
    const top = stack.at(-1);
    if (token === "[" || token === "(") {
      stack.push(frame(token));
      open[token] += 1;
    } else if ((token === "]" && open["["]) || (token === ")" && open["("])) close(stack, open, token);
    else if ((token === ":" || token === "|") && top.opening === "[") {
      top.separators.push(token);
      top.parts.push([]);
    } else top.parts.at(-1).push(token);
  }
  while (stack.length > 1) take(stack.at(-2), stack.pop(), "");
  return joined(stack[0].parts[0]);
}

// A bracket that is no notation, as it was written: a list within the list, so that deep nesting stays quick.
function take(target, from, closing) {
  const rope = [from.opening];
  from.parts.forEach((part, index) => rope.push({ rope: part }, from.separators[index] ?? closing));
  target.parts.at(-1).push({ rope });
  target.depth = Math.max(target.depth, from.depth);
}

function close(stack, open, closing) {
  const wanted = closing === "]" ? "[" : "(";
  while (stack.at(-1).opening !== wanted) {
    const unclosed = stack.pop();
    open[unclosed.opening] -= 1;
    take(stack.at(-1), unclosed, "");
    stack.at(-1).broken = true;
  }
  const done = stack.pop();
  open[wanted] -= 1;
  const node = wanted === "(" || done.broken ? null : notation(done);
  if (!node) return take(stack.at(-1), done, closing);
  stack.at(-1).parts.at(-1).push(node);
  stack.at(-1).depth = Math.max(stack.at(-1).depth, done.depth + 1);
  return null;
}

function notation(done) {
  if (!done.separators.length || done.depth >= DEPTH) return null;
  if (!done.separators.includes(":")) return { options: done.parts.map(joined) };
  const last = done.parts.at(-1);
  const when = last.length === 1 && typeof last[0] === "string" ? NUMBER.exec(last[0])?.[1] : null;
  if (!when || done.separators.at(-1) !== ":" || done.separators.filter((each) => each === ":").length > 2) return null;
  const texts = [[...done.parts[0]]];
  done.separators.forEach((separator, index) => {
    if (separator === ":") texts.push([...done.parts[index + 1]]);
    else texts.at(-1).push(separator, ...done.parts[index + 1]);
  });
  texts.pop();
  return { before: texts.length === 2 ? joined(texts[0]) : [], after: joined(texts.at(-1)), when };
}

function joined(nodes) {
  const found = [];
  let text = [];
  const flush = () => {
    const whole = text.join("");
    if (whole) found.push(whole);
    text = [];
  };
  const waiting = [[nodes, 0]];
  while (waiting.length) {
    const top = waiting.at(-1);
    const node = top[0][top[1]++];
    if (node === undefined) waiting.pop();
    else if (typeof node === "string") text.push(node);
    else if (node.rope) waiting.push([node.rope, 0]);
    else {
      flush();
      found.push(node);
    }
  }
  flush();
  return found;
}

const switchOf = (edit, evaluations) => Math.trunc(Math.min(Number(edit.when) * (edit.when.includes(".") ? evaluations : 1), evaluations));

function ends(tree, evaluations, found) {
  for (const node of tree) {
    if (typeof node === "string") continue;
    if (node.options) for (let k = 1; k <= evaluations; k += 1) found.add(k);
    else if (switchOf(node, evaluations) >= 1) found.add(switchOf(node, evaluations));
    for (const inner of node.options ?? [node.before, node.after]) ends(inner, evaluations, found);
  }
  return found;
}

function textAt(tree, step, evaluations) {
  return tree.map((node) => {
    if (typeof node === "string") return node;
    if (node.options) return textAt(node.options[(step - 1) % node.options.length], step, evaluations);
    return textAt(step <= switchOf(node, evaluations) ? node.before : node.after, step, evaluations);
  }).join("");
}

// Every text that a prompt comes to, once each. positive: AND divides it, and what follows the last colon is a weight.
export function texts(text, evaluations, positive) {
  const parts = positive ? text.split(/(?<![\p{L}\p{N}_])AND(?![\p{L}\p{N}_])/u).map((part) => part.replace(/:\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*$/, "")) : [text];
  const found = new Set();
  for (const part of parts) {
    const tree = parse(part);
    for (const end of ends(tree, evaluations, new Set([evaluations]))) found.add(textAt(tree, end, evaluations));
  }
  return [...found];
}

export const withoutTags = (text) => text.replace(/<([\p{L}\p{N}_]+):([^<>]+)>/gu, "");

export function withoutComments(text) {
  if (!text.includes("#")) return text;
  const lines = [];
  for (const line of text.split("\n")) {
    const at = line.indexOf("#");
    if (at < 0) lines.push(line);
    else if (line.slice(0, at).trim()) lines.push(line.slice(0, at).trimEnd());
  }
  return lines.join("\n");
}

export function styled(text, additions) {
  for (const addition of additions) {
    if (addition.includes("{prompt}")) text = addition.replaceAll("{prompt}", () => text);
    else text = [text.trim(), addition.trim()].filter(Boolean).join(", ");
  }
  return text;
}
