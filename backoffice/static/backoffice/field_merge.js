import { losesNumbers, seenOf, valueOf } from "./inputs.js";
import { merge, mergeLinesTaking, resolve } from "./merge.js";

/** Merges unsaved typing as the server will: questions one by one, long texts by line. Returns the text to show, and
 *  undefined if that needs a decision.
 *
 *  theirs  the value of the server        rules   {policies, checks} of the record */
export function mergedValue(field, theirs, rules) {
  const merged = mergeOf(field, theirs, rules);
  return merged && !merged.conflicts.length ? textOf(field, merged.values[field.name]) : undefined;
}

/** The text when its author keeps their side of each conflict: it contains the other changes of the others.
 *  Undefined if the sides cannot be merged here. */
export function valueKeepingMine(field, theirs, rules) {
  const { policies = {}, checks } = rules;
  if (!(field.name in policies)) return valueOf(field);
  const sides = [seenOf(field), String(theirs ?? ""), valueOf(field)];
  if (field.dataset.kind !== "json") return mergeLinesTaking("mine", ...sides);
  const found = mergeOf(field, theirs, rules);
  if (!found) return undefined;
  try {
    const paths = found.conflicts.flatMap(({ path, also = [] }) => [path, ...also]);
    const choices = Object.fromEntries(paths.map((path) => [path, "mine"]));
    const records = sides.map((text) => ({ [field.name]: JSON.parse(text) }));
    return textOf(field, resolve(...records, policies, { checks }, choices)[field.name]);
  } catch {
    return undefined; // their change and this one break a rule together
  }
}

/** The merge of one field, or null without a policy or with JSON that is invalid or loses digits. */
export function mergeOf(field, theirs, { policies = {}, checks }) {
  const sides = [seenOf(field), String(theirs ?? ""), valueOf(field)];
  const json = field.dataset.kind === "json";
  if (!(field.name in policies) || (json && sides.some(losesNumbers))) return null;
  try {
    const records = sides.map((text) => ({ [field.name]: json ? JSON.parse(text) : text.replaceAll("\r\n", "\n") }));
    return merge(...records, policies, { checks });
  } catch {
    return null; // half-typed JSON
  }
}

function textOf(field, value) {
  return field.dataset.kind === "json" ? JSON.stringify(value, null, 2) : value;
}
