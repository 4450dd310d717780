// The browser's merge costs about n log n, counted in operations of the collections that it uses.
import assert from "node:assert/strict";
import { test } from "node:test";

import { merge, regions } from "../../backoffice/static/backoffice/merge.js";

const ABOUT_LINEAR = 1.35;

/** How many operations on maps, sets and arrays a call takes; searching or copying a list counts its length. */
function operations(run) {
  let count = 0;
  const patched = [];
  const patch = (prototype, name, cost) => {
    const original = prototype[name];
    patched.push(() => (prototype[name] = original));
    prototype[name] = function (...given) {
      count += cost.call(this);
      return original.apply(this, given);
    };
  };
  for (const prototype of [Map.prototype, Set.prototype]) patch(prototype, "has", () => 1);
  patch(Map.prototype, "get", () => 1);
  for (const name of ["includes", "indexOf", "filter", "slice", "concat", "find", "findIndex", "map"]) {
    patch(Array.prototype, name, function () { return this.length; });
  }
  patch(Array.prototype, "push", () => 1);
  patch(Array.prototype, Symbol.iterator, function () { return this.length; });
  try {
    run();
  } finally {
    for (const restore of patched) restore();
  }
  return count;
}

function assertAboutLinear(costOf, small, factor = 4) {
  const [cheap, dear] = [costOf(small), costOf(small * factor)];
  assert.ok(dear <= cheap * factor * ABOUT_LINEAR, `${small}: ${cheap}, ${small * factor}: ${dear}`);
}

function shuffled(items, seed) {
  const result = [...items];
  let state = seed;
  for (let i = result.length - 1; i > 0; i--) {
    state = (state * 1103515245 + 12345) % 2147483648;
    const j = state % (i + 1);
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

test("merging shuffled options costs about n log n", () => {
  assertAboutLinear((size) => {
    const options = Array.from({ length: size }, (_, number) => `option ${number}`);
    const sides = [options, shuffled(options, 1), shuffled(options, 2)].map((each) => ({ options: each }));
    return operations(() => merge(...sides, { options: "options" }));
  }, 250);
});

test("reporting broken references costs in proportion to their number", () => {
  assertAboutLinear((size) => {
    const base = Array.from({ length: size + 1 }, (_, number) => ({ id: `q${number}` }));
    const mine = [base[0], ...base.slice(1).map((each) => ({ ...each, if: "q0" }))];
    const sides = [base, base.slice(1), mine].map((fields) => ({ fields }));
    const policies = { fields: { kind: "keyed_list" } };
    const checks = [{ kind: "references", list: "fields", key: "if" }];
    return operations(() => merge(...sides, policies, { checks }));
  }, 100);
});

test("merging texts costs about n log n", () => {
  const texts = {
    "divides line by line": (size) => {
      const numbers = Array.from({ length: size }, (_, number) => number + 1);
      return [numbers.flatMap((n) => [`l${n}`, `l${n - 1}`]), numbers.flatMap((n) => [`l${n}`, `new ${n}`])];
    },
    "all lines alike": (size) => [Array(size).fill("a"), [...Array(size).fill("a"), "b"]],
  };
  for (const make of Object.values(texts)) {
    assertAboutLinear((size) => {
      const [base, theirs] = make(size).map((lines) => lines.join("\n"));
      return operations(() => regions(base, theirs, `${base}\nx`));
    }, 400);
  }
});
