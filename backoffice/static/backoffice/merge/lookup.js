// Reading and replacing the value at a path, by the shape of the record.

import { concrete, idOf, itemPolicy, policyOf } from "./policies.js";
import { get, invalid, isList, isMap, keyOf, put } from "./values.js";

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
export function lookup(policy, value, path, indexes) {
  for (const step of path) {
    const shape = shapeOf(policy, value);
    if (isMap(value)) [policy, value] = [policyOf(shape, step), get(value, step)];
    else if (isList(value)) [policy, value] = [itemPolicy(shape), value[placeIn(shape, value, step, indexes)]];
    else return undefined;
  }
  return value;
}

/** A copy of the record with the value at a place; undefined removes it. */
export function putAt(policy, record, path, value, like) {
  if (!path.length) return value;
  const [step, ...rest] = path;
  const shape = shapeOf(policy, record);
  if (isList(record)) return putItem(shape, record, step, rest, value, isList(like) ? like : []);
  if (!isMap(record)) throw invalid(step, "There is no such place in the record.");
  const likeInside = isMap(like) ? get(like, step) : undefined;
  const inside = putAt(policyOf(shape, step), get(record, step), rest, value, likeInside);
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
