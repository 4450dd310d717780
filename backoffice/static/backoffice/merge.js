// Three-way merge in the browser, for previews and for what others save while a page is open.
// The twin of the server's `events/conflicts`: same policies, same answers, held to tests/events/merge_vectors.json.
// The server decides; this only shows early what it will say. Missing is `undefined` here, never null.

/** The record is malformed, or a choice is; `fields` maps a path to what is wrong there. */
export class InvalidMerge extends Error {
  constructor(fields) {
    super(Object.entries(fields).map(([path, message]) => `${path}: ${message}`).join(" "));
    this.fields = fields;
  }
}

const invalid = (path, message) => new InvalidMerge(Object.fromEntries([[path, message]]));

// -- values ------------------------------------------------------------------------------------------------------

const isMap = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isList = Array.isArray;
const isNumber = (value) => typeof value === "number";
const isId = (value) => typeof value === "string" || Number.isInteger(value);
const get = (map, name) => (Object.hasOwn(map, name) ? map[name] : undefined);
// Plain assignment would call the setter of a field named "__proto__".
const put = (map, name, value) =>
  Object.defineProperty(map, name, { value, writable: true, enumerable: true, configurable: true });

/** Deep equality of JSON values. */
export function same(a, b) {
  if (a === b) return true;
  if (isMap(a)) {
    if (!isMap(b)) return false;
    const names = Object.keys(a);
    return names.length === Object.keys(b).length && names.every((n) => Object.hasOwn(b, n) && same(a[n], b[n]));
  }
  return isList(a) && isList(b) && a.length === b.length && a.every((value, i) => same(value, b[i]));
}

const INSTANT =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:[Zz]|([+-])(\d\d):?(\d\d))$/;

/** A comparable form of a time that names an instant; anything else as it is. */
function instant(value) {
  const found = typeof value === "string" ? INSTANT.exec(value) : null;
  if (!found) return value;
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map((part) => Number(part ?? 0));
  const at = new Date(0);
  at.setUTCFullYear(year, month - 1, day);
  at.setUTCHours(hour, minute, second);
  const exists =
    year > 0 && at.getUTCMonth() === month - 1 && at.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!exists) return value;
  const [fraction, sign, hours, minutes] = found.slice(7);
  const offset = (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) * 60;
  return ["instant", at.getTime() / 1000 - (sign === "-" ? -offset : offset), (fraction ?? "").replace(/0+$/, "")];
}

const byCodePoint = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** JSON with sorted names: one spelling for one value. */
function element(value) {
  if (isList(value)) return `[${value.map(element).join(",")}]`;
  if (!isMap(value)) return JSON.stringify(value);
  const names = Object.keys(value).sort(byCodePoint);
  return `{${names.map((name) => `${JSON.stringify(name)}:${element(value[name])}`).join(",")}}`;
}

const keyOf = (value) => (typeof value === "string" ? value : element(value));

// -- paths -------------------------------------------------------------------------------------------------------

const atName = (path, name) => (path ? `${path}.` : "") + name.replace(/[\\.[\]]/g, "\\$&");
const atItem = (path, item) => `${path}[${item.replace(/[\\\]]/g, "\\$&")}]`;

/** A path as its names and ids: `fields[q3].label` is `["fields", "q3", "label"]`. */
export function steps(path) {
  const step = /\[((?:[^\\\]]|\\.)*)\]|\.?((?:[^\\.[\]]|\\.)*)/gsy;
  const found = [];
  while (step.lastIndex < path.length || found.length === 0) {
    const from = step.lastIndex;
    const match = step.exec(path);
    if (!match || step.lastIndex === from) break;
    found.push((match[1] ?? match[2]).replace(/\\(.)/gs, "$1"));
  }
  return found;
}

// -- policies ----------------------------------------------------------------------------------------------------

const CONFLICT = { kind: "conflict" };
const ID_CANDIDATES = ["id", "value", "key", "name"];

const full = (policy) => (typeof policy === "string" ? { kind: policy } : policy);
const idOf = (policy) => policy.id ?? "id";

