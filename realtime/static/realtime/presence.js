import { gather } from "./subscription.js";

const BUSIEST = ["editing", "viewing", "idle"];

/** What one browser does on a topic, all its tabs taken together: the busiest of them. Null when none is there. */
export function busiest(tabs) {
  for (const state of BUSIEST) {
    const found = [...tabs].find((tab) => tab.state === state);
    if (found) return found;
  }
  return null;
}

/** Who is on a topic, in the same order for every viewer, and what this page does there. */
export class Presence {
  #people = new Map();
  #listeners = new Set();
  #say;
  #last = null;

  constructor(topic, say) {
    this.topic = topic;
    this.#say = say;
  }

  get people() {
    const order = (a, b) => a.since.localeCompare(b.since) || a.id.localeCompare(b.id);
    return [...this.#people.values()].sort(order);
  }

  /** viewing, editing (with the field, if one), idle, or gone. */
  set(state, field = null) {
    this.#last = { topic: this.topic, state, field };
    this.#say(this.#last);
  }

  /** A new other end of the line has not heard it. */
  again() {
    if (this.#last) this.#say(this.#last);
  }

  onChange(listener) {
    this.#listeners.add(listener);
    listener(this.people);
    return () => this.#listeners.delete(listener);
  }

  take(frame) {
    gather(this.#people, frame);
    this.#tell();
  }

  /** Everybody is unknown again: who is here will be told after `subscribed`. */
  clear() {
    if (this.#people.size) {
      this.#people.clear();
      this.#tell();
    }
  }

  #tell() {
    for (const listener of this.#listeners) listener(this.people);
  }
}
