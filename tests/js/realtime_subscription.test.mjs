import assert from "node:assert/strict";
import { test } from "node:test";

import { parse } from "../../realtime/static/realtime/index.js";
import { busiest } from "../../realtime/static/realtime/presence.js";
import { HandlerTable, TopicTable } from "../../realtime/static/realtime/subscription.js";
import { fullJitter } from "../../realtime/static/realtime/timer.js";

const EPOCH = "e1";
const at = (position) => ({ epoch: EPOCH, position });
const event = (position, more = {}) => ({ type: "event", topics: ["users"], position, previous: 0, ...more });
const shown = (frame, after) => ({ ...frame, after: { users: after } });
const replayed = (position) => event(position, { replayed: true });
const subscribed = (position, more = {}) => ({ type: "subscribed", topics: ["users"], denied: [], position, ...more });
const welcome = { type: "welcome", epoch: EPOCH };

function recorder() {
  const seen = [];
  return { seen, onEvent: (frame) => seen.push(frame.position) };
}

test("welcome subscribes again from each topic's position", () => {
  const table = new TopicTable();
  table.want(["users"], at(10));
  table.want(["forms"], null);
  table.take(welcome);
  table.take(subscribed(12));
  table.take(event(15));
  const { send } = table.take(welcome);
  assert.deepEqual(
    send.map(({ topics, since }) => [topics, since?.position]),
    [
      [["users"], 15],
      [["forms"], undefined],
    ],
  );
});

test("ping advances live topics and no topic that still catches up", () => {
  const table = new TopicTable();
  table.want(["users"], at(10));
  table.take(welcome);
  table.take({ type: "ping", n: 1, position: 50 });
  assert.equal(table.take(welcome).send[0].since.position, 10);
  table.take(subscribed(20));
  table.take({ type: "ping", n: 2, position: 60 });
  assert.equal(table.take(welcome).send[0].since.position, 60);
});

test("tab with an older position gets every later event and other tabs get none twice", () => {
  const table = new TopicTable();
  const [early, late] = [new HandlerTable(), new HandlerTable()];
  const [first, second] = [recorder(), recorder()];
  const show = (frame) => {
    const { send, show: shownFrame } = table.take(frame);
    if (shownFrame) for (const handlers of [early, late]) handlers.take(structuredClone(shownFrame));
    return send;
  };
  early.add(["users"], first, at(100));
  table.want(["users"], at(100));
  show(welcome);
  show(subscribed(100));
  show(event(101));
  late.add(["users"], second, at(98));
  assert.equal(table.want(["users"], at(98))[0].since.position, 98);
  show(event(102)); // of the first subscription: the replay repeats it
  for (const position of [99, 100, 101, 102]) show(replayed(position));
  show(subscribed(102));
  show(event(103));
  assert.deepEqual(first.seen, [101, 102, 103]);
  assert.deepEqual(second.seen, [99, 100, 101, 102, 103]);
});

test("second request for a topic waits for the answer to the first", () => {
  const table = new TopicTable();
  table.take(welcome);
  assert.equal(table.want(["users"], at(50)).length, 1);
  assert.equal(table.want(["users"], at(20)).length, 0);
  const { send } = table.take(subscribed(60));
  assert.deepEqual(send.map((frame) => frame.since), [at(20)]);
});

test("topic dropped while it catches up is unsubscribed after its answer", () => {
  const table = new TopicTable();
  table.take(welcome);
  table.want(["users"], at(50));
  assert.deepEqual(table.drop(["users"]), []);
  assert.equal(table.take(subscribed(60)).send[0].type, "unsubscribe");
});

test("handlers of one tab have separate positions", () => {
  const handlers = new HandlerTable();
  const [first, second] = [recorder(), recorder()];
  handlers.add(["users"], first, at(10));
  handlers.add(["users"], second, at(12));
  for (const position of [11, 12, 13]) handlers.take(shown(replayed(position), position - 1));
  assert.deepEqual(first.seen, [11, 12, 13]);
  assert.deepEqual(second.seen, [13]);
  assert.deepEqual(handlers.requests(), [[["users"], at(13)]]);
});

