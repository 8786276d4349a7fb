// CLIP's tokenizer and AUTOMATIC1111's chunks in the browser: how many tokens a prompt takes, without asking the server.
// The same as modules/prompting: a test compares the two.

import { url } from "./live.js";
import { texts, withoutTags } from "./prompt-grammar.js";

const CHUNK = 75;
const BACKTRACK = 20; // tokens: AUTOMATIC1111's default of "Prompt word wrap length limit"
const MAX_WEIGHT = 1e6;
const WORDS = /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\u0085\p{L}\p{N}]+/gu;
const SPECIAL = /(<\|startoftext\|>|<\|endoftext\|>)/;
const LEXEMES = /\\[()[\]\\]|\\|:\s*(?<weight>[+-]?[.\d]+)\s*\)|[()[\]:]|[^\\()[\]:]+/gu;

let ranks = null;
const words = new Map(); // a word in bytes -> its tokens
const letters = byteLetters();

// GPT-2's visible character for each byte.
function byteLetters() {
  const found = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte += 1) {
    const visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    found.push(String.fromCodePoint(visible ? byte : next++));
  }
  return found;
}

let loading = null;

export const ready = () => ranks !== null;

export function load() {
  loading ??= fetch(url("clip-merges")).then((answer) => {
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.text();
  }).then((text) => {
    const lines = text.split("\n").slice(1);
    ranks = new Map(lines.map((line, rank) => [line, rank]));
  }).catch(() => { loading = null; });
  return loading;
}

function bytePairs(word) {
  if (words.has(word)) return words.get(word);
  const bytes = new TextEncoder().encode(word);
  let parts = Array.from(bytes, (byte) => letters[byte]);
  parts[parts.length - 1] += "</w>";
  while (parts.length > 1) {
    let best = Infinity;
    for (let i = 0; i + 1 < parts.length; i += 1) best = Math.min(best, ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity);
    if (best === Infinity) break;
    const merged = [];
    for (let i = 0; i < parts.length; i += 1) {
      if (i + 1 < parts.length && ranks.get(`${parts[i]} ${parts[i + 1]}`) === best) merged.push(parts[i] + parts[++i]);
      else merged.push(parts[i]);
    }
    parts = merged;
  }
  if (words.size > 20_000) words.clear();
  words.set(word, parts);
  return parts;
}

// The tokens of plain text, brackets being text.
export function tokens(text) {
  const found = [];
  for (const piece of text.toWellFormed?.().split(SPECIAL) ?? text.split(SPECIAL)) {
    if (SPECIAL.test(piece)) {
      found.push(piece);
      continue;
    }
    const plain = Array.from(piece.normalize("NFC"), (letter) => letter.toLowerCase()).join("");
    for (const [word] of plain.matchAll(WORDS)) for (const token of bytePairs(word)) found.push(token);
  }
  return found;
}

const clamp = (weight) => Math.min(Math.max(weight, -MAX_WEIGHT), MAX_WEIGHT);

function brackets(usual) {
  const groups = [{ parent: 0, factor: 1 }];
  return {
    open: 0,
    begin() { groups.push({ parent: this.open, factor: usual }); this.open = groups.length - 1; },
    end(factor = usual) { groups[this.open].factor = factor; this.open = groups[this.open].parent; },
    products() {
      const found = [1];
      for (const group of groups.slice(1)) found.push(clamp(found[group.parent] * group.factor));
      return found;
    },
  };
}

// Runs of text of one weight; null begins a new chunk.
export function attention(text) {
  const [round, square] = [brackets(1.1), brackets(1 / 1.1)];
  const runs = [];
  const put = (part) => runs.push([part, round.open, square.open]);
  for (const match of text.matchAll(LEXEMES)) {
    const token = match[0];
    const written = match.groups.weight;
    const weight = written !== undefined && /^[+-]?(\d+\.?\d*|\.\d+)$/.test(written) && Number.isFinite(Number(written)) ? Number(written) : null;
    if (token.startsWith("\\")) put(token.slice(1));
    else if (token === "(") round.begin();
    else if (token === "[") square.begin();
    else if (weight !== null && round.open) round.end(weight);
    else if (token === ")" && round.open) round.end();
    else if (token === "]" && square.open) square.end();
    else if (written && round.open) {
      put(token.slice(0, -1));
      round.end();
    } else {
      const parts = token.split(/(?<![\p{L}\p{N}_])BREAK(?![\p{L}\p{N}_])/u);
      parts.forEach((part, index) => {
        if (index) put(null);
        put(parts.length === 1 ? part : index === 0 ? part.trimEnd() : index === parts.length - 1 ? part.trimStart() : part.trim());
      });
    }
  }
  return merged(runs, round.products(), square.products());
}

function merged(runs, rounds, squares) {
  const found = [];
  let [current, weight] = [[], 1];
  const flush = () => {
    const whole = current.join("");
    if (whole) found.push(whole);
    current = [];
  };
  for (const [text, round, square] of runs) {
    if (text === null) {
      flush();
      found.push(null);
      continue;
    }
    const now = clamp(rounds[round] * squares[square]);
    if (now !== weight) flush();
    weight = now;
    current.push(text);
  }
  flush();
  return found;
}

// {count, limit} of one text, as AUTOMATIC1111 counts: a chunk that is left early counts as full.
function countOne(text) {
  let [chunks, length, comma, last] = [0, 0, null, false];
  const end = (rest) => { chunks += 1; length = rest; comma = null; };
  for (const piece of attention(text)) {
    last = piece === null;
    if (piece === null) {
      end(0);
      continue;
    }
    for (const token of tokens(piece)) {
      if (token === ",</w>") comma = length;
      else if (length === CHUNK && comma !== null && length - comma <= BACKTRACK) end(length - comma - 1);
      if (length === CHUNK) end(0);
      length += 1;
    }
  }
  // After a BREAK at the end nothing is left over; a chunk that was just filled is not begun anew
  const count = chunks * CHUNK + (last ? 0 : length);
  return { count, limit: Math.max(1, Math.ceil(count / CHUNK)) * CHUNK };
}

// The most that any step sees. positive: a prompt, in which AND joins several.
export function count(text, evaluations, positive) {
  let most = { count: -1, limit: CHUNK };
  for (const each of texts(withoutTags(text), evaluations, positive)) {
    const found = countOne(each);
    if (found.count > most.count) most = found;
  }
  return { ...most, chunks: most.limit / CHUNK };
}
