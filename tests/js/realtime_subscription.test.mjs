import assert from "node:assert/strict";
import { test } from "node:test";

import { parse } from "../../realtime/static/realtime/index.js";
import { busiest } from "../../realtime/static/realtime/presence.js";
import { Book, Wire } from "../../realtime/static/realtime/subscription.js";
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

test("a welcome subscribes again from where each topic stands", () => {
  const wire = new Wire();
  wire.want(["users"], at(10));
  wire.want(["forms"], null);
  wire.take(welcome);
  wire.take(subscribed(12));
  wire.take(event(15));
  const { send } = wire.take(welcome);
  assert.deepEqual(
    send.map(({ topics, since }) => [topics, since?.position]),
    [
      [["users"], 15],
      [["forms"], undefined],
    ],
  );
});

test("a ping moves what is followed, never what still has to catch up", () => {
  const wire = new Wire();
  wire.want(["users"], at(10));
  wire.take(welcome);
  wire.take({ type: "ping", n: 1, position: 50 });
  assert.equal(wire.take(welcome).send[0].since.position, 10);
  wire.take(subscribed(20));
  wire.take({ type: "ping", n: 2, position: 60 });
  assert.equal(wire.take(welcome).send[0].since.position, 60);
});

test("a tab that asks for an older position gets everything after it, in order, and others see nothing twice", () => {
  const wire = new Wire();
  const [early, late] = [new Book(), new Book()];
  const [first, second] = [recorder(), recorder()];
  const show = (frame) => {
    const { send, show: told } = wire.take(frame);
    if (told) for (const book of [early, late]) book.take(structuredClone(told));
    return send;
  };
  early.add(["users"], first, at(100));
  wire.want(["users"], at(100));
  show(welcome);
  show(subscribed(100));
  show(event(101));
  late.add(["users"], second, at(98));
  assert.equal(wire.want(["users"], at(98))[0].since.position, 98);
  show(event(102)); // still of the first subscription: the replay brings it again
  for (const position of [99, 100, 101, 102]) show(replayed(position));
  show(subscribed(102));
  show(event(103));
  assert.deepEqual(first.seen, [101, 102, 103]);
  assert.deepEqual(second.seen, [99, 100, 101, 102, 103]);
});

test("a second wish waits until the first request for the topic is answered", () => {
  const wire = new Wire();
  wire.take(welcome);
  assert.equal(wire.want(["users"], at(50)).length, 1);
  assert.equal(wire.want(["users"], at(20)).length, 0);
  const { send } = wire.take(subscribed(60));
  assert.deepEqual(send.map((frame) => frame.since), [at(20)]);
});

test("a topic dropped while it catches up is let go when it has arrived", () => {
  const wire = new Wire();
  wire.take(welcome);
  wire.want(["users"], at(50));
  assert.deepEqual(wire.drop(["users"]), []);
  assert.equal(wire.take(subscribed(60)).send[0].type, "unsubscribe");
});

test("two handlers of one tab have their own positions", () => {
  const book = new Book();
  const [first, second] = [recorder(), recorder()];
  book.add(["users"], first, at(10));
  book.add(["users"], second, at(12));
  for (const position of [11, 12, 13]) book.take(shown(replayed(position), position - 1));
  assert.deepEqual(first.seen, [11, 12, 13]);
  assert.deepEqual(second.seen, [13]);
  assert.deepEqual(book.wants(), [[["users"], at(13)]]);
});

test("a handler that begins now is not shown what others have replayed", () => {
  const book = new Book();
  const now = recorder();
  book.add(["users"], now, null);
  book.take(shown(replayed(5), 4));
  book.take(shown(subscribed(6, { epoch: EPOCH }), 5));
  book.take(shown(event(7), 6));
  assert.deepEqual(now.seen, [7]);
});

test("a reset forgets the topic before the handler hears of it, so that it can subscribe again", () => {
  const book = new Book();
  const wanted = [];
  const handler = {
    onReset: ({ epoch, position }) => {
      assert.deepEqual(book.wants(), []);
      book.add(["users"], handler, { epoch, position });
      wanted.push(...book.wants());
    },
  };
  book.add(["users"], handler, at(10));
  book.take({ type: "reset", topics: ["users"], reason: "epoch", epoch: "e2", position: 3 });
  assert.deepEqual(wanted, [[["users"], { epoch: "e2", position: 3 }]]);
});

test("any interleaving of wishes and events shows every handler each event after its position once, in order", () => {
  for (let seed = 1; seed <= 300; seed++) interleave(seed);
});

/** A server with one topic, and tabs that come with positions of their own while events happen. */
function interleave(seed) {
  const random = generator(seed);
  const wire = new Wire();
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
    const { send: answers, show } = wire.take(frame);
    welcomed ||= frame.type === "welcome";
    send(answers);
    if (show) for (const tab of tabs) tab.book.take(structuredClone(show));
  };
  toClient.push(welcome);
  for (let step = 0; step < 60 || toServer.length || toClient.length; step++) {
    const dice = random();
    if (step < 60 && dice < 0.25) {
      head++;
      if (live) toClient.push(event(head));
    } else if (step < 60 && dice < 0.35 && tabs.length < 5) {
      const tab = { book: new Book(), since: Math.floor(random() * head), ...recorder() };
      tab.book.add(["users"], tab, at(tab.since));
      tabs.push(tab);
      send(wire.want(["users"], at(tab.since)));
      for (const frame of wire.told(["users"])) tab.book.take(frame);
    } else if (step < 60 && dice < 0.4) {
      toServer.length = toClient.length = 0; // the connection breaks, and everything on its way with it
      live = welcomed = false;
      wire.lost();
      toClient.push(welcome);
    } else if (dice < 0.7 && toServer.length) handle(toServer.shift());
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

test("full jitter stays below the doubled bound and below the longest wait", () => {
  assert.equal(fullJitter(0, 500, 20_000, () => 0.5), 250);
  assert.equal(fullJitter(3, 500, 20_000, () => 1), 4000);
  assert.equal(fullJitter(40, 500, 20_000, () => 1), 20_000);
  assert.equal(fullJitter(40, 500, 20_000, () => 0), 0);
});

test("the busiest tab speaks for the browser", () => {
  const tabs = [{ state: "idle" }, { state: "editing", field: "email" }, { state: "viewing" }];
  assert.deepEqual(busiest(tabs), { state: "editing", field: "email" });
  assert.equal(busiest([]), null);
});

test("a page's stamp is read back, and nonsense is no stamp", () => {
  assert.deepEqual(parse("0190-ab:42"), { epoch: "0190-ab", position: 42 });
  assert.equal(parse("42"), null);
  assert.equal(parse("e:x"), null);
  assert.equal(parse(null), null);
});