function policyOf(policy, name) {
  const own = policy.items && get(policy.items, name);
  return full(own ?? policy.default ?? (policy.kind === "object" ? "json" : CONFLICT));
}

function itemPolicy(policy) {
  if (!idOf(policy)) return CONFLICT;
  return { kind: "object", items: policy.items, default: policy.default ?? CONFLICT, groups: policy.groups };
}

const FITS = {
  object: isMap,
  keyed_list: isList,
  set: isList,
  text: (value) => typeof value === "string",
  counter: isNumber,
};

/** The policy that fits these values: json and options by structure; a misfit is compared as one value. */
function concrete(policy, ...candidates) {
  const present = candidates.filter((value) => value !== undefined);
  if (policy.kind === "json" || policy.kind === "options") return byStructure(policy, present);
  return present.every(FITS[policy.kind] ?? (() => true)) ? policy : CONFLICT;
}

function byStructure(policy, present) {
  if (present.every(isMap)) return { kind: "object" };
  if (!present.every(isList)) return CONFLICT;
  const isScalar = (item) => typeof item === "string" || (policy.kind === "options" && isNumber(item));
  if (present.every((each) => each.every(isScalar))) {
    return present.every((each) => distinct(each.map(keyOf))) ? { kind: "keyed_list", id: "" } : CONFLICT;
  }
  const id = ID_CANDIDATES.find((name) => present.every((each) => keyedBy(name, each)));
  return id ? { kind: "keyed_list", id, default: "json" } : CONFLICT;
}

const distinct = (keys) => new Set(keys).size === keys.length;
const keyedBy = (name, items) =>
  items.every((item) => isMap(item) && isId(get(item, name))) && distinct(items.map((item) => keyOf(item[name])));

// -- order -------------------------------------------------------------------------------------------------------

