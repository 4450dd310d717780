import { Connection } from "./connection.js";
import { busiest } from "./presence.js";
import { TopicTable } from "./subscription.js";
import { Timer } from "./timer.js";

const LEADER_SILENT_MS = 45_000;

/**
 * The leader of a session's tabs: it owns the only connection and handles the requests of all tabs.
 * `deliver(frame, tab)` delivers a frame to one tab, or to all tabs when `tab` is undefined.
 */
export class TabLeader {
  #topics = new TopicTable();
  #tabs = new Map(); // id -> { topics: Set, presence: Map(topic -> {state, field}), hidden }
  #sent = new Map(); // topic -> presence last sent for this browser
  #hidden = false;

  constructor({ url, session, deliver, environment }) {
    this.deliver = deliver;
    this.connection = new Connection({
      url,
      session,
      environment,
      onFrame: (frame) => this.#take(frame),
      onState: (state, reason, code) => {
        if (state !== "live") this.#topics.lost();
        deliver({ type: "state", state, reason, code });
      },
    });
  }

  start() {
    this.connection.start();
  }

  stop() {
    this.connection.stop();
  }

  /** Handle a request of a tab. */
  handle(tab, request) {
    const known = this.#tabs.get(tab) ?? { topics: new Set(), presence: new Map(), hidden: false };
    this.#tabs.set(tab, known);
    switch (request.type) {
      case "join":
        this.deliver({ type: "state", ...this.connection.status }, tab);
        break;
      case "want":
        for (const name of request.topics) known.topics.add(name);
        this.#send(this.#topics.want(request.topics, request.since));
        for (const frame of this.#topics.current(request.topics)) this.deliver(frame, tab);
        break;
      case "drop":
        for (const name of request.topics) known.topics.delete(name);
        this.#release(request.topics);
        break;
      case "presence":
        known.presence.set(request.topic, request);
        if (request.state === "gone") known.presence.delete(request.topic);
        this.#sendPresence(request.topic);
        break;
      case "hidden":
        known.hidden = request.hidden;
        this.#sendHidden();
        break;
      case "hurry":
        this.connection.retrySoon();
        break;
    }
  }

  /** A tab has closed: drop its topics and its presence. */
  removeTab(tab) {
    const known = this.#tabs.get(tab);
    if (known === undefined) return;
    this.#tabs.delete(tab);
    this.#release([...known.topics]);
    for (const topic of known.presence.keys()) this.#sendPresence(topic);
    this.#sendHidden();
  }

  #take(frame) {
    const { send, show } = this.#topics.take(frame);
    if (frame.type === "welcome") {
      this.#sent.clear();
      this.#hidden = false;
      this.#sendHidden();
    }
    this.#send(send);
    if (show !== null) this.deliver(show);
    if (frame.type === "subscribed") for (const topic of frame.topics) this.#sendPresence(topic);
  }

  #release(names) {
    const wanted = new Set([...this.#tabs.values()].flatMap((tab) => [...tab.topics]));
    this.#send(this.#topics.drop(names.filter((name) => !wanted.has(name))));
  }

  #sendPresence(topic) {
    const present = [...this.#tabs.values()].map((tab) => tab.presence.get(topic)).filter(Boolean);
    const { state, field } = busiest(present) ?? { state: "gone", field: null };
    const sent = this.#sent.get(topic) ?? { state: "gone", field: null };
    if (sent.state === state && sent.field === field) return;
    if (this.connection.send({ type: "presence", topic, state, field })) this.#sent.set(topic, { state, field });
  }

  #sendHidden() {
    const hidden = this.#tabs.size > 0 && [...this.#tabs.values()].every((tab) => tab.hidden);
    if (hidden !== this.#hidden && this.connection.send({ type: "visibility", hidden })) this.#hidden = hidden;
  }

  #send(frames) {
    for (const frame of frames) this.connection.send(frame); // dropped while not live; `welcome` subscribes again
  }
}

