// Three-way merge in the browser, for previews and for changes that others save while a page is open.
// The counterpart of the server's `events/conflicts`: same policies and results, as tests/events/merge_vectors.json tests.
// The server decides; this predicts its result. A missing value is `undefined` here, never null.
// The parts are in merge/; this module is the entry point.

import { inputsOf, RecordMerge } from "./merge/record_merge.js";
import { ruleViolations } from "./merge/rules.js";
import { get, put, same } from "./merge/values.js";

export { diff } from "./merge/diff.js";
export { steps } from "./merge/paths.js";
export { resolve } from "./merge/resolve.js";
export { mergeLinesTaking, regions } from "./merge/text.js";
export { InvalidMerge, same } from "./merge/values.js";

/**
 * Merges the changes of `mine` since `base` into `theirs`.
 *
 * policies  field -> policy in JSON form, as the server sends them
 * options   {groups: [[field, …]], checks: [{kind: unique|references|acyclic, …}]}
 * returns   {values, changed, conflicts: [{path, kind, base?, theirs?, mine?, fields?, code?, also?}], notes}
 */
export function merge(base, theirs, mine, policies, options = {}) {
  const inputs = inputsOf(base, theirs, mine, policies, options);
  const merging = new RecordMerge(new Map());
  const values = merging.run(inputs);
  merging.conflicts.push(...ruleViolations(inputs, values));
  return { values, changed: changedFields(theirs, values), conflicts: merging.conflicts, notes: merging.notes };
}

/** Returns the fields of a merged or resolved record that differ from theirs: the values to apply. */
export function changedFields(theirs, values) {
  const changed = {};
  for (const [name, value] of Object.entries(values)) if (!same(value, get(theirs, name))) put(changed, name, value);
  return changed;
}
