/** Live frames and history joined by slots, and the arrangement of tiles. */
import assert from "node:assert/strict";
import test from "node:test";

import { Arrangement, moved, placed, removed, resized } from "../../metrics/static/metrics/dashboard/order.js";
import { SlotSeries, samplesIn, stateOfAge, widgetsIn } from "../../metrics/static/metrics/dashboard/slots.js";

const point = (slot, value = slot) => [slot * 5, value, value, value, 1];
const history = (first, last) => Array.from({ length: last - first + 1 }, (_each, n) => point(first + n));
const slotsOf = (series) => {
  const { times, average } = series.rows();
  return times.map((at, n) => [at / 5, average[n]]);
};
const increases = (series) => series.rows().times.every((at, n, all) => n === 0 || at > all[n - 1]);

test("frames that repeat, reorder and skip leave one gap, which one refill closes", () => {
  const series = new SlotSeries({ step: 5, slot: 6, points: history(1, 6) });
  series.seconds = 100 * 5;
  assert.deepEqual([5, 6, 6, 4, 9].map((slot) => series.take(slot, slot)), ["drop", "drop", "drop", "drop", "refill"]);
  assert.deepEqual(slotsOf(series), [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5], [6, 6], [7, null], [8, null], [9, 9]]);
  assert.ok(increases(series));
  assert.equal(series.refillAfter, 6);
  series.merge({ slot: 9, points: history(7, 9) });
  assert.equal(series.incomplete, false);
  assert.deepEqual(slotsOf(series), Array.from({ length: 9 }, (_each, n) => [n + 1, n + 1]));
  assert.ok(increases(series));
});

test("a refill that was read before newer frames keeps their values", () => {
  const series = new SlotSeries({ step: 5, slot: 2, points: history(1, 2) });
  series.seconds = 500;
  assert.equal(series.take(5, 5), "refill");
  assert.equal(series.take(6, 6), "append");
  assert.ok(series.incomplete);
  series.merge({ slot: 5, points: history(3, 5) });
  assert.deepEqual(slotsOf(series).map(([, value]) => value), [1, 2, 3, 4, 5, 6]);
});

test("slots that nobody sampled are a gap and no reason to read the history", () => {
  const series = new SlotSeries({ step: 5, slot: 2, points: history(1, 2) });
  series.seconds = 500;
  assert.equal(series.take(6, 6, 2), "append");
  assert.deepEqual(slotsOf(series).map(([, value]) => value), [1, 2, null, null, null, 6]);
  assert.equal(series.take(8, 8, 7), "refill");
});

test("a longer step folds slots into its bucket, and a refill reads the whole bucket of the first hole", () => {
  const series = new SlotSeries({ step: 15, slot: 4, points: [[0, 1, 2, 3, 3], [15, 4, 4.5, 5, 2]] });
  series.seconds = 600;
  assert.equal(series.take(5, 9), "append");
  const { low, average, high, counts } = series.rows();
  assert.deepEqual([low[1], average[1], high[1], counts[1]], [4, 6, 9, 3]);
  assert.equal(series.take(8, 8), "refill");
  assert.equal(series.refillAfter, 5, "slot 6 is the first hole; its bucket begins with it");
  assert.equal(series.take(10, 1), "refill");
  assert.equal(series.refillAfter, 5);
  series.merge({ slot: 10, points: [[30, 6, 7, 8, 3], [45, 1, 5, 9, 2]] });
  assert.deepEqual(series.rows().average, [2, 6, 7, 5]);
});

test("a missing value moves the time on and is no zero", () => {
  const series = new SlotSeries({ step: 5, slot: 1, points: history(1, 1) });
  series.seconds = 500;
  assert.equal(series.take(2, null), "append");
  assert.deepEqual(slotsOf(series), [[1, 1], [2, null]]);
});

test("the window moves with the newest slot", () => {
  const series = new SlotSeries({ step: 5, slot: 3, points: history(1, 3) });
  series.take(4, 4);
  assert.deepEqual(slotsOf(series), [[2, 2], [3, 3], [4, 4]]);
});

test("after a reconnect everything behind the last slot is read again", () => {
  const series = new SlotSeries({ step: 5, slot: 3, points: history(1, 3) });
  series.missAfterLast();
  assert.equal(series.refillAfter, 3);
});

