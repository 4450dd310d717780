/** Timers with an injected clock and random source, so that tests depend on neither. */

/** Full jitter: uniform between 0 and the doubled bound, so that many clients do not reconnect at the same time. */
export function fullJitter(attempt, min, max, random = Math.random) {
  return random() * Math.min(max, min * 2 ** Math.min(attempt, 16));
}

/** A timer that can be set repeatedly; only the last setting fires. */
export class Timer {
  #callback;
  #timers;
  #id = null;

  constructor(callback, timers = globalThis) {
    this.#callback = callback;
    this.#timers = timers;
  }

  set(ms) {
    this.clear();
    this.#id = this.#timers.setTimeout(() => {
      this.#id = null;
      this.#callback();
    }, ms);
  }

  clear() {
    if (this.#id !== null) this.#timers.clearTimeout(this.#id);
    this.#id = null;
  }

  get pending() {
    return this.#id !== null;
  }
}
