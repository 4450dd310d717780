// The offline queue without a browser: queued edits, requests, and the handling of the responses.
import assert from "node:assert/strict";
import { test } from "node:test";

import * as edits from "../../backoffice/static/backoffice/offline/edits.js";
import { Flusher } from "../../backoffice/static/backoffice/offline/flusher.js";
import { Network } from "../../backoffice/static/backoffice/offline/network.js";

let next = 1;
const field = (value, before = "", kind = "text") => ({ kind, label: "Label", value, before });
const edit = (stream, more = {}) => {
  const seq = more.seq ?? next++;
  return {
    seq,
    id: `id-${seq}`,
    stream,
    type: "user.update",
    key: stream,
    fields: { name: field(`v${seq}`) },
    base_version: 1,
    trunk_version: 1,
    queued_at: "2026-01-01T00:00:00Z",
    reason: "",
    state: "waiting",
    verdict: null,
    ...more,
  };
};
const done = (stream, version, more = {}) =>
  edit(stream, { state: "done", verdict: { status: "applied", version }, ...more });
const seqs = (found) => found.map(({ seq }) => seq);

// -- input

test("values are normalized as on the server", () => {
  assert.equal(edits.cleaned("text", "  a\r\nb "), "a\nb");
  assert.equal(edits.cleaned("email", " Ada@Example.ORG "), "ada@example.org");
  assert.equal(edits.cleaned("json", ' {"a": 1}'), ' {"a": 1}');
  assert.equal(edits.cleaned("check", true), true);
});

test("another layout of the same JSON is no change, another number is one", () => {
  assert.equal(edits.differs("json", '{"a": [1, 2]}', '{"a":[1,2]}'), false);
  assert.equal(edits.differs("json", "1.0", "1"), true);
  assert.equal(edits.differs("json", "12345678901234567", "12345678901234568"), true);
  assert.equal(edits.differs("json", '{"id": "q-1e5"}', '{"id":"q-1e5"}'), false, "digits in a text are no number");
  assert.equal(edits.differs("json", '{"a\\"": "1. \\"A\\""}', '{"a\\"":"1. \\"A\\""}'), false);
  assert.equal(edits.differs("json", '{"1. A": 1.0}', '{"1. A": 1}'), true);
  assert.equal(edits.differs("json", "{", "{}"), true);
  assert.equal(edits.differs("text", " a", "a"), false);
  assert.equal(edits.differs("check", true, false), true);
});

test("JSON is sent verbatim because JavaScript would change its numbers", () => {
  const body = edits.bodyOf("me", 7, [
    edit("s", { seq: 4, fields: { value: field("[1.0, 12345678901234567890]", "", "json"), on: field(false, true, "check") } }),
  ]);
  assert.ok(body.includes('"data":{"value":[1.0, 12345678901234567890],"on":false}'));
  const { client_id, person, mutations } = JSON.parse(body);
  assert.deepEqual([client_id, person, mutations[0].seq, mutations[0].reason], ["me", 7, 4, null]);
});

test("the time of the device is sent, so that a wrong clock makes no edit old", () => {
  const now = new Date("1970-01-01T00:05:00Z");
  assert.equal(JSON.parse(edits.bodyOf("me", 7, [edit("s")], now)).sent_at, "1970-01-01T00:05:00.000Z");
  assert.ok(JSON.parse(edits.bodyOf("me", 7, [edit("s")])).sent_at);
});

// -- chains

test("a page shows waiting edits and edits saved after its version", () => {
  const all = [done("a", 2), done("a", 5, { closed: true }), edit("a"), edit("a", { state: "refused" }), edit("b")];
  assert.deepEqual(edits.unseen(all, "a", 2), [all[1], all[2]]);
  assert.equal(edits.seenBy(edits.unseen(all, "a", 2)).get("name"), all[2].fields.name.value);
  assert.deepEqual(edits.basedOn(all, "a", 2), { trunk_version: 2, base_version: 4 });
});

test("a chain is sent whole and in order, except edits blocked by a rejected one", () => {
  const all = [done("a", 2, { closed: false }), edit("b"), edit("a"), edit("c", { state: "refused" }), edit("c"), edit("a")];
  assert.deepEqual(seqs(edits.batchOf(all)), seqs([all[0], all[1], all[2], all[5]]));
  assert.deepEqual(seqs(edits.batchOf(all, { alone: true })), seqs([all[1]]));
});

test("a closed predecessor is sent when it is newer than the page of the edit", () => {
  const [old, newer] = [done("a", 1, { closed: true }), done("a", 2, { closed: true })];
  const late = edit("a", { trunk_version: 1 });
  assert.deepEqual(seqs(edits.batchOf([old, newer, late])), seqs([newer, late]));
});

test("a batch is limited, even if one record has more predecessors than fit", () => {
  const many = Array.from({ length: 250 }, () => edit("a"));
  assert.deepEqual(seqs(edits.batchOf(many)), seqs(many.slice(0, 100)));
  const elders = Array.from({ length: 250 }, () => done("a", 2));
  const chosen = edits.batchOf([...elders, edit("a")]);
  assert.equal(chosen.length, 100);
  assert.equal(chosen.at(-1).state, "waiting");
});

