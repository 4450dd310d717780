import { Connection } from "./connection.js";
import { busiest } from "./presence.js";
import { Wire } from "./subscription.js";
import { Alarm } from "./timer.js";

const LEADER_SILENT_MS = 45_000;

/**
 * The end of the line in the tab that holds the socket: one connection for the wishes of many tabs. `tell(frame, tab)`
 * hands a frame to every tab, or to one.
 */
export class Trunk {
  #wire = new Wire();
  #tabs = new Map(); // id -> { topics: Set, presence: Map(topic -> {state, field}), hidden }
  #said = new Map(); // topic -> what we last said there
  #hidden = false;

  constructor({ url, session, tell, environment }) {
    this.tell = tell;
    this.connection = new Connection({
      url,
      session,
      environment,
      onFrame: (frame) => this.#take(frame),
      onState: (state, reason, code) => {
        if (state !== "live") this.#wire.lost();
        tell({ type: "state", state, reason, code });
      },
    });
  }

  start() {
    this.connection.start();
  }

  stop() {
    this.connection.stop();
  }

  /** A tab wants something. */
  hear(tab, wish) {
    const known = this.#tabs.get(tab) ?? { topics: new Set(), presence: new Map(), hidden: false };
    this.#tabs.set(tab, known);
    switch (wish.type) {
      case "join":
        this.tell({ type: "state", ...this.connection.standing }, tab);
        break;
      case "want":
        for (const name of wish.topics) known.topics.add(name);
        this.#send(this.#wire.want(wish.topics, wish.since));
        for (const frame of this.#wire.told(wish.topics)) this.tell(frame, tab);
        break;
      case "drop":
        for (const name of wish.topics) known.topics.delete(name);
        this.#release(wish.topics);
        break;
      case "presence":
        known.presence.set(wish.topic, wish);
        if (wish.state === "gone") known.presence.delete(wish.topic);
        this.#sayPresence(wish.topic);
        break;
      case "hidden":
        known.hidden = wish.hidden;
        this.#sayHidden();
        break;
      case "hurry":
        this.connection.hurry();
        break;
    }
  }

  /** A tab is gone, with everything it wanted. */
  forget(tab) {
    const known = this.#tabs.get(tab);
    if (known === undefined) return;
    this.#tabs.delete(tab);
    this.#release([...known.topics]);
    for (const topic of known.presence.keys()) this.#sayPresence(topic);
    this.#sayHidden();
  }

  #take(frame) {
    const { send, show } = this.#wire.take(frame);
    if (frame.type === "welcome") {
      this.#said.clear();
      this.#hidden = false;
      this.#sayHidden();
    }
    this.#send(send);
    if (show !== null) this.tell(show);
    if (frame.type === "subscribed") for (const topic of frame.topics) this.#sayPresence(topic);
  }

  #release(names) {
    const wanted = new Set([...this.#tabs.values()].flatMap((tab) => [...tab.topics]));
    this.#send(this.#wire.drop(names.filter((name) => !wanted.has(name))));
  }

  #sayPresence(topic) {
    const here = [...this.#tabs.values()].map((tab) => tab.presence.get(topic)).filter(Boolean);
    const { state, field } = busiest(here) ?? { state: "gone", field: null };
    const said = this.#said.get(topic) ?? { state: "gone", field: null };
    if (said.state === state && said.field === field) return;
    if (this.connection.send({ type: "presence", topic, state, field })) this.#said.set(topic, { state, field });
  }

  #sayHidden() {
    const hidden = this.#tabs.size > 0 && [...this.#tabs.values()].every((tab) => tab.hidden);
    if (hidden !== this.#hidden && this.connection.send({ type: "visibility", hidden })) this.#hidden = hidden;
  }

  #send(frames) {
    for (const frame of frames) this.connection.send(frame); // not live: `welcome` asks for all of it again
  }
}

/**
 * A tab's end of the line. With Web Locks and BroadcastChannel the tabs of a session elect one that holds the socket;
 * without them, or when that tab falls silent, a tab has a socket of its own. So has a tab that does not know its
 * session: the tabs of a browser may be of different people, one after the other.
 *
 * `onFrame` gets every frame; `onJoin` is called whenever there is a new other end: ask for everything again.
 */
