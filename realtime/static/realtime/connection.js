import { Timer, fullJitter } from "./timer.js";

export const SUBPROTOCOL = "formease.admin.v1";
const STABLE_MS = 30_000; // after this long connected, the back-off starts again at its minimum
const HANDSHAKE_MS = 15_000;
const BROKEN_CHAIN = 4400;
export const REVOKED = 4505;

/**
 * A socket that reconnects by itself. It handles the frames that keep it alive (ping, credit, goodbye) and checks the
 * chain of `previous`; every frame but `goodbye` also goes to `onFrame`. The owner of `onFrame` knows what is followed
 * and from where, and subscribes again on every `welcome`.
 *
 * States: connecting, live, reconnecting, stopped (the server closed with a code that forbids reconnecting; see
 * `reason` and `code`). A connection belongs to one session, `session` or that of its first `welcome`. By the time it
 * reconnects the cookie may be another person's; then it stops as if it had been revoked, before it subscribes.
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
    this.#retry = new Timer(() => this.#open(), environment);
    this.#watchdog = new Timer(() => this.#silent(), environment);
  }

  start() {
    if (this.#socket === null && !this.#retry.pending) this.#open();
  }

  stop() {
    this.#become("stopped", "closed");
    this.#retry.clear();
    this.#drop(1000);
  }

  get status() {
    return { state: this.state, reason: this.reason, code: this.code };
  }

  /** Send a frame; returns false without a live connection (the next `welcome` restores its effect). */
  send(frame) {
    if (this.state !== "live") return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** The network is back or the page is visible: retry within a second instead of after the back-off. */
  retrySoon() {
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
          this.#closed(BROKEN_CHAIN); // a frame was lost: reconnect and resume
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

  #silent() {
    this.#closed(1006); // no frame for too long: a half-open connection fires no event
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