/** Indices of one longest increasing subsequence (patience sorting; the same choice every time). */
function longestIncreasing(numbers) {
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

/** The fewest items that have to move to get from one order to the other, in the new order. */
function moved(before, after) {
  const place = new Map(before.map((item, index) => [item, index]));
  const common = after.filter((item) => place.has(item));
  const numbers = common.map((item) => place.get(item));
  const stayed = new Set(longestIncreasing(numbers).map((index) => common[index]));
  return common.filter((item) => !stayed.has(item));
}

const equalOrder = (a, b) => a.length === b.length && a.every((item, i) => item === b[i]);

/** Merge two orders of the items in `kept` (a Set): the order, and the items whose places contradict. */
function mergeOrder(base, theirs, mine, kept, preferred) {
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
  order = insert(order, anchors(theirs, kept, shared, movedByMe), anchors(mine, only, shared, movedByThem));
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

/** Merge sort where x precedes y when it does in two of three orders: not transitive, so `sort` would not do. */
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

/** By place on the path: the first place of an item that this one precedes in two of three orders. */
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

/** The items only one side has, by where they go: after an item, or before one; undefined is the list's edge. */
function anchors(side, kept, shared, movedThere) {
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

function insert(order, theirs, mine) {
  const at = (where, item) => [...(theirs[where].get(item) ?? []), ...(mine[where].get(item) ?? [])];
  const inner = order.flatMap((item) => [...at("before", item), item, ...at("after", item)]);
  return [...at("after", undefined), ...inner, ...at("before", undefined)];
}

// -- text by lines -----------------------------------------------------------------------------------------------

const splitLines = (text) => text.replaceAll("\r\n", "\n").split("\n");

// How often the regions between matching lines are divided again: as on the server, so that both merge alike.
const MAX_ROUNDS = 32;

/** Lines that stayed (patience diff): common ends, then lines that occur once on both sides, in order. */
function matches(a, b) {
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

/** diff3: `[{kind: same|theirs|mine|both|conflict, base, theirs, mine}]`, each with its lines; to show text side by side. */
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

function mergeLines(base, theirs, mine) {
  const found = regions(base, theirs, mine);
  if (found.some(({ kind }) => kind === "conflict")) return undefined;
  return found.flatMap((each) => (each.kind === "mine" ? each.mine : each.theirs)).join("\n");
}

// -- what differs ------------------------------------------------------------------------------------------------

/** Every difference between two full records: `[{path, kind: added|removed|changed|moved, before?, after?}]`. */
export function diff(before, after, policies) {
  return diffObjects({ kind: "object", items: policies, default: CONFLICT }, before, after, "", false);
}

function between(policy, before, after, path, strict = false) {
  if (same(before, after)) return [];
  const shape = concrete(policy, before, after);
  if (before === undefined || after === undefined) {
    if (strict && shape.kind === "keyed_list") indexed(shape, before ?? after, path);
    return before === undefined ? [{ path, kind: "added", after }] : [{ path, kind: "removed", before }];
  }
  if (shape.kind === "object") return diffObjects(shape, before, after, path, strict);
  if (shape.kind === "keyed_list") {
    try {
      return diffLists(shape, before, after, path, strict);
    } catch (error) {
      if (strict || !(error instanceof InvalidMerge)) throw error;
    }
  }
  const alike = same(comparable(shape, before), comparable(shape, after));
  return alike ? [] : [{ path, kind: "changed", before, after }];
}

function diffObjects(policy, before, after, path, strict) {
  return names(Object.keys(before), Object.keys(after)).flatMap((name) =>
    between(policyOf(policy, name), get(before, name), get(after, name), atName(path, name), strict),
  );
}

function diffLists(policy, before, after, path, strict) {
  const [old, now] = [indexed(policy, before, path), indexed(policy, after, path)];
  const each = itemPolicy(policy);
  const found = names(old.keys(), now.keys()).flatMap((key) =>
    between(each, old.get(key), now.get(key), atItem(path, key), strict),
  );
  if (policy.ordered === false) return found;
  const [was, is] = [[...old.keys()], [...now.keys()]];
  for (const key of moved(was, is)) {
    found.push({ path: atItem(path, key), kind: "moved", before: was.indexOf(key), after: is.indexOf(key) });
  }
  return found;
}

/** The items of a keyed list by id; refuses an id that is missing or there twice. */
function indexed(policy, items, path) {
  const found = new Map();
  items.forEach((item, place) => {
    const id = idOf(policy);
    const identity = !id ? item : isMap(item) ? get(item, id) : undefined;
    if (id && !isId(identity)) throw invalid(path, `Item ${place + 1} has no "${id}".`);
    const key = keyOf(identity);
    if (found.has(key)) throw invalid(path, `The id "${key}" is there twice.`);
    found.set(key, item);
  });
  return found;
}

const names = (...each) => [...new Set(each.flatMap((known) => [...known]))];

function comparable(policy, value) {
  if (policy.compare === "instant") return instant(value);
  if (policy.kind === "text") return value.replaceAll("\r\n", "\n");
  if (policy.kind === "set") return [...new Set(value.map(element))].sort(byCodePoint);
  return value;
}

// -- the merge ---------------------------------------------------------------------------------------------------

/**
 * Merge what `mine` changed since `base` into `theirs`.
 *
 * policies  field -> policy in JSON form, as the server hands them out
 * options   {groups: [[field, …]], checks: [{kind: unique|references|acyclic, …}]}
 * returns   {values, changed, conflicts: [{path, kind, base?, theirs?, mine?, fields?, code?, also?}], notes}
 */
export function merge(base, theirs, mine, policies, options = {}) {
  const inputs = inputsOf(base, theirs, mine, policies, options);
  const walk = new Walk(new Map());
  const values = walk.run(inputs);
  walk.conflicts.push(...failed(inputs, values));
  return { values, changed: changedFields(theirs, values), conflicts: walk.conflicts, notes: walk.notes };
}

function inputsOf(base, theirs, mine, policies, { groups = [], checks = [] }) {
  const unique = Object.entries(policies)
    .filter(([, policy]) => policy.unique)
    .map(([list, policy]) => ({ kind: "unique", list, property: policy.unique, id: idOf(policy) }));
  const filled = { ...base };
  for (const [name, value] of Object.entries(mine)) if (value !== undefined) put(filled, name, value);
  const record = { kind: "object", items: policies, default: CONFLICT, groups };
  return { base, theirs, mine: filled, record, checks: [...unique, ...checks] };
}

/** The fields of a merged or resolved record that differ from theirs: what is to be applied. */
export function changedFields(theirs, values) {
  const changed = {};
  for (const [name, value] of Object.entries(values)) if (!same(value, get(theirs, name))) put(changed, name, value);
  return changed;
}

class Walk {
  constructor(choices) {
    this.choices = choices;
    this.conflicts = [];
    this.notes = [];
    this.used = new Set();
  }

  run({ record, base, theirs, mine }) {
    return this.objects(record, base, theirs, mine, "");
  }

  value(policy, b, t, m, path) {
    if (policy.kind === "server_only") return this.serverOnly(policy, b, t, m, path);
    if (same(m, b)) return this.take(t, between(policy, b, t, path), "theirs");
    const shape = concrete(policy, b, t, m);
    const nested = shape.kind === "object" || shape.kind === "keyed_list";
    if (nested && t !== undefined && m !== undefined && !same(t, b)) return this.both(shape, b, t, m, path);
    const mine = between(policy, b, m, path, true);
    if (!mine.length) return this.take(t, between(policy, b, t, path), "theirs");
    const theirs = between(policy, b, t, path, true);
    if (!theirs.length) return this.take(m, mine, "mine");
    if (shape.kind !== "counter" && !between(policy, t, m, path).length) return this.take(t, theirs, "both");
    return this.both(shape, b, t, m, path);
  }

  both(shape, b, t, m, path) {
    if (shape.kind === "last_write") return this.note(m, path, "mine", "overwrote");
    if (t === undefined || m === undefined) {
      return this.decide(path, m === undefined ? "deleted_here" : "deleted_there", b, t, m);
    }
    switch (shape.kind) {
      case "counter":
        return this.note(t + (m - (b ?? 0)), path, "both", "combined");
      case "set":
        return this.note(mergeSets(b ?? [], t, m), path, "both", "combined");
      case "text":
        return b === undefined ? this.decide(path, "both_changed", b, t, m) : this.text(b, t, m, path);
      case "object":
        return this.objects(shape, b ?? {}, t, m, path);
      case "keyed_list":
        return this.keyedList(shape, b ?? [], t, m, path);
      case "state_machine":
        if ((get(shape.transitions ?? {}, t) ?? []).includes(m)) return this.note(m, path, "mine", "changed");
        return this.decide(path, "illegal_transition", b, t, m);
      default:
        return this.decide(path, "both_changed", b, t, m);
    }
  }

  serverOnly(policy, b, t, m, path) {
    if (between(policy, b, m, path).length && between(policy, t, m, path).length) this.note(t, path, "mine", "ignored");
    return this.take(t, between(policy, b, t, path), "theirs");
  }

  text(b, t, m, path) {
    const merged = mergeLines(b, t, m);
    if (merged === undefined) return this.decide(path, "both_changed", b, t, m);
    return this.note(merged, path, "both", "combined");
  }

  objects(policy, b, t, m, path) {
    const grouped = new Map((policy.groups ?? []).flatMap((group) => group.map((name) => [name, group])));
    const decided = new Map();
    const result = {};
    for (const name of names(Object.keys(t), Object.keys(m), Object.keys(b))) {
      const group = grouped.get(name);
      if (group && !decided.has(name)) this.group(policy, group, b, t, m, path).forEach((v, n) => decided.set(n, v));
      const value = group
        ? decided.get(name)
        : this.value(policyOf(policy, name), get(b, name), get(t, name), get(m, name), atName(path, name));
      if (value !== undefined) put(result, name, value);
    }
    return result;
  }

  /** All fields of a group from one side, or a conflict about all of them. */
  group(policy, group, b, t, m, path) {
    const changes = (x, y) =>
      group.flatMap((name) => between(policyOf(policy, name), get(x, name), get(y, name), atName(path, name), true));
    const all = (side) => new Map(group.map((name) => [name, get(side, name)]));
    const [mine, theirs] = [changes(b, m), changes(b, t)];
    if (!mine.length) return this.take(all(t), theirs, "theirs");
    if (!theirs.length) return this.take(all(m), mine, "mine");
    if (!changes(t, m).length) return this.take(all(t), theirs, "both");
    const present = (side) => Object.fromEntries([...all(side)].filter(([, value]) => value !== undefined));
    const at = atName(path, group.join("+"));
    const chosen = this.decide(at, "group", present(b), present(t), present(m), group);
    if (!isMap(chosen) || !Object.keys(chosen).every((name) => group.includes(name))) {
      throw invalid(at, `Choose values for ${group.join(", ")}.`);
    }
    return all(chosen);
  }

  keyedList(policy, b, t, m, path) {
    const [base, theirs, mine] = [b, t, m].map((side) => indexed(policy, side, path));
    const each = itemPolicy(policy);
    const kept = new Map();
    for (const key of names(theirs.keys(), mine.keys(), base.keys())) {
      const at = atItem(path, key);
      const item = this.value(each, base.get(key), theirs.get(key), mine.get(key), at);
      if (item === undefined) continue;
      kept.set(key, item);
      if (this.used.has(at) && !indexed(policy, [item], at).has(key)) throw invalid(at, "The id of an item cannot change.");
    }
    const orders = [base, theirs, mine].map((items) => [...items.keys()]);
    return this.order(policy, ...orders, new Set(kept.keys()), path).map((key) => kept.get(key));
  }

  order(policy, b, t, m, kept, path) {
    if (policy.ordered === false) return names(t, m).filter((key) => kept.has(key));
    let [order, contested] = mergeOrder(b, t, m, kept);
    if (contested.length) {
      const chosen = this.decide(path, "order", b, t, m, contested);
      const named = new Set(isList(chosen) ? chosen : []);
      if (!contested.every((key) => named.has(key))) {
        throw invalid(path, `Choose an order of ${contested.join(", ")}.`);
      }
      [order] = mergeOrder(b, t, m, kept, chosen);
    }
    const [theirs, mine] = [new Set(moved(b, t)), new Set(moved(b, m))];
    for (const key of names(theirs, mine)) {
      if (!kept.has(key)) continue;
      const origin = !mine.has(key) ? "theirs" : !theirs.has(key) ? "mine" : "both";
      this.note(undefined, atItem(path, key), origin, "moved");
    }
    return order;
  }

  decide(path, kind, base, theirs, mine, fields) {
    const choice = this.choices.get(path);
    if (!choice) {
      this.conflicts.push(tidy({ path, kind, base, theirs, mine, fields }));
      return theirs;
    }
    this.used.add(path);
    return chosenValue(choice, theirs, mine);
  }

  take(value, changes, origin) {
    for (const { path, kind } of changes) this.notes.push({ path, origin, kind });
    return value;
  }

  note(value, path, origin, kind) {
    this.notes.push({ path, origin, kind });
    return value;
  }
}

const tidy = (conflict) => Object.fromEntries(Object.entries(conflict).filter(([, value]) => value !== undefined));

const chosenValue = (choice, theirs, mine) =>
  "value" in choice ? choice.value : choice.take === "theirs" ? theirs : mine;

function mergeSets(base, theirs, mine) {
  const [known, their, my] = [base, theirs, mine].map((side) => new Map(side.map((item) => [element(item), item])));
  const kept = [...their].filter(([key]) => my.has(key) || !known.has(key));
  const added = [...my].filter(([key]) => !known.has(key) && !their.has(key));
  return [...kept, ...added].map(([, item]) => item);
}

// -- rules over the merged record ----------------------------------------------------------------------------------

const RULES = {
  *unique({ list, property, id = "id" }, record) {
    const seen = new Set();
    for (const [item, path] of itemsOf(record, list, id)) {
      const value = get(item, property) ?? "";
      if (value === "") continue;
      const key = element(value);
      if (seen.has(key)) yield { path: atName(path, property), kind: "check", code: "duplicate" };
      seen.add(key);
    }
  },

  *references({ list, key, id = "id" }, record) {
    const items = [...itemsOf(record, list, id)];
    const known = new Set(items.map(([item]) => keyOf(item[id])));
    for (const [item, path] of items) {
      const missing = new Map();
      for (const [place, target] of named(item, path, key)) {
        if (!known.has(target)) missing.set(place, (missing.get(place) ?? new Set()).add(target));
      }
      for (const [place, targets] of missing) {
        const also = [...targets].map((target) => atItem(atName("", list), target));
        yield { path: place, kind: "check", code: "dangling", fields: [...targets], also };
      }
    }
  },

  *acyclic({ list, parent = "parent", id = "id" }, record) {
    const places = new Map([...itemsOf(record, list, id)].map(([item, path]) => [keyOf(item[id]), { item, path }]));
    const done = new Set();
    const at = (key) => atName(places.get(key).path, parent);
    for (const key of places.keys()) {
      const trail = new Set();
      let here = key;
      while (here !== undefined && places.has(here) && !done.has(here) && !trail.has(here)) {
        trail.add(here);
        const above = get(places.get(here).item, parent);
        here = isId(above) ? keyOf(above) : undefined;
      }
      if (trail.has(here)) {
        const circle = [...trail].slice([...trail].indexOf(here));
        yield { path: at(here), kind: "check", code: "cycle", fields: circle, also: circle.slice(1).map(at) };
      }
      trail.forEach((each) => done.add(each));
    }
  },
};

function* itemsOf(record, list, id) {
  const items = get(record, list);
  for (const item of isList(items) ? items : []) {
    if (isMap(item) && isId(get(item, id))) yield [item, atItem(atName("", list), keyOf(item[id]))];
  }
}

function* named(value, path, key) {
  if (!isMap(value)) return;
  for (const [name, inside] of Object.entries(value)) {
    const at = atName(path, name);
    if (name === key) {
      for (const target of isList(inside) ? inside : [inside]) if (isId(target) && target !== "") yield [at, keyOf(target)];
    } else if (isList(inside)) {
      for (const each of inside) for (const [, target] of named(each, at, key)) yield [at, target];
    } else {
      yield* named(inside, at, key);
    }
  }
}

/** What the rules find wrong in the merged record and not in theirs, with the three versions of each place. */
function failed(inputs, merged) {
  const { base, theirs, mine, record, checks } = inputs;
  if (!checks.length || same(merged, theirs)) return [];
  const run = (version) => checks.flatMap((rule) => [...RULES[rule.kind](rule, version)]);
  const mark = ({ path, code }) => `${code} ${path}`;
  const seen = new Set(run(theirs).map(mark));
  const indexes = new Map();
  return run(merged).flatMap((problem) => {
    if (seen.has(mark(problem))) return [];
    seen.add(mark(problem));
    const [b, t, m] = [base, theirs, mine].map((version) => lookup(record, version, steps(problem.path), indexes));
    return [tidy({ ...problem, base: b, theirs: t, mine: m })];
  });
}

// -- a person decides ----------------------------------------------------------------------------------------------

const WRONG = {
  duplicate: "Another item has the same value.",
  dangling: "This names an item that is not there.",
  cycle: "These items contain each other.",
};

/**
 * The full record after a person's choices: path -> "theirs" | "mine" | {value}. Arguments as for `merge`.
 * Throws InvalidMerge naming each path without choice, unknown, or still wrong.
 */
export function resolve(base, theirs, mine, policies, options, choices) {
  const inputs = inputsOf(base, theirs, mine, policies, options);
  const decided = new Map(Object.entries(choices).map(([path, choice]) => [path, normalChoice(path, choice)]));
  const walk = new Walk(decided);
  let merged = walk.run(inputs);
  refuse(walk.conflicts.map(({ path }) => [path, "Choose theirs, mine or a value."]));
  for (const { path, also = [] } of failed(inputs, merged)) {
    for (const place of [path, ...also]) {
      if (!decided.has(place) || walk.used.has(place)) continue;
      merged = mend(inputs, merged, place, decided.get(place));
      walk.used.add(place);
    }
  }
  refuse([...decided.keys()].filter((path) => !walk.used.has(path)).map((path) => [path, "There is no conflict here."]));
  refuse(failed(inputs, merged).map(({ path, code }) => [path, WRONG[code]]));
  return merged;
}

function normalChoice(path, choice) {
  if (choice === "theirs" || choice === "mine") return { take: choice };
  if (isMap(choice) && equalOrder(Object.keys(choice), ["value"])) return choice;
  throw invalid(path, 'Choose "theirs", "mine" or {value}.');
}

function refuse(problems) {
  if (problems.length) throw new InvalidMerge(Object.fromEntries(problems));
}

function mend({ record, theirs, mine }, merged, path, choice) {
  const where = steps(path);
  const value = chosenValue(choice, lookup(record, theirs, where), lookup(record, mine, where));
  return putAt(record, merged, where, value, choice.take === "theirs" ? theirs : mine);
}

function shapeOf(policy, value) {
  const shape = concrete(policy, value);
  return shape.kind === "object" || shape.kind === "keyed_list" ? shape : concrete({ kind: "options" }, value);
}

const identity = (shape, item) => (idOf(shape) && isMap(item) ? get(item, idOf(shape)) : item);
const placeOf = (shape, items, step) => items.findIndex((item) => keyOf(identity(shape, item) ?? null) === step);

function placeIn(shape, items, step, indexes) {
  if (!indexes) return placeOf(shape, items, step);
  if (!indexes.has(items)) {
    const places = new Map();
    items.forEach((item, place) => {
      const key = keyOf(identity(shape, item) ?? null);
      if (!places.has(key)) places.set(key, place);
    });
    indexes.set(items, places);
  }
  return indexes.get(items).get(step) ?? -1;
}

/** With `indexes` (a Map kept as long as the record) many lookups in one list cost one pass over it. */
function lookup(policy, value, path, indexes) {
  for (const step of path) {
    const shape = shapeOf(policy, value);
    if (isMap(value)) [policy, value] = [policyOf(shape, step), get(value, step)];
    else if (isList(value)) [policy, value] = [itemPolicy(shape), value[placeIn(shape, value, step, indexes)]];
    else return undefined;
  }
  return value;
}

/** A copy of the record with the value at a place; undefined removes it. */
function putAt(policy, record, path, value, like) {
  if (!path.length) return value;
  const [step, ...rest] = path;
  const shape = shapeOf(policy, record);
  if (isList(record)) return putItem(shape, record, step, rest, value, isList(like) ? like : []);
  if (!isMap(record)) throw invalid(step, "There is no such place in the record.");
  const inside = putAt(policyOf(shape, step), get(record, step), rest, value, isMap(like) ? get(like, step) : undefined);
  const copy = { ...record };
  if (inside === undefined) delete copy[step];
  else put(copy, step, inside);
  return copy;
}

function putItem(shape, items, step, rest, value, like) {
  const place = placeOf(shape, items, step);
  const there = placeOf(shape, like, step);
  if (place >= 0) {
    const item = putAt(itemPolicy(shape), items[place], rest, value, like[there]);
    return items.toSpliced(place, 1, ...(item === undefined ? [] : [item]));
  }
  if (rest.length) throw invalid(step, "There is no such place in the record.");
  const before = new Set(like.slice(0, Math.max(there, 0)).map((item) => keyOf(identity(shape, item) ?? null)));
  const last = items.findLastIndex((item) => before.has(keyOf(identity(shape, item) ?? null)));
  return items.toSpliced(last + 1, 0, ...(value === undefined ? [] : [value]));
}
