import { applyPresence } from "./subscription.js";

const BUSIEST = ["editing", "viewing", "idle"];

/** The presence of one browser on a topic: that of its busiest tab. Null when no tab is present. */
export function busiest(tabs) {
  for (const state of BUSIEST) {
    const found = [...tabs].find((tab) => tab.state === state);
    if (found) return found;
  }
  return null;
}

/** The people on a topic, in the same order for every viewer, and the presence of this page. */
export class Presence {
  #people = new Map();
  #listeners = new Set();
  #send;
  #last = null;

  constructor(topic, send) {
    this.topic = topic;
    this.#send = send;
  }

  get people() {
    const order = (a, b) => a.since.localeCompare(b.since) || a.id.localeCompare(b.id);
    return [...this.#people.values()].sort(order);
  }

  /** Publish this page's state: viewing, editing (with the field, where known), idle, or gone. */
  set(state, field = null) {
    this.#last = { topic: this.topic, state, field };
    this.#send(this.#last);
  }

  /** Publish the state again, to a leader that does not know it. */
  resend() {
    if (this.#last) this.#send(this.#last);
  }

  onChange(listener) {
    this.#listeners.add(listener);
    listener(this.people);
    return () => this.#listeners.delete(listener);
  }

  take(frame) {
    applyPresence(this.#people, frame);
    this.#notify();
  }

  /** Forget everyone; the full list arrives again after `subscribed`. */
  clear() {
    if (this.#people.size) {
      this.#people.clear();
      this.#notify();
    }
  }

  #notify() {
    for (const listener of this.#listeners) listener(this.people);
  }
}
