// Merge policies in the JSON form that the server sends, and the concrete policy for given values.

import { get, isId, isList, isMap, isNumber, keyOf } from "./values.js";

export const CONFLICT = { kind: "conflict" };
const ID_CANDIDATES = ["id", "value", "key", "name"];
const full = (policy) => (typeof policy === "string" ? { kind: policy } : policy);
export const idOf = (policy) => policy.id ?? "id";

export function policyOf(policy, name) {
  const own = policy.items && get(policy.items, name);
  return full(own ?? policy.default ?? (policy.kind === "object" ? "json" : CONFLICT));
}

export function itemPolicy(policy) {
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

/** Returns the policy that fits these values: json and options by structure; other values are compared as a whole. */
export function concrete(policy, ...candidates) {
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
