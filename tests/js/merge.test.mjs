// The browser's merge against the vectors it shares with the server.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { InvalidMerge, diff, merge, regions, resolve, same, steps } from "../../backoffice/static/backoffice/merge.js";

const vectors = JSON.parse(readFileSync(new URL("../events/merge_vectors.json", import.meta.url), "utf-8"));
const options = ({ groups, checks }) => ({ groups, checks });
const pick = (object, ...keys) => Object.fromEntries(keys.filter((key) => key in object).map((key) => [key, object[key]]));

function refused(call, expected) {
  assert.throws(call, (error) => {
    assert.ok(error instanceof InvalidMerge, String(error.stack));
    assert.deepEqual(Object.keys(error.fields).sort(), expected);
    return true;
  });
}

for (const each of vectors.merge) {
  test(`merge: ${each.name}`, () => {
    const { expected } = each;
    const run = () => merge(each.base, each.theirs, each.mine, each.policies, options(each));
    if (expected.error) return refused(run, expected.error);
    const before = JSON.stringify(each);
    const result = run();
    assert.deepEqual(result.conflicts.map((conflict) => pick(conflict, "path", "kind", "code")), expected.conflicts);
    assert.ok(same(result.values, expected.values), JSON.stringify(result.values));
    if (expected.notes) assert.deepEqual(result.notes, expected.notes);
    if (expected.changed) assert.ok(same(result.changed, expected.changed), JSON.stringify(result.changed));
    for (const [path, sides] of Object.entries(expected.sides ?? {})) {
      const found = result.conflicts.find((conflict) => conflict.path === path);
      assert.deepEqual(pick(found, "base", "theirs", "mine"), sides);
    }
    assert.equal(JSON.stringify(each), before, "the inputs stay as they were");
  });
}

for (const each of vectors.diff) {
  test(`diff: ${each.name}`, () => {
    assert.deepEqual(diff(each.before, each.after, each.policies), each.expected);
  });
}

for (const each of vectors.resolve) {
  test(`resolve: ${each.name}`, () => {
    const run = () => resolve(each.base, each.theirs, each.mine, each.policies, options(each), each.choices);
    if (each.expected.error) return refused(run, each.expected.error);
    const resolved = run();
    assert.ok(same(resolved, each.expected.values), JSON.stringify(resolved));
  });
}

test("a path with special characters reads back", () => {
  assert.deepEqual(steps("fields[a\\]b].x\\.y"), ["fields", "a]b", "x.y"]);
});

test("regions of a text name the side that changed the lines", () => {
  const kinds = regions("a\nb\nc\nd\ne", "A\nb\nc\nd\nx", "a\nb\nC\nd\ny").map(({ kind }) => kind);
  assert.deepEqual(kinds, ["theirs", "same", "mine", "same", "conflict"]);
});