export class Line {
  #id;
  #url;
  #session;
  #name; // of the lock and the channel
  #environment;
  #trunk = null;
  #channel = null;
  #leader = null; // the id of the tab that holds the socket
  #release = null;
  #stopped = false;
  #silence;

  constructor({ url, session = null, shared = true, onFrame, onJoin, environment = globalThis }) {
    this.#id = environment.crypto.randomUUID();
    this.#url = url;
    this.#session = session;
    this.#name = `realtime:${url}:${session}`;
    this.#environment = environment;
    this.onFrame = onFrame;
    this.onJoin = onJoin;
    this.#silence = new Alarm(() => this.#standAlone(), environment);
    this.shared = shared && session !== null && Boolean(environment.navigator?.locks && environment.BroadcastChannel);
  }

  start() {
    this.#stopped = false;
    if (!this.shared) {
      this.#lead();
      return;
    }
    this.#channel = new this.#environment.BroadcastChannel(this.#name);
    this.#channel.onmessage = (message) => this.#hear(message.data);
    this.#hold(`realtime-tab:${this.#id}`);
    this.#hold(this.#name, () => this.#lead());
    this.#post({ to: "leader", wish: { type: "join" } });
    this.#silence.set(LEADER_SILENT_MS);
  }

  stop() {
    this.#stopped = true;
    this.#silence.clear();
    if (!this.#trunk) this.#post({ to: "leader", gone: true });
    this.#trunk?.stop();
    this.#trunk = null;
    this.#release?.();
    this.#channel?.close();
    this.#channel = null;
  }

  /** Ask for something; it reaches the socket, here or in another tab. */
  wish(wish) {
    if (this.#trunk) this.#trunk.hear(this.#id, wish);
    else this.#post({ to: "leader", wish });
  }

  /** Hold a lock until we stop (or the tab dies, however it dies). */
  #hold(name, then = () => {}) {
    const controller = new this.#environment.AbortController();
    const before = this.#release;
    let end = () => controller.abort();
    this.#release = () => {
      before?.();
      end();
    };
    this.#environment.navigator.locks
      .request(name, { signal: controller.signal }, () => {
        if (this.#stopped) return undefined;
        const held = new Promise((resolve) => (end = resolve));
        then();
        return held;
      })
      .catch((error) => {
        if (error.name !== "AbortError") this.#standAlone();
      });
  }

  #lead() {
    if (this.#stopped) return;
    this.#silence.clear();
    this.#leader = this.#id;
    if (this.#trunk === null) this.#openTrunk();
    if (this.shared) this.#post({ to: "tabs", leader: true });
  }

  /** The tab that holds the socket does not speak: have our own, and keep waiting in line for the lock. */
  #standAlone() {
    if (this.#stopped || this.#trunk) return;
    this.#openTrunk();
  }

  #openTrunk() {
    const tell = (frame, tab) => {
      if (tab === undefined || tab === this.#id) this.onFrame(frame);
      if (tab !== this.#id && this.#leader === this.#id) this.#post({ to: tab ?? "tabs", frame });
    };
    this.#trunk = new Trunk({ url: this.#url, session: this.#session, tell, environment: this.#environment });
    this.#trunk.start();
    this.#trunk.hear(this.#id, { type: "join" });
    this.onJoin();
  }

  #hear(message) {
    if (message.to === "leader" && this.#leader === this.#id) {
      if (message.gone) this.#trunk.forget(message.from);
      else {
        if (message.wish.type === "join") this.#welcome(message.from);
        this.#trunk.hear(message.from, message.wish);
      }
    } else if ((message.to === "tabs" || message.to === this.#id) && this.#leader !== this.#id && !this.#trunk) {
      this.#silence.set(LEADER_SILENT_MS);
      if (message.leader) {
        const news = this.#leader !== message.from;
        this.#leader = message.from;
        if (news) {
          this.#post({ to: "leader", wish: { type: "join" } });
          this.onJoin();
        }
      } else if (this.#leader === message.from) {
        this.onFrame(message.frame);
      }
    }
  }

  /** A tab has come to us; its lock tells when it dies without a word. */
  #welcome(tab) {
    this.#post({ to: tab, leader: true });
    this.#environment.navigator.locks.request(`realtime-tab:${tab}`, () => this.#trunk?.forget(tab));
  }

  #post(message) {
    this.#channel?.postMessage({ ...message, from: this.#id });
  }
}