test("handler that starts now gets no event replayed for others", () => {
  const handlers = new HandlerTable();
  const now = recorder();
  handlers.add(["users"], now, null);
  handlers.take(shown(replayed(5), 4));
  handlers.take(shown(subscribed(6, { epoch: EPOCH }), 5));
  handlers.take(shown(event(7), 6));
  assert.deepEqual(now.seen, [7]);
});

test("reset removes the topic before it calls the handler so that it may subscribe again", () => {
  const handlers = new HandlerTable();
  const wanted = [];
  const handler = {
    onReset: ({ epoch, position }) => {
      assert.deepEqual(handlers.requests(), []);
      handlers.add(["users"], handler, { epoch, position });
      wanted.push(...handlers.requests());
    },
  };
  handlers.add(["users"], handler, at(10));
  handlers.take({ type: "reset", topics: ["users"], reason: "epoch", epoch: "e2", position: 3 });
  assert.deepEqual(wanted, [[["users"], { epoch: "e2", position: 3 }]]);
});

test("any interleaving of requests and events delivers each later event once and in order", () => {
  for (let seed = 1; seed <= 300; seed++) interleave(seed);
});

/** A server with one topic, and tabs that subscribe at positions of their own while events happen. */
function interleave(seed) {
  const random = generator(seed);
  const table = new TopicTable();
  const tabs = [];
  const toServer = [];
  const toClient = [];
  let head = 5;
  let live = false;
  let welcomed = false; // before that, `Connection` sends nothing
  const send = (frames) => welcomed && toServer.push(...frames);
  const handle = (frame) => {
    if (frame.type === "unsubscribe") live = false;
    if (frame.type !== "subscribe") return;
    live = false;
    for (let p = (frame.since?.position ?? head) + 1; p <= head; p++) toClient.push(replayed(p));
    toClient.push(subscribed(head));
    live = true;
  };
  const receive = (frame) => {
    const { send: answers, show } = table.take(frame);
    welcomed ||= frame.type === "welcome";
    send(answers);
    if (show) for (const tab of tabs) tab.handlers.take(structuredClone(show));
  };
  toClient.push(welcome);
  for (let step = 0; step < 60 || toServer.length || toClient.length; step++) {
    const chance = random();
    if (step < 60 && chance < 0.25) {
      head++;
      if (live) toClient.push(event(head));
    } else if (step < 60 && chance < 0.35 && tabs.length < 5) {
      const tab = { handlers: new HandlerTable(), since: Math.floor(random() * head), ...recorder() };
      tab.handlers.add(["users"], tab, at(tab.since));
      tabs.push(tab);
      send(table.want(["users"], at(tab.since)));
      for (const frame of table.current(["users"])) tab.handlers.take(frame);
    } else if (step < 60 && chance < 0.4) {
      toServer.length = toClient.length = 0; // the connection breaks and loses all frames in transit
      live = welcomed = false;
      table.lost();
      toClient.push(welcome);
    } else if (chance < 0.7 && toServer.length) handle(toServer.shift());
    else if (toClient.length) receive(toClient.shift());
  }
  for (const { since, seen } of tabs) {
    const expected = Array.from({ length: head - since }, (_, index) => since + 1 + index);
    assert.deepEqual(seen, expected, `seed ${seed}`);
  }
}

function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

test("full jitter stays below the doubled bound and the maximum", () => {
  assert.equal(fullJitter(0, 500, 20_000, () => 0.5), 250);
  assert.equal(fullJitter(3, 500, 20_000, () => 1), 4000);
  assert.equal(fullJitter(40, 500, 20_000, () => 1), 20_000);
  assert.equal(fullJitter(40, 500, 20_000, () => 0), 0);
});

test("busiest tab determines the presence of the browser", () => {
  const tabs = [{ state: "idle" }, { state: "editing", field: "email" }, { state: "viewing" }];
  assert.deepEqual(busiest(tabs), { state: "editing", field: "email" });
  assert.equal(busiest([]), null);
});

test("log position of a page is parsed and anything else is null", () => {
  assert.deepEqual(parse("0190-ab:42"), { epoch: "0190-ab", position: 42 });
  assert.equal(parse("42"), null);
  assert.equal(parse("e:x"), null);
  assert.equal(parse(null), null);
});
