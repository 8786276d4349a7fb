// Where each picture of the gallery stands: rows of equal height that fill the width, under a line for each day.

const HEAD = 46; // px, a day's line
const [FLATTEST, TALLEST] = [2.6, 0.45]; // width / height; panoramas are cut to these

const ratio = (item) => Math.min(FLATTEST, Math.max(TALLEST, item.width / item.height || 1));

// items newest first; width: px; target: px, greatest height of a row; day(item): the text above a day's pictures.
// Returns {rows, height, spots}: rows {top, height, day} or {top, height, cells: [{item, left, width}]},
// spots: item's place in `items` -> [row, cell].
export function arrange(items, { width, target, gap, day }) {
  const columns = Math.max(2, Math.ceil((width + gap) / (target + gap)));
  const usual = (width - (columns - 1) * gap) / columns;
  const rows = [];
  const spots = [];
  let top = 0;
  let line = [];
  let today = null;

  function close(full) {
    if (!line.length) return;
    const sum = line.reduce((total, item) => total + ratio(item), 0);
    const fitting = (width - (line.length - 1) * gap) / sum;
    const height = full ? fitting : Math.min(usual, fitting);
    let left = 0;
    const cells = line.map((item) => {
      const cell = { item, left, width: ratio(item) * height };
      left += cell.width + gap;
      return cell;
    });
    cells.forEach((_, index) => spots.push([rows.length, index]));
    rows.push({ top, height, cells });
    top += height + gap;
    line = [];
  }

  for (const item of items) {
    const name = day(item);
    if (name !== today) {
      close(false);
      today = name;
      rows.push({ top, height: HEAD, day: name });
      top += HEAD;
    }
    line.push(item);
    const sum = line.reduce((total, each) => total + ratio(each), 0);
    if (sum * usual + (line.length - 1) * gap >= width - 0.5) close(true);
  }
  close(false);
  return { rows, height: Math.max(0, top - gap), spots };
}

// The rows between two heights, as [first, last + 1].
export function between(rows, from, to) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].top + rows[middle].height < from) low = middle + 1;
    else high = middle;
  }
  let end = low;
  while (end < rows.length && rows[end].top <= to) end += 1;
  return [low, end];
}

// The picture a row above or below, nearest to the middle of the one at `index`.
export function beside({ rows, spots }, index, direction) {
  const [row, cell] = spots[index];
  const middle = rows[row].cells[cell].left + rows[row].cells[cell].width / 2;
  let next = row + direction;
  while (rows[next] && !rows[next].cells) next += direction;
  if (!rows[next]) return index;
  const distance = ({ left, width }) => Math.abs(left + width / 2 - middle);
  const best = rows[next].cells.reduce((near, each, at, all) => (distance(each) < distance(all[near]) ? at : near), 0);
  return spots.findIndex(([a, b]) => a === next && b === best);
}
