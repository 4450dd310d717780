import assert from "node:assert/strict";
import { test } from "node:test";

import { HandlerTable, TopicTable } from "../../realtime/static/realtime/subscription.js";

const old = (position) => ({ epoch: "old", position });
const subscribed = (position, more = {}) => ({ type: "subscribed", topics: ["users"], denied: [], position, ...more });

function pair(names = ["users"], since = old(10)) {
  const table = new TopicTable();
  const handlers = new HandlerTable();
  const log = [];
  const handler = {
    onEvent: (frame) => log.push(frame.position),
    onReset: (frame) => log.push([frame.reason, ...frame.topics]),
  };
  const show = (frame) => {
    const { show: shown } = table.take(frame);
    if (shown) handlers.take(structuredClone(shown));
  };
  handlers.add(names, handler, since);
  table.want(names, since);
  show({ type: "welcome", epoch: "old" });
  for (const name of names) show(subscribed(12, { topics: [name], epoch: "old" }));
  return { table, handlers, log, show, handler };
}

const event = (position, topics = ["users"]) => ({ type: "event", topics, position, previous: 0 });

test("ping of a continued history renames the positions and loses no event", () => {
  const { table, handlers, log, show } = pair();
  show(event(15));
  show({ type: "ping", n: 0, position: 15, epoch: "new" });
  show(event(17));
  assert.deepEqual(log, [15, 17]);
  assert.deepEqual(table.take({ type: "welcome", epoch: "new" }).send[0].since, { epoch: "new", position: 17 });
  assert.deepEqual(handlers.positions(), { epoch: "new", positions: { users: 17 } });
});

test("subscription that is answered in another history continues in it", () => {
  const { table, log, show } = pair();
  const { send } = table.take({ type: "welcome", epoch: "new" });
  assert.deepEqual(send[0].since, old(12));
  show({ ...event(14), replayed: true });
  show(subscribed(14, { epoch: "new" }));
  show(event(16));
  assert.deepEqual(log, [14, 16]);
  assert.deepEqual(table.take({ type: "welcome", epoch: "new" }).send[0].since, { epoch: "new", position: 16 });
});

test("topic that is not confirmed in the new history keeps its position of the old one", () => {
  const { table, handlers, show } = pair(["users", "forms"]);
  table.take({ type: "welcome", epoch: "new" });
  show(subscribed(14, { epoch: "new" }));
  assert.deepEqual(handlers.requests(), [
    [["users"], { epoch: "new", position: 14 }],
    [["forms"], old(12)],
  ]);
  assert.deepEqual(handlers.positions(), { epoch: "new", positions: { users: 14 } });
});

test("handler that is ahead of the new history has to reload", () => {
  const { handlers, log, show, handler } = pair();
  handlers.add(["users"], handler, old(30)); // the page was rendered by a process that was further
  show({ type: "ping", n: 0, position: 15, epoch: "new" });
  assert.deepEqual(log, [["epoch", "users"]]);
});
