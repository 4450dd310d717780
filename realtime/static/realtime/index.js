import { Presence } from "./presence.js";
import { TabClient } from "./shared.js";
import { HandlerTable } from "./subscription.js";

/**
 * Live events of a FormEase backoffice. See docs/realtime.md for an example outside the admin.
 *
 *   const live = connect({ url: "/ws/admin/", session });  // tabs of one session share a socket
 *   live.subscribe(["users"], { since: "<epoch>:<position>", onEvent, onReset, onEphemeral });
 *   live.onState((state, reason, code) => …);   // connecting, live, reconnecting, stopped
 *   live.presence("user:1b2c…").set("viewing");
 */
export function connect(options = {}) {
  return new Live(options);
}

class Live {
  #handlers = new HandlerTable();
  #tab;
  #newTab;
  #listeners = new Set();
  #presences = new Map();
  #storage;
  #onPosition; // called with the position of every event
  #key;

  constructor({ url = "/ws/admin/", session = null, shared = true, onPosition = null, environment = globalThis } = {}) {
    this.#onPosition = onPosition;
    const address = new URL(url, environment.location?.href);
    address.protocol = address.protocol.replace("http", "ws");
    this.state = "connecting";
    this.reason = null;
    this.code = null;
    this.#key = `realtime:${address.href}`;
    this.#storage = storageOf(environment);
    this.#newTab = (of) =>
      new TabClient({
        url: address.href,
        session: of,
        shared,
        environment,
        onFrame: (frame) => this.#take(frame),
        onJoin: () => this.#askAgain(environment),
      });
    this.#tab = this.#newTab(session);
    this.#tab.start();
    this.#watch(environment);
  }

  /**
   * Follow topics. `since` is the log position of the page ({epoch, position} or "epoch:position"); `resume: true`
   * resumes where the last page of this tab ended; otherwise from now. Handlers: onEvent(event), onReset({reason,
   * epoch, position, topics}) - reload, then `restart` -, onEphemeral(value), onSubscribed(), onDenied({topic, code}).
   */
  subscribe(topics, { since = null, resume = false, ...handler } = {}) {
    const subscription = {
      topics,
      restart: (from = null) => this.#follow(topics, handler, parse(from)),
      close: () => this.#unfollow(topics, handler),
    };
    this.#follow(topics, handler, parse(since) ?? (resume ? this.#stored(topics) : null));
    return subscription;
  }

  /** Call `listener(state, reason, code)` now and on every change; returns a function that ends it. */
  onState(listener) {
    this.#listeners.add(listener);
    listener(this.state, this.reason, this.code);
    return () => this.#listeners.delete(listener);
  }

  /** The people on a topic, which this page then follows, and a way to publish this page's state there. */
  presence(topic) {
    if (!this.#presences.has(topic)) {
      const presence = new Presence(topic, (state) => this.#tab.request({ type: "presence", ...state }));
      this.#presences.set(topic, presence);
      this.#follow([topic], { onPresence: (frame) => presence.take(frame) }, null);
    }
    return this.#presences.get(topic);
  }

  /** The same person continues in another session: follow the same topics there, from their positions. */
  enter(session) {
    this.#tab.stop();
    this.#tab = this.#newTab(session);
    this.#become("connecting", null, null);
    this.#tab.start();
  }

  stop() {
    this.#save();
    this.#tab.stop();
    this.#become("stopped", "closed", null);
  }

  #follow(topics, handler, since) {
    this.#handlers.add(topics, handler, since);
    this.#tab.request({ type: "want", topics, since });
  }

  #unfollow(topics, handler) {
    const unwanted = this.#handlers.remove(topics, handler);
    if (unwanted.length) this.#tab.request({ type: "drop", topics: unwanted });
  }

  #take(frame) {
    if (frame.type === "state") this.#become(frame.state, frame.reason, frame.code ?? null);
    else {
      if (frame.type === "event") this.#onPosition?.(frame.position);
      this.#handlers.take(frame);
    }
  }

  #become(state, reason, code) {
    if (state === "reconnecting") for (const presence of this.#presences.values()) presence.clear();
    this.state = state;
    this.reason = reason;
    this.code = code;
    for (const listener of this.#listeners) listener(state, reason, code);
  }

  #askAgain(environment) {
    for (const [topics, since] of this.#handlers.requests()) this.#tab.request({ type: "want", topics, since });
    for (const presence of this.#presences.values()) presence.resend();
    this.#tab.request({ type: "hidden", hidden: environment.document?.visibilityState === "hidden" });
  }

  #watch(environment) {
    const { document } = environment;
    environment.addEventListener?.("online", () => this.#tab.request({ type: "hurry" }));
    document?.addEventListener("visibilitychange", () => {
      const hidden = document.visibilityState === "hidden";
      this.#tab.request({ type: "hidden", hidden });
      if (!hidden) this.#tab.request({ type: "hurry" });
      else this.#save();
    });
    environment.addEventListener?.("pagehide", () => this.stop());
    environment.addEventListener?.("pageshow", (event) => {
      if (!event.persisted) return;
      this.#become("connecting", null, null);
      this.#tab.start();
    });
  }

  #save() {
    this.#storage?.setItem(this.#key, JSON.stringify(this.#handlers.positions()));
  }

  /** The oldest position of the last page of this tab on these topics; null when one of them is unknown. */
  #stored(topics) {
    const { epoch, positions } = JSON.parse(this.#storage?.getItem(this.#key) ?? '{"positions":{}}');
    const known = topics.map((name) => positions[name] ?? null);
    return epoch && !known.includes(null) ? { epoch, position: Math.min(...known) } : null;
  }
}

/** "epoch:position", as pages carry it in a data attribute, or the object itself. */
export function parse(since) {
  if (typeof since !== "string") return since;
  const at = since.lastIndexOf(":");
  const position = Number(since.slice(at + 1));
  return at > 0 && Number.isSafeInteger(position) ? { epoch: since.slice(0, at), position } : null;
}

function storageOf(environment) {
  try {
    return environment.sessionStorage; // throws where a page may not store
  } catch {
    return null;
  }
}
