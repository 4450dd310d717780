// Frames `metrics.updated`, alone and in a batch, as open pages take them.
import assert from "node:assert/strict";
import { test } from "node:test";

import { updatesIn } from "../../metrics/static/metrics/updates.js";

const update = { keys: ["a"], as_of: { position: 7, at: "2026-11-29T12:00:00Z" }, previous: null };

test("a frame of its own is an update", () => {
  const frame = { topic: "users", event: "metrics.updated", data: update };
  assert.deepEqual(updatesIn(frame), [update]);
});

test("an update is found among other values of a batch", () => {
  const updates = [
    { event: "system.metrics", key: "cpu", data: { slot: 1 } },
    { event: "metrics.updated", key: "figures", data: update },
  ];
  assert.deepEqual(updatesIn({ topic: "dashboard", event: "dashboard.batch.update", data: { updates } }), [update]);
});

test("other values are none", () => {
  assert.deepEqual(updatesIn({ topic: "dashboard", event: "system.metrics", data: { slot: 1 } }), []);
});
