// The record after a person chose a side, or a value, for each conflict.

import { lookup, putAt } from "./lookup.js";
import { equalOrder } from "./order.js";
import { steps } from "./paths.js";
import { chosenValue, inputsOf, RecordMerge } from "./record_merge.js";
import { ruleViolations } from "./rules.js";
import { invalid, InvalidMerge, isMap } from "./values.js";

const RULE_MESSAGES = {
  duplicate: "Another item has the same value.",
  dangling: "This refers to an item that does not exist.",
  cycle: "These items contain each other.",
};

/**
 * The full record after a person's choices: path -> "theirs" | "mine" | {value}. Arguments as for `merge`.
 * Throws InvalidMerge naming each path without choice, unknown, or still wrong.
 */
export function resolve(base, theirs, mine, policies, options, choices) {
  const inputs = inputsOf(base, theirs, mine, policies, options);
  const decided = new Map(Object.entries(choices).map(([path, choice]) => [path, normalChoice(path, choice)]));
  const merging = new RecordMerge(decided);
  let merged = merging.run(inputs);
  throwInvalid(merging.conflicts.map(({ path }) => [path, "Choose theirs, mine or a value."]));
  for (const { path, also = [] } of ruleViolations(inputs, merged)) {
    for (const place of [path, ...also]) {
      if (!decided.has(place) || merging.used.has(place)) continue;
      merged = applyChoice(inputs, merged, place, decided.get(place));
      merging.used.add(place);
    }
  }
  const unused = [...decided.keys()].filter((path) => !merging.used.has(path));
  throwInvalid(unused.map((path) => [path, "There is no conflict here."]));
  throwInvalid(ruleViolations(inputs, merged).map(({ path, code }) => [path, RULE_MESSAGES[code]]));
  return merged;
}

function normalChoice(path, choice) {
  if (choice === "theirs" || choice === "mine") return { take: choice };
  if (isMap(choice) && equalOrder(Object.keys(choice), ["value"])) return choice;
  throw invalid(path, 'Choose "theirs", "mine" or {value}.');
}

function throwInvalid(problems) {
  if (problems.length) throw new InvalidMerge(Object.fromEntries(problems));
}

function applyChoice({ record, theirs, mine }, merged, path, choice) {
  const where = steps(path);
  const value = chosenValue(choice, lookup(record, theirs, where), lookup(record, mine, where));
  return putAt(record, merged, where, value, choice.take === "theirs" ? theirs : mine);
}