// -- verdicts

test("verdicts are stored, and the last one closes the chain", () => {
  const all = [edit("a"), edit("a"), edit("b")];
  const answers = [
    { seq: all[0].seq, status: "merged", version: 4 },
    { seq: all[2].seq, status: "conflict", conflict_id: "c" },
  ];
  const first = edits.applyVerdicts(all, all, answers);
  assert.deepEqual(first.changed.map(({ state, closed }) => [state, closed]), [
    ["done", undefined],
    ["done", true],
  ]);
  const now = all.map((each) => first.changed.find(({ seq }) => seq === each.seq) ?? each);
  const second = edits.applyVerdicts(now, now, [{ seq: all[1].seq, status: "applied", version: 5 }]);
  assert.deepEqual(second.changed.map(({ closed }) => closed), [true, true]);
  assert.deepEqual(seqs(second.verdicts), [all[1].seq]);
});

test("a rejected edit is kept with the server's message, and blocked edits wait", () => {
  const all = [edit("a", { tried: true }), edit("a", { tried: true })];
  const problem = { errors: { email: "Taken." }, detail: "Some values cannot be accepted." };
  const { changed, verdicts } = edits.applyVerdicts(all, all, [
    { seq: all[0].seq, status: "rejected", code: "rejected", problem },
    { seq: all[1].seq, status: "rejected", code: "blocked_by", blocked_by: all[0].seq },
  ]);
  assert.deepEqual(changed.map(({ state, why, tried }) => [state, why, tried]), [
    ["refused", "Taken.", false],
    ["waiting", undefined, false],
  ]);
  assert.deepEqual(seqs(verdicts), [all[0].seq]);
});

test("an edit sent without an answer cannot be changed, and a corrected edit is another command", () => {
  const sent = edit("a", { tried: true });
  assert.equal(edits.isFree(sent), false);
  const again = edits.corrected(edit("a", { state: "refused", verdict: {} }), { name: "better" }, "new-id");
  assert.deepEqual([again.id, again.state, again.fields.name.value], ["new-id", "waiting", "better"]);
});

test("finished edits expire, except those of an open chain", () => {
  const old = Array.from({ length: 60 }, () => done("a", 2, { closed: true }));
  assert.deepEqual(edits.expired([...old, done("b", 2)]), seqs(old.slice(0, 10)));
});

// -- sending, with a queue in memory and without timers or random numbers

class Memory {
  constructor(...found) {
    this.person = 7;
    this.edits = new Map(found.map((each) => [each.seq, each]));
    this.verdicts = [];
  }
  async all() {
    return [...this.edits.values()];
  }
  async put(changed, { verdicts = [] } = {}, check = () => true) {
    if (this.full) throw Object.assign(new Error("storage is full"), { name: "QuotaExceededError" });
    for (const each of changed) if (this.edits.has(each.seq) && check(this.edits.get(each.seq), each)) this.edits.set(each.seq, each);
    this.verdicts.push(...verdicts);
  }
  async remove(gone, { verdicts = [] } = {}) {
    gone.forEach((seq) => this.edits.delete(seq));
    this.verdicts.push(...verdicts);
  }
}

const pause = (attempt, min, max) => Math.min(max, min * 2 ** attempt);
const recordingTimer = () => ({ delays: [], set(ms) { this.delays.push(ms); }, clear() {} });
const oneAtATime = () => {
  let last = Promise.resolve();
  return { request: (_name, work) => (last = last.then(work)) };
};

function sender(queue, send, { person = 7, locks = oneAtATime() } = {}) {
  const network = new Network({ person: 7, ask: async () => person, timer: recordingTimer(), pause });
  const timer = recordingTimer();
  const flusher = new Flusher({ queue, network, send, timer, locks, client: "me", pause });
  return { flusher, network, timer };
}

const applied = (body) => ({
  status: 200,
  results: JSON.parse(body).mutations.map(({ seq }) => ({ seq, status: "applied", version: seq })),
});

test("two tabs send each edit once", async () => {
  const queue = new Memory(edit("a"), edit("b"), edit("a"));
  const sent = [];
  const send = async (body) => {
    sent.push(...JSON.parse(body).mutations.map(({ id }) => id));
    return applied(body);
  };
  const locks = oneAtATime();
  const tabs = [sender(queue, send, { locks }), sender(queue, send, { locks })];
  await Promise.all(tabs.map(({ flusher }) => flusher.flush()));
  assert.equal(sent.length, 3);
  assert.ok((await queue.all()).every(({ state, closed }) => state === "done" && closed));
});

test("an edit queued during a round is sent by it or by the next", async () => {
  const queue = new Memory(edit("a"));
  const late = edit("b");
  const { flusher } = sender(queue, async (body) => {
    if (!queue.edits.has(late.seq)) {
      queue.edits.set(late.seq, late);
      void flusher.flush();
    }
    return applied(body);
  });
  await flusher.flush();
  assert.equal(edits.waiting(await queue.all()).length, 0);
});

