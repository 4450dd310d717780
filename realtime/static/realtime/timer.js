/** Waiting, with the clock and the dice handed in, so that tests need neither time nor luck. */

/** Full jitter: anything between nothing and the doubled bound, so that a thousand clients do not come back as one. */
export function fullJitter(attempt, min, max, random = Math.random) {
  return random() * Math.min(max, min * 2 ** Math.min(attempt, 16));
}

/** One alarm that can be set again and again; only the last setting rings. */
export class Alarm {
  #ring;
  #timers;
  #id = null;

  constructor(ring, timers = globalThis) {
    this.#ring = ring;
    this.#timers = timers;
  }

  set(ms) {
    this.clear();
    this.#id = this.#timers.setTimeout(() => {
      this.#id = null;
      this.#ring();
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
