// The recursive merge of one record: values, conflicts and notes.

import { between, indexed } from "./diff.js";
import { mergeOrder, moved } from "./order.js";
import { atItem, atName } from "./paths.js";
import { concrete, CONFLICT, idOf, itemPolicy, policyOf } from "./policies.js";
import { mergeLines } from "./text.js";
import { canonicalJson, get, invalid, isList, isMap, names, put, same, tidy } from "./values.js";

export function inputsOf(base, theirs, mine, policies, { groups = [], checks = [] }) {
  const unique = Object.entries(policies)
    .filter(([, policy]) => policy.unique)
    .map(([list, policy]) => ({ kind: "unique", list, property: policy.unique, id: idOf(policy) }));
  const filled = { ...base };
  for (const [name, value] of Object.entries(mine)) if (value !== undefined) put(filled, name, value);
  const record = { kind: "object", items: policies, default: CONFLICT, groups };
  return { base, theirs, mine: filled, record, checks: [...unique, ...checks] };
}

export class RecordMerge {
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
      if (this.used.has(at) && !indexed(policy, [item], at).has(key)) {
        throw invalid(at, "The id of an item cannot change.");
      }
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

export const chosenValue = (choice, theirs, mine) =>
  "value" in choice ? choice.value : choice.take === "theirs" ? theirs : mine;

function mergeSets(base, theirs, mine) {
  const byJson = (side) => new Map(side.map((item) => [canonicalJson(item), item]));
  const [known, their, my] = [base, theirs, mine].map(byJson);
  const kept = [...their].filter(([key]) => my.has(key) || !known.has(key));
  const added = [...my].filter(([key]) => !known.has(key) && !their.has(key));
  return [...kept, ...added].map(([, item]) => item);
}
