// Requests of lists to the server: their number, their contents, and the count of new records that lists show.
import assert from "node:assert/strict";
import { test } from "node:test";

import { DebouncedSet } from "../../backoffice/static/backoffice/debounced_set.js";
import { IDS_PER_REQUEST, MAX_SHOWN, NewRecords, MAX_PENDING, arrives } from "../../backoffice/static/backoffice/new_records.js";

const settled = () => new Promise(setImmediate); // every promise that needs no timer has settled
const range = (size, from = 0) => Array.from({ length: size }, (_, number) => `id-${from + number}`);

/** Timers under the test's control: `pass(ms)` fires what is due, one timer at a time. */
function clock(t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  return async (ms) => {
    for (let passed = 0; passed < ms; passed += 10) {
      t.mock.timers.tick(10);
      await settled();
    }
  };
}

function server(t) {
  const requests = [];
  const waiting = [];
  const handle = (keys) => {
    requests.push(keys);
    return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  };
  const answer = async (value) => {
    waiting.shift().resolve(value);
    await settled();
  };
  const fail = async () => {
    waiting.shift().reject(new Error("503"));
    await settled();
  };
  return { requests, handle, answer, fail };
}

test("a burst of keys is one request, and keys added meanwhile are one more", async (t) => {
  const pass = clock(t);
  const { requests, handle, answer } = server(t);
  const batches = new DebouncedSet(handle, 100);
  for (let n = 0; n < 20; n++) batches.add("all");
  await pass(1_000);
  assert.deepEqual(requests, [["all"]]);
  for (let n = 0; n < 20; n++) batches.add("all");
  await pass(5_000);
  assert.equal(requests.length, 1, "one at a time");
  await answer();
  await pass(490);
  assert.equal(requests.length, 1, "a pause between two");
  await pass(20);
  assert.deepEqual(requests, [["all"], ["all"]]);
});

test("no key is dropped when more keys come than fit into a request", async (t) => {
  const pass = clock(t);
  const { requests, handle, answer } = server(t);
  const batches = new DebouncedSet(handle, 100, { limit: 200 });
  range(450).forEach((id) => batches.add(id));
  for (let n = 0; n < 3; n++) {
    await pass(600);
    await answer();
  }
  assert.deepEqual(requests.map((keys) => keys.length), [200, 200, 50]);
  assert.deepEqual(requests.flat(), range(450));
});

test("a failed request is retried with growing delays and then given up", async (t) => {
  t.mock.method(console, "warn", () => {});
  const pass = clock(t);
  const { requests, handle, fail } = server(t);
  let gaveUp = 0;
  const batches = new DebouncedSet(handle, 100, { attempts: 3, gaveUp: () => gaveUp++ });
  batches.add("erased");
  await pass(100);
  await fail();
  await pass(900);
  assert.equal(requests.length, 1);
  await pass(100);
  await fail();
  await pass(1_900);
  assert.equal(requests.length, 2);
  await pass(100);
  await fail();
  assert.deepEqual([requests.length, gaveUp], [3, 1]);
  await pass(60_000);
  assert.equal(requests.length, 3);
});

test("keys are retried until a request succeeds where nobody gives them up", async (t) => {
  t.mock.method(console, "warn", () => {});
  const pass = clock(t);
  const { requests, handle, fail, answer } = server(t);
  const batches = new DebouncedSet(handle, 100);
  batches.add("a");
  await pass(100);
  for (let n = 1; n <= 8; n++) {
    assert.equal(requests.length, n);
    await fail();
    batches.add("a");
    await pass(30_000);
  }
  await answer();
  await pass(60_000);
  assert.equal(requests.length, 9);
});

test("the return of the connection retries at once", async (t) => {
  t.mock.method(console, "warn", () => {});
  const heard = new EventTarget();
  globalThis.addEventListener = heard.addEventListener.bind(heard);
  t.after(() => delete globalThis.addEventListener);
  const pass = clock(t);
  const { requests, handle, fail, answer } = server(t);
  const batches = new DebouncedSet(handle, 100);
  batches.add("a");
  await pass(100);
  await fail();
  heard.dispatchEvent(new Event("online"));
  await settled();
  assert.deepEqual(requests, [["a"], ["a"]]);
  await answer();
  heard.dispatchEvent(new Event("online"));
  await pass(60_000);
  assert.equal(requests.length, 2);
});

// -- what is new to a list

function news(t) {
  const pass = clock(t);
  const { requests, handle, answer } = server(t);
  let changes = 0;
  const found = new NewRecords(handle, () => changes++);
  return { pass, requests, answer, found, changes: () => changes };
}

test("every id is requested, 200 at a time", async (t) => {
  const { pass, requests, answer, found } = news(t);
  range(350).forEach((id) => found.add(id));
  await pass(600);
  await answer(range(150));
  await pass(600);
  await answer(["id-340"]);
  assert.deepEqual(requests.map((ids) => ids.length), [IDS_PER_REQUEST, 150]);
  assert.deepEqual([found.size, found.isFull], [151, false]);
});

test("no request is sent once there are 200 new records", async (t) => {
  const { pass, requests, answer, found, changes } = news(t);
  range(300).forEach((id) => found.add(id));
  await pass(600);
  await answer(range(200));
  assert.deepEqual([found.size, found.isFull, found.isUnsure], [MAX_SHOWN, true, false]);
  range(5_000, 300).forEach((id) => found.add(id));
  await pass(60_000);
  assert.deepEqual([requests.length, changes()], [1, 1]);
});

test("a record that no longer matches is not counted", async (t) => {
  const { pass, answer, found } = news(t);
  ["a", "b"].forEach((id) => found.add(id));
  await pass(600);
  await answer(["a", "b"]);
  assert.equal(found.size, 2);
  assert.ok(found.has("a"));
  found.add("a"); // it was deleted, or no longer matches the filter
  await pass(600);
  await answer([]);
  assert.deepEqual(found.ids(), ["b"]);
});

test("many changes outside the filter cause few requests and no wrong count", async (t) => {
  const { pass, requests, answer, found } = news(t);
  let added = 0;
  for (let turn = 0; turn < 100; turn++) {
    range(200, added).forEach((id) => found.add(id));
    added += 200;
    await pass(300);
    if (requests.length > turn) await answer([]).catch(() => {});
  }
  assert.ok(found.isUnsure && found.isFull);
  assert.ok(requests.length <= 2 + MAX_PENDING / IDS_PER_REQUEST, `${requests.length} requests`);
});

test("records that arrive while the list is fetched stay new", async (t) => {
  const { pass, answer, found } = news(t);
  found.add("a");
  await pass(600);
  await answer(["a"]);
  found.add("b"); // pending: the server has not been asked yet
  const shown = found.mark();
  found.add("c");
  shown();
  assert.deepEqual([found.has("a"), found.has("b"), found.has("c")], [false, false, true]);
  await pass(600);
  await answer(["c"]);
  assert.deepEqual(found.ids(), ["c"]);
});

test("only events that may add a record to a list cause a request", () => {
  const brings = (event, version = 1) => arrives({ event, version });
  const arriving = ["user.created", "submission.received", "form.restored", "conflict.filed", "conflict.reopened"];
  assert.ok(arriving.every((name) => brings(name, 7)));
  assert.ok(!["user.updated", "user.deleted", "staff.role_changed"].some((name) => brings(name)));
  assert.deepEqual([brings("setting.changed", 1), brings("setting.changed", 2)], [true, false]);
});
