// Sending queued edits: which rejected requests blame the edit that was sent.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Flusher } from "../../backoffice/static/backoffice/offline/flusher.js";

const EDIT = { seq: 1, id: "a", stream: "user-1", type: "user.update", key: "1", fields: {}, state: "waiting" };

/** The edit after `rounds` rounds that the server answers with `answer`. */
async function sentTo(answer, rounds) {
  let edits = [EDIT];
  const queue = {
    person: 1,
    all: async () => edits,
    put: async (changed) => (edits = edits.map((edit) => changed.find(({ seq }) => seq === edit.seq) ?? edit)),
  };
  const flusher = new Flusher({
    queue,
    client: "test",
    network: { ask: async () => "online", lost: () => {} },
    send: async () => answer,
    timer: { set: () => {}, clear: () => {} },
    pause: () => 0,
    locks: { request: (_name, work) => work() },
  });
  for (let round = 0; round < rounds; round++) await flusher.flush();
  return edits[0];
}

for (const [answer, code] of [
  [{ status: 403, ours: false }, "blocked"],
  [{ status: 413, ours: false }, "too_large"],
  [{ status: 500, ours: true }, "server_error"],
]) {
  test(`an edit that is answered ${answer.status} three times is rejected as ${code}`, async () => {
    assert.equal((await sentTo(answer, 2)).state, "waiting");
    const edit = await sentTo(answer, 3);
    assert.deepEqual([edit.state, edit.verdict.code], ["refused", code]);
  });
}

for (const answer of [{ status: 403, ours: true }, { status: 429, ours: false }, { status: 502, ours: false }]) {
  test(`an edit waits while requests are answered ${answer.status}`, async () => {
    assert.equal((await sentTo(answer, 9)).state, "waiting");
  });
}