test("with full storage, waiting edits are sent, saved ones deleted and others sent again", async () => {
  const queue = new Memory(edit("a"), edit("b"), edit("a"), edit("c"), edit("c"));
  queue.full = true;
  const [first, refused, second, saved, last] = await queue.all();
  const sent = [];
  const send = async (body) => {
    sent.push(JSON.parse(body).mutations.map(({ id }) => id));
    const no = ({ seq }) => ({ seq, status: "rejected", code: "forbidden", problem: {} });
    const results = applied(body).results;
    return { status: 200, results: results.map((each) => ([refused.seq, last.seq].includes(each.seq) ? no(each) : each)) };
  };
  const { flusher, timer } = sender(queue, send);
  await flusher.flush();
  assert.deepEqual(seqs(await queue.all()), seqs([refused, saved, last])); // `last` was made on `saved`
  assert.deepEqual(seqs(queue.verdicts), seqs([first, second]));
  assert.deepEqual([sent.length, timer.delays.length], [1, 1]); // not again and again
  await flusher.flush();
  assert.deepEqual(sent[1], [refused.id, saved.id, last.id]);
  queue.full = false;
  await flusher.flush();
  assert.deepEqual((await queue.all()).map(({ state }) => state), ["refused", "done", "refused"]);
});

test("an edit after a saved one that the server now rejects is rejected, not sent forever", async () => {
  const saved = done("a", 2);
  const behind = edit("a");
  const queue = new Memory(saved, behind);
  let calls = 0;
  const send = async () => {
    calls += 1;
    const no = { status: "rejected", problem: { detail: "No." } };
    return {
      status: 200,
      results: [{ seq: saved.seq, ...no, code: "forbidden" }, { seq: behind.seq, ...no, code: "blocked_by", blocked_by: saved.seq }],
    };
  };
  const { flusher } = sender(queue, send);
  await flusher.flush();
  assert.equal(calls, 1);
  assert.deepEqual((await queue.all()).map(({ state, verdict }) => [state, verdict.code]), [
    ["done", undefined],
    ["refused", "forbidden"],
  ]);
});

test("a round without progress is retried later, not at once", async () => {
  const queue = new Memory(edit("a"));
  const send = async (body) => ({ status: 200, results: [{ seq: JSON.parse(body).mutations[0].seq + 1, status: "applied" }] });
  const { flusher, timer } = sender(queue, send);
  await flusher.flush();
  assert.deepEqual(timer.delays, [2000]);
});

test("a lost response leaves the edit as sent, and the network is checked", async () => {
  const queue = new Memory(edit("a"));
  const { flusher, network } = sender(queue, async () => Promise.reject(new TypeError("lost")));
  await flusher.flush();
  assert.equal(network.state, "offline");
  assert.deepEqual((await queue.all()).map(({ state, tried }) => [state, tried]), [["waiting", true]]);
});

test("no edit is sent for another person or without a session", async () => {
  for (const [person, state] of [[8, "other"], [null, "signed_out"]]) {
    const queue = new Memory(edit("a"));
    const { flusher, network } = sender(queue, () => assert.fail("sent"), { person });
    await flusher.flush();
    assert.equal(network.state, state);
    assert.equal((await queue.all())[0].tried, undefined);
  }
});

test("Retry-After of a busy server is respected, and delays grow", async () => {
  const queue = new Memory(edit("a"));
  const { flusher, timer } = sender(queue, async () => ({ status: 429, retryAfter: 30 }));
  for (let round = 0; round < 3; round += 1) await flusher.flush();
  assert.deepEqual(timer.delays, [32_000, 34_000, 38_000]);
});

test("an edit that causes server errors is rejected, and the others are sent", async () => {
  const [good, bad, behind] = [edit("a"), edit("poison"), edit("b")];
  const queue = new Memory(good, bad, behind);
  const send = async (body) => (body.includes(bad.id) ? { status: 500 } : applied(body));
  const { flusher } = sender(queue, send);
  for (let round = 0; round < 6; round += 1) await flusher.flush();
  const states = Object.fromEntries((await queue.all()).map(({ stream, state, verdict }) => [stream, [state, verdict?.code]]));
  assert.deepEqual(states, { a: ["done", undefined], poison: ["refused", "server_error"], b: ["done", undefined] });
});

test("an edit cancelled just before sending is not sent", async () => {
  const [gone, stays] = [edit("a"), edit("b")];
  const queue = new Memory(gone, stays);
  const put = queue.put.bind(queue);
  queue.put = async (...parts) => {
    queue.edits.delete(gone.seq);
    return put(...parts);
  };
  const sent = [];
  const { flusher } = sender(queue, async (body) => {
    sent.push(...JSON.parse(body).mutations.map(({ id }) => id));
    return applied(body);
  });
  await flusher.flush();
  assert.deepEqual(sent, [stays.id]);
});
