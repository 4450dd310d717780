/** The replacements that turn one text into another, and where they move a position. Pure functions. */
import { matches } from "./merge/text.js";

/** Returns `[{at, removed, inserted}]` from the start to the end of `before`, as small as words allow. */
export function replacements(before, after) {
  if (before === after) return [];
  const [a, b] = [before, after].map((text) => text.match(/\n|[^\S\n]+|\S+/g) ?? []);
  const same = [...matches(a, b)].sort(([i], [j]) => i - j);
  const found = [];
  let [i, j, from] = [0, 0, 0]; // next token of each side; position of the first in `before`
  for (const [k, n] of [...same, [a.length, b.length]]) {
    const [removed, inserted] = [a.slice(i, k).join(""), b.slice(j, n).join("")];
    if (removed || inserted) found.push(trimmed(from, removed, inserted));
    from += removed.length + (a[k] ?? "").length;
    [i, j] = [k + 1, n + 1];
  }
  return found;
}

/** The replacement by which typing turned `before` into `after`, which left the caret behind it; null if equal. The
 *  caret decides which of two equal letters is new. */
export function typedReplacement(before, after, caret) {
  return before === after ? null : trimmed(0, before, after, after.length - caret);
}

/** Leaves out equal ends: at most `tail` units at the end, then at the start. */
function trimmed(at, removed, inserted, tail = Infinity) {
  const shorter = Math.min(removed.length, inserted.length);
  let end = 0;
  while (end < Math.min(shorter, tail) && removed.at(-1 - end) === inserted.at(-1 - end)) end += 1;
  if (end && isLowSurrogate(removed.at(-end))) end -= 1; // never divides a character
  let start = 0;
  while (start < shorter - end && removed[start] === inserted[start]) start += 1;
  if (start && isHighSurrogate(removed[start - 1])) start -= 1;
  const inner = (text) => text.slice(start, text.length - end);
  return { at: at + start, removed: inner(removed), inserted: inner(inserted) };
}

const isHighSurrogate = (unit) => unit >= "\ud800" && unit <= "\udbff";
const isLowSurrogate = (unit) => unit >= "\udc00" && unit <= "\udfff";

/** The position after a replacement: text inserted exactly there goes behind it. */
export function moved(position, { at, removed, inserted }) {
  if (position <= at) return position;
  if (position >= at + removed.length) return position + inserted.length - removed.length;
  return at + Math.min(position - at, inserted.length);
}