/**
 * A tab's access to the session's connection. With Web Locks and BroadcastChannel the tabs of a session elect a leader
 * that owns the socket. Without them, or when the leader is silent, a tab opens a socket of its own. So does a tab that
 * does not know its session, because different people may use the tabs of a browser one after the other.
 *
 * `onFrame` gets every frame. `onJoin` is called for each new leader, which needs all requests again.
 */
export class TabClient {
  #id;
  #url;
  #session;
  #name; // of the lock and the channel
  #environment;
  #tabLeader = null;
  #channel = null;
  #leaderId = null; // the tab that owns the socket
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
    this.#silence = new Timer(() => this.#standAlone(), environment);
    this.shared = shared && session !== null && Boolean(environment.navigator?.locks && environment.BroadcastChannel);
  }

  start() {
    this.#stopped = false;
    if (!this.shared) {
      this.#lead();
      return;
    }
    this.#channel = new this.#environment.BroadcastChannel(this.#name);
    this.#channel.onmessage = (message) => this.#receive(message.data);
    this.#hold(`realtime-tab:${this.#id}`);
    this.#hold(this.#name, () => this.#lead());
    this.#post({ to: "leader", wish: { type: "join" } });
    this.#silence.set(LEADER_SILENT_MS);
  }

  stop() {
    this.#stopped = true;
    this.#silence.clear();
    if (!this.#tabLeader) this.#post({ to: "leader", gone: true });
    this.#tabLeader?.stop();
    this.#tabLeader = null;
    this.#release?.();
    this.#channel?.close();
    this.#channel = null;
  }

  /** Send a request to the leader, in this tab or in another one. */
  request(request) {
    if (this.#tabLeader) this.#tabLeader.handle(this.#id, request);
    else this.#post({ to: "leader", wish: request }); // tabs of older releases read `wish`
  }

  /** Hold a lock until `stop` is called or the tab ends, even by a crash. */
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
    this.#leaderId = this.#id;
    if (this.#tabLeader === null) this.#openConnection();
    if (this.shared) this.#post({ to: "tabs", leader: true });
  }

  /** The leader is silent: open a socket of our own, and keep waiting for the lock. */
  #standAlone() {
    if (this.#stopped || this.#tabLeader) return;
    this.#openConnection();
  }

  #openConnection() {
    const deliver = (frame, tab) => {
      if (tab === undefined || tab === this.#id) this.onFrame(frame);
      if (tab !== this.#id && this.#leaderId === this.#id) this.#post({ to: tab ?? "tabs", frame });
    };
    const environment = this.#environment;
    this.#tabLeader = new TabLeader({ url: this.#url, session: this.#session, deliver, environment });
    this.#tabLeader.start();
    this.#tabLeader.handle(this.#id, { type: "join" });
    this.onJoin();
  }

  #receive(message) {
    if (message.to === "leader" && this.#leaderId === this.#id) {
      if (message.gone) this.#tabLeader.removeTab(message.from);
      else {
        if (message.wish.type === "join") this.#welcome(message.from);
        this.#tabLeader.handle(message.from, message.wish);
      }
    } else if ((message.to === "tabs" || message.to === this.#id) && this.#leaderId !== this.#id && !this.#tabLeader) {
      this.#silence.set(LEADER_SILENT_MS);
      if (message.leader) {
        const isNew = this.#leaderId !== message.from;
        this.#leaderId = message.from;
        if (isNew) {
          this.#post({ to: "leader", wish: { type: "join" } });
          this.onJoin();
        }
      } else if (this.#leaderId === message.from) {
        this.onFrame(message.frame);
      }
    }
  }

  /** Acknowledge a tab that joined. Its lock becomes free when it ends, even by a crash. */
  #welcome(tab) {
    this.#post({ to: tab, leader: true });
    this.#environment.navigator.locks.request(`realtime-tab:${tab}`, () => this.#tabLeader?.removeTab(tab));
  }

  #post(message) {
    this.#channel?.postMessage({ ...message, from: this.#id });
  }
}
