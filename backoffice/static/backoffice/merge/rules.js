// Rules over the merged record: unique values, references, cycles.

import { lookup } from "./lookup.js";
import { atItem, atName, steps } from "./paths.js";
import { canonicalJson, get, isId, isList, isMap, keyOf, same, tidy } from "./values.js";

const RULES = {
  *unique({ list, property, id = "id" }, record) {
    const seen = new Set();
    for (const [item, path] of itemsOf(record, list, id)) {
      const value = get(item, property) ?? "";
      if (value === "") continue;
      const key = canonicalJson(value);
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
      for (const target of isList(inside) ? inside : [inside]) {
        if (isId(target) && target !== "") yield [at, keyOf(target)];
      }
    } else if (isList(inside)) {
      for (const each of inside) for (const [, target] of named(each, at, key)) yield [at, target];
    } else {
      yield* named(inside, at, key);
    }
  }
}

/** Violations in the merged record that theirs does not have, each with the three versions of its place. */
export function ruleViolations(inputs, merged) {
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
