import assert from "node:assert/strict";
import { test } from "node:test";

import { moved, replacements, typedReplacement } from "../../backoffice/static/backoffice/text_edits.js";

const PARTS = ["a", "b", " ", "\n", "日", "本", "😀", "😁", "word"];

/** The same texts in every run (mulberry32). */
function randomTexts(count) {
  let state = 7;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const text = () => Array.from({ length: next() * 12 }, () => PARTS[Math.floor(next() * PARTS.length)]).join("");
  return Array.from({ length: count }, text);
}

const applied = (text, changes) =>
  changes.toReversed().reduce((now, { at, removed, inserted }) => {
    assert.equal(now.slice(at, at + removed.length), removed);
    return now.slice(0, at) + inserted + now.slice(at + removed.length);
  }, text);

test("replacements turn one text into the other and divide no character", () => {
  const texts = randomTexts(4000);
  for (let i = 1; i < texts.length; i++) {
    const changes = replacements(texts[i - 1], texts[i]);
    assert.equal(applied(texts[i - 1], changes), texts[i]);
    for (const { removed, inserted } of changes) assert.ok(removed.isWellFormed() && inserted.isWellFormed());
  }
});

test("replacements leave the text between two changes alone", () => {
  const changes = replacements("first\nmiddle\nlast", "first, new\nmiddle\nlast one");
  assert.deepEqual(changes, [
    { at: 5, removed: "", inserted: ", new" },
    { at: 17, removed: "", inserted: " one" },
  ]);
});

test("position follows its word and stays before text inserted exactly there", () => {
  assert.equal(moved(4, { at: 0, removed: "", inserted: "abc" }), 7);
  assert.equal(moved(4, { at: 4, removed: "", inserted: "abc" }), 4);
  assert.equal(moved(4, { at: 5, removed: "x", inserted: "" }), 4);
  assert.equal(moved(4, { at: 2, removed: "long", inserted: "l" }), 3);
});

test("typed letter is the one before the caret, among equal letters", () => {
  assert.deepEqual(typedReplacement("a b", "a  b", 2), { at: 1, removed: "", inserted: " " });
  assert.deepEqual(typedReplacement("aaa", "aa", 1), { at: 1, removed: "a", inserted: "" });
  assert.equal(typedReplacement("a", "a", 1), null);
});
