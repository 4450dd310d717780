// Three-way merge of orders.

/** Indices of one longest increasing subsequence (patience sorting; the same choice every time). */
export function longestIncreasing(numbers) {
  const tails = [];
  const ends = [];
  const previous = [];
  numbers.forEach((number, index) => {
    let pile = 0;
    for (let high = tails.length; pile < high; ) {
      const middle = (pile + high) >> 1;
      if (tails[middle] < number) pile = middle + 1;
      else high = middle;
    }
    previous.push(pile ? ends[pile - 1] : -1);
    tails[pile] = number;
    ends[pile] = index;
  });
  const found = [];
  for (let index = ends.at(-1) ?? -1; index >= 0; index = previous[index]) found.push(index);
  return found.reverse();
}

/** Returns the smallest set of items whose move turns one order into the other, in the new order. */
export function moved(before, after) {
  const place = new Map(before.map((item, index) => [item, index]));
  const common = after.filter((item) => place.has(item));
  const numbers = common.map((item) => place.get(item));
  const stayed = new Set(longestIncreasing(numbers).map((index) => common[index]));
  return common.filter((item) => !stayed.has(item));
}

export const equalOrder = (a, b) => a.length === b.length && a.every((item, i) => item === b[i]);

/** Merges two orders of the items in `kept` (a Set); returns the order, and the items with contradicting positions. */
export function mergeOrder(base, theirs, mine, kept, preferred) {
  const inTheirs = new Set(theirs);
  const inMine = new Set(mine);
  const shared = new Set(base.filter((item) => kept.has(item) && inTheirs.has(item) && inMine.has(item)));
  const [b, t, m] = [base, theirs, mine].map((order) => order.filter((item) => shared.has(item)));
  let contested = [];
  let order = t;
  if (!equalOrder(m, t) && !equalOrder(m, b)) {
    if (equalOrder(t, b)) order = m;
    else [order, contested] = mergePairs(b, t, m, preferred ?? t);
  }
  const [movedByThem, movedByMe] = [new Set(moved(b, t)), new Set(moved(b, m))];
  const only = new Set([...kept].filter((item) => !inTheirs.has(item)));
  order = insertAll(order, insertions(theirs, kept, shared, movedByMe), insertions(mine, only, shared, movedByThem));
  const twice = contested.filter((item) => movedByThem.has(item) && movedByMe.has(item));
  return [order, twice.length ? twice : contested];
}

/**
 * Pairs decided one by one form a tournament; a run of items that beat each other in a circle contradicts. O(n log n):
 * a path through all items, and for each the first place on it that it precedes as well (see `_merge_pairs` in Python).
 */
function mergePairs(base, theirs, mine, preferred) {
  const place = (order) => new Map(order.map((item, index) => [item, index]));
  const ranks = [theirs, mine, base.toReversed()].map(place);
  const path = sortedByPairs(theirs, ranks);
  const reaches = reachesOf(path, ranks);
  const preferredPlace = place(preferred);
  const theirPlace = ranks[0];
  const circles = [];
  let end = path.length;
  let first = end;
  for (let at = path.length - 1; at >= 0; at--) {
    first = Math.min(first, reaches[at]);
    if (first < at) continue;
    circles.push(path.slice(at, end));
    end = first = at;
  }
  const order = [];
  const contested = [];
  for (const circle of circles.reverse()) {
    const placeOfPreference = (item) => preferredPlace.get(item) ?? preferredPlace.size;
    circle.sort((x, y) => placeOfPreference(x) - placeOfPreference(y) || theirPlace.get(x) - theirPlace.get(y));
    for (const item of circle) order.push(item);
    if (circle.length > 1) for (const item of circle) contested.push(item);
  }
  return [order, contested];
}

/** Merge sort where x precedes y if it does in two of three orders: not transitive, so `sort` cannot be used. */
function sortedByPairs(items, [a, b, c]) {
  const precedes = (x, y) => (a.get(x) < a.get(y)) + (b.get(x) < b.get(y)) + (c.get(x) < c.get(y)) >= 2;
  const merged = (left, right) => {
    const result = [];
    let [i, j] = [0, 0];
    while (i < left.length && j < right.length) result.push(precedes(left[i], right[j]) ? left[i++] : right[j++]);
    return result.concat(left.slice(i), right.slice(j));
  };
  let runs = items.map((item) => [item]);
  while (runs.length > 1) {
    const longer = [];
    for (let i = 0; i < runs.length; i += 2) longer.push(i + 1 < runs.length ? merged(runs[i], runs[i + 1]) : runs[i]);
    runs = longer;
  }
  return runs[0] ?? [];
}

/** Returns, by position on the path, the first position of an item that this one precedes in two of three orders. */
function reachesOf(path, [a, b, c]) {
  const size = path.length;
  const first = new Array(size).fill(size);
  for (const [one, other] of [[a, b], [a, c], [b, c]]) {
    const places = new Array(size);
    path.forEach((item, index) => (places[one.get(item)] = index));
    const tree = new Array(size + 1).fill(size);
    for (const place of places.reverse()) {
      let index = size - other.get(path[place]);
      for (let at = index - 1; at > 0; at -= at & -at) first[place] = Math.min(first[place], tree[at]);
      for (; index <= size; index += index & -index) tree[index] = Math.min(tree[index], place);
    }
  }
  return first;
}

/** Returns the items of only one side by position: after an item, or before one; undefined is the edge of the list. */
function insertions(side, kept, shared, movedThere) {
  const found = { after: new Map(), before: new Map() };
  let run = [];
  let last;
  for (const item of [...side, undefined]) {
    if (item === undefined || shared.has(item)) {
      if (run.length) {
        const follow = !movedThere.has(last) || movedThere.has(item);
        const [where, anchor] = follow ? [found.after, last] : [found.before, item];
        where.set(anchor, (where.get(anchor) ?? []).concat(run));
      }
      [last, run] = [item, []];
    } else if (kept.has(item)) {
      run.push(item);
    }
  }
  return found;
}

function insertAll(order, theirs, mine) {
  const at = (where, item) => [...(theirs[where].get(item) ?? []), ...(mine[where].get(item) ?? [])];
  const inner = order.flatMap((item) => [...at("before", item), item, ...at("after", item)]);
  return [...at("after", undefined), ...inner, ...at("before", undefined)];
}
