// Differences between two records, by policy.

import { moved } from "./order.js";
import { atItem, atName } from "./paths.js";
import { concrete, CONFLICT, idOf, itemPolicy, policyOf } from "./policies.js";
import {
  byCodePoint,
  canonicalJson,
  get,
  instant,
  invalid,
  InvalidMerge,
  isId,
  isMap,
  keyOf,
  names,
  same,
} from "./values.js";

/** Every difference between two full records: `[{path, kind: added|removed|changed|moved, before?, after?}]`. */
export function diff(before, after, policies) {
  return diffObjects({ kind: "object", items: policies, default: CONFLICT }, before, after, "", false);
}

export function between(policy, before, after, path, strict = false) {
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

/** Returns the items of a keyed list by id; rejects missing and repeated ids. */
export function indexed(policy, items, path) {
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

function comparable(policy, value) {
  if (policy.compare === "instant") return instant(value);
  if (policy.kind === "text") return value.replaceAll("\r\n", "\n");
  if (policy.kind === "set") return [...new Set(value.map(canonicalJson))].sort(byCodePoint);
  return value;
}
