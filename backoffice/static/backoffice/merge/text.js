// Three-way merge of texts by line (diff3 over a patience diff).

import { longestIncreasing } from "./order.js";
import { same } from "./values.js";

const splitLines = (text) => text.replaceAll("\r\n", "\n").split("\n");

// How often the regions between matching lines are divided again: as on the server, so that both merge alike.
const MAX_ROUNDS = 32;

/** Returns the unchanged lines (patience diff): common ends, then lines that occur once on both sides, in order. */
export function matches(a, b) {
  const found = new Map();
  const todo = [[0, a.length, 0, b.length, MAX_ROUNDS]];
  while (todo.length) {
    let [aFrom, aTo, bFrom, bTo, rounds] = todo.pop();
    while (aFrom < aTo && bFrom < bTo && a[aFrom] === b[bFrom]) found.set(aFrom++, bFrom++);
    while (aFrom < aTo && bFrom < bTo && a[aTo - 1] === b[bTo - 1]) found.set(--aTo, --bTo);
    const lines = rounds ? anchorLines(a, aFrom, aTo, b, bFrom, bTo) : [];
    if (!lines.length) continue;
    const corners = [[aFrom, bFrom], ...lines, [aTo, bTo]];
    corners.slice(1).forEach(([k, n], i) => todo.push([corners[i][0], k, corners[i][1], n, rounds - 1]));
  }
  return found;
}

function anchorLines(a, aFrom, aTo, b, bFrom, bTo) {
  const once = (lines, from, to) => {
    const places = new Map();
    for (let i = from; i < to; i++) places.set(lines[i], places.has(lines[i]) ? -1 : i);
    return places;
  };
  const [inA, inB] = [once(a, aFrom, aTo), once(b, bFrom, bTo)];
  const pairs = [...inA].map(([line, i]) => [i, inB.get(line) ?? -1]).filter(([i, j]) => i >= 0 && j >= 0);
  return longestIncreasing(pairs.map(([, j]) => j)).map((index) => pairs[index]);
}

/** diff3 for a side-by-side view: `[{kind: same|theirs|mine|both|conflict, base, theirs, mine}]`, each side as lines. */
export function regions(baseText, theirText, myText) {
  const [base, theirs, mine] = [baseText, theirText, myText].map(splitLines);
  const [toTheirs, toMine] = [matches(base, theirs), matches(base, mine)];
  const found = [];
  let [b, t, m] = [0, 0, 0];
  for (let i = 0; i <= base.length; i++) {
    const end = i === base.length;
    if (!end && !(toTheirs.has(i) && toMine.has(i))) continue;
    const [j, k] = end ? [theirs.length, mine.length] : [toTheirs.get(i), toMine.get(i)];
    if (b !== i || t !== j || m !== k) found.push(region(base.slice(b, i), theirs.slice(t, j), mine.slice(m, k)));
    if (!end) {
      if (found.at(-1)?.kind !== "same") {
        const lines = [];
        found.push({ kind: "same", base: lines, theirs: lines, mine: lines });
      }
      found.at(-1).base.push(base[i]);
    }
    [b, t, m] = [i + 1, j + 1, k + 1];
  }
  return found;
}

function region(base, theirs, mine) {
  let kind = "conflict";
  if (same(theirs, mine)) kind = "both";
  else if (same(theirs, base)) kind = "mine";
  else if (same(mine, base)) kind = "theirs";
  return { kind, base, theirs, mine };
}

export function mergeLines(base, theirs, mine) {
  const found = regions(base, theirs, mine);
  return found.some(({ kind }) => kind === "conflict") ? undefined : joined(found, "theirs");
}

/** The merged text, with the lines of one side (`theirs` or `mine`) where both changed the same lines. */
export function mergeLinesTaking(side, base, theirs, mine) {
  return joined(regions(base, theirs, mine), side);
}

function joined(found, side) {
  const sideOf = (kind) => (kind === "mine" ? "mine" : kind === "conflict" ? side : "theirs");
  return found.flatMap((each) => each[sideOf(each.kind)]).join("\n");
}
