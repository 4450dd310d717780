import { Alarm, fullJitter } from "./timer.js";

export const SUBPROTOCOL = "formease.admin.v1";
const STABLE_MS = 30_000; // connected this long, and the next failure is a first one again
const HANDSHAKE_MS = 15_000;
const BROKEN_CHAIN = 4400;
export const REVOKED = 4505;

/**
 * One socket that heals itself. It knows the frames that keep it alive (ping, credit, goodbye) and the chain of
 * `previous`; everything else goes to `onFrame`. What is followed, and from where, is the business of `onFrame`'s owner,
 * who subscribes again on every `welcome`.
 *
 * States: connecting, live, reconnecting, stopped (the server said that coming back is pointless; `reason` and `code`
 * tell why). A connection belongs to one session, `session` or that of its first `welcome`: a cookie may be somebody
 * else's by the time it comes back, and then it stops as if it had been revoked, before anything is asked for.
 */
export class Connection {
  #socket = null;
  #attempt = 0;
  #previous = 0;
  #unackedFrames = 0;
  #unackedBytes = 0;
  #welcome = null;
  #goodbye = null;
  #liveSince = null;
  #retry;
  #watchdog;

  constructor({ url, session = null, onFrame, onState, environment = globalThis }) {
    this.url = url;
    this.session = session;
    this.state = "connecting";
    this.reason = null;
    this.code = null;
    this.onFrame = onFrame;
    this.onState = onState;
    this.environment = environment;
    this.#retry = new Alarm(() => this.#open(), environment);
    this.#watchdog = new Alarm(() => this.#giveUp(), environment);
  }

  start() {
    if (this.#socket === null && !this.#retry.pending) this.#open();
  }

  stop() {
    this.#become("stopped", "closed");
    this.#retry.clear();
    this.#drop(1000);
  }

  get standing() {
    return { state: this.state, reason: this.reason, code: this.code };
  }

  /** Send a frame; false when there is no live connection (its effect is restored on the next welcome). */
  send(frame) {
    if (this.state !== "live") return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** The network or the reader is back: try within a second instead of waiting out the back-off. */
  hurry() {
    if (this.#retry.pending) this.#retry.set(this.environment.Math.random() * 1000);
  }

  #open() {
    const socket = new this.environment.WebSocket(this.url, [SUBPROTOCOL]);
    this.#socket = socket;
    this.#previous = this.#unackedFrames = this.#unackedBytes = 0;
    this.#goodbye = null;
    this.#watchdog.set(HANDSHAKE_MS);
    socket.onmessage = (message) => socket === this.#socket && this.#read(message.data);
    socket.onclose = (event) => socket === this.#socket && this.#closed(event.code);
  }

  #read(text) {
    this.#watchdog.set(this.#welcome ? this.#welcome.heartbeat_ms * 1.5 + 5_000 : HANDSHAKE_MS);
    const frame = JSON.parse(text);
    switch (frame.type) {
      case "welcome":
        if (this.session !== null && frame.session !== undefined && frame.session !== this.session) {
          this.#goodbye = { reason: "another session" };
          this.#closed(REVOKED);
          return;
        }
        this.session ??= frame.session ?? null;
        this.#welcome = frame;
        this.#liveSince = this.environment.Date.now();
        this.#become("live", null);
        break;
      case "ping":
        this.send({ type: "pong", n: frame.n });
        break;
      case "goodbye":
        this.#goodbye = frame;
        return;
      case "event":
        if (frame.previous !== this.#previous) {
          this.#closed(BROKEN_CHAIN); // something was lost on the way: come back and resume
          return;
        }
        this.#previous = frame.position;
        break;
    }
    this.onFrame(frame);
    if (frame.type === "event") this.#returnCredit(frame.position, text.length);
  }

  #returnCredit(position, size) {
    const credit = this.#welcome.limits.credit;
    this.#unackedFrames += 1;
    this.#unackedBytes += size;
    if (this.#unackedFrames >= credit.ack_frames || this.#unackedBytes >= credit.ack_bytes) {
      this.#unackedFrames = this.#unackedBytes = 0;
      this.send({ type: "ack", position });
    }
  }

  #giveUp() {
    this.#closed(1006); // nothing heard for too long: a half-open connection never says so itself
  }

  #closed(code) {
    this.#drop(code === BROKEN_CHAIN ? BROKEN_CHAIN : 1000);
    if (code >= 4500 && code <= 4999) {
      this.code = code;
      this.#become("stopped", this.#goodbye?.reason ?? String(code));
      return;
    }
    const stable = this.#liveSince !== null && this.environment.Date.now() - this.#liveSince > STABLE_MS;
    this.#attempt = stable ? 0 : this.#attempt + 1;
    this.#liveSince = null;
    const { retry_min_ms: min = 500, retry_max_ms: max = 20_000 } = this.#welcome?.limits ?? {};
    const wait = this.#goodbye?.retry_ms ?? fullJitter(this.#attempt, min, max, this.environment.Math.random);
    this.#become(this.#welcome === null ? "connecting" : "reconnecting", this.#goodbye?.reason ?? null);
    this.#retry.set(wait);
  }

  #drop(code) {
    this.#watchdog.clear();
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) socket.close(code);
  }

  #become(state, reason) {
    const changed = state !== this.state;
    this.state = state;
    this.reason = reason;
    if (changed) this.onState(state, reason, this.code);
  }
}