test("random deliveries with late refills end as the history has it, in strictly increasing time", () => {
  let seed = 7;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  for (let run = 0; run < 300; run += 1) {
    const series = new SlotSeries({ step: [5, 15, 60][random(3)], slot: 0, points: [[0, 0, 0, 0, 1]] });
    series.seconds = 10_000;
    let answer = null; // of a request that is on its way while frames arrive
    for (let count = 0; count < 40; count += 1) {
      const slot = Math.max(1, series.last + random(6) - 2);
      series.take(slot, slot);
      assert.ok(increases(series));
      if (answer && random(2)) {
        series.merge(answer);
        answer = null;
      }
      if (series.incomplete && !answer && random(3) === 0) answer = truth(series, series.refillAfter, series.last);
    }
    for (let tries = 0; series.incomplete && tries < 3; tries += 1) {
      series.merge(truth(series, series.refillAfter, series.last));
    }
    assert.ok(!series.incomplete);
    const whole = new SlotSeries({ step: series.step, ...truth(series, -1, series.last) });
    whole.seconds = 10_000;
    assert.deepEqual(series.rows(), whole.rows());
  }
});

test("a hole behind the end of a late history stays open", () => {
  const series = new SlotSeries({ step: 5, slot: 2, points: history(1, 2) });
  series.seconds = 500;
  series.take(5, 5);
  series.take(9, 9);
  series.merge({ slot: 5, points: history(3, 5) });
  assert.deepEqual([series.incomplete, series.refillAfter], [true, 5]);
});

/** The history after a slot, as the server has it: every slot was sampled with its number as value. */
function truth({ step }, after, until) {
  const buckets = new Map();
  for (let slot = 0; slot <= until; slot += 1) {
    const at = Math.floor((slot * 5) / step) * step;
    if (at < (after + 1) * 5) continue;
    const [low, sum, high, n] = buckets.get(at) ?? [Infinity, 0, -Infinity, 0];
    buckets.set(at, [Math.min(low, slot), sum + slot, Math.max(high, slot), n + 1]);
  }
  return { slot: until, points: [...buckets].map(([at, [low, sum, high, n]]) => [at, low, sum / n, high, n]) };
}

test("single and batched frames are read alike", () => {
  const sample = { slot: 1, values: {} };
  const update = { event: "dashboard.widget.update", key: "log", data: { widget_id: "log" } };
  const batch = { data: { updates: [update, { event: "system.metrics", key: "metrics_user", data: sample }] } };
  assert.deepEqual([samplesIn(batch), widgetsIn(batch)], [[sample], ["log"]]);
  assert.deepEqual(samplesIn({ event: "system.metrics", data: sample }), [sample]);
  assert.deepEqual([0, 15, 16, 30, 31, null].map(stateOfAge), ["fresh", "fresh", "late", "late", "silent", "silent"]);
});

const tiles = ["a", "b", "c"].map((id) => ({ id, kind: "note", w: 1, h: 1 }));
const ids = (list) => list.map(({ id }) => id).join("");

test("tiles move within the list and keep their number", () => {
  assert.equal(ids(moved(tiles, "a", 1)), "bac");
  assert.equal(ids(placed(tiles, "c", 0)), "cab");
  assert.equal(ids(placed(tiles, "a", 99)), "bca");
  assert.equal(moved(tiles, "a", -1), tiles);
  assert.equal(moved(tiles, "x", 1), tiles);
  assert.equal(ids(removed(tiles, "b")), "ac");
});

test("sizes stay within four columns and three rows", () => {
  assert.equal(resized(tiles, "a", { w: -1 }), tiles);
  let next = tiles;
  for (let count = 0; count < 6; count += 1) next = resized(next, "b", { w: 1, h: 1 });
  assert.deepEqual([next[1].w, next[1].h], [4, 3]);
});

test("undo returns the version before, and steps of one move count once", () => {
  const arrangement = new Arrangement(tiles);
  const before = arrangement.tiles;
  assert.equal(arrangement.change(moved(arrangement.tiles, "a", 1)), true);
  assert.equal(arrangement.change(moved(arrangement.tiles, "a", 1)), true);
  assert.equal(arrangement.change(moved(arrangement.tiles, "a", 1)), false);
  arrangement.join(before);
  assert.equal(arrangement.undo(), true);
  assert.equal(ids(arrangement.tiles), "abc");
  assert.equal(arrangement.undo(), false);
  arrangement.change(removed(arrangement.tiles, "c"));
  const held = arrangement.tiles;
  arrangement.change(moved(arrangement.tiles, "a", 1));
  arrangement.revert(held);
  assert.deepEqual([ids(arrangement.tiles), arrangement.undo(), ids(arrangement.tiles)], ["ab", true, "abc"]);
});
