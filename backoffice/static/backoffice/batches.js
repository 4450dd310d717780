const LONGEST_MS = 30_000;

/**
 * Gathers keys and hands them over together: one request at a time, at most `limit` keys in each, and a pause between
 * two. What comes while one is under way goes with the next. A request that failed is tried again, ever more rarely;
 * after `attempts` in a row its keys are dropped and `gaveUp` is called.
 */
export class Batches {
  #keys = new Set();
  #timer = null;
  #busy = false;
  #failures = 0;

  constructor(handle, waitMs = 120, { limit = Infinity, pauseMs = 500, attempts = 5, gaveUp = () => {} } = {}) {
    this.handle = handle;
    Object.assign(this, { waitMs, limit, pauseMs, attempts, gaveUp });
  }

  /** How many keys wait. */
  get size() {
    return this.#keys.size;
  }

  has(key) {
    return this.#keys.has(key);
  }

  keys() {
    return [...this.#keys];
  }

  add(key) {
    this.#keys.add(key);
    if (this.#timer === null && !this.#busy) this.#timer = setTimeout(() => this.#run(), this.waitMs);
  }

  delete(key) {
    this.#keys.delete(key);
  }

  async #run() {
    this.#timer = null;
    if (!this.#keys.size) return;
    this.#busy = true;
    const keys = this.keys().slice(0, this.limit);
    keys.forEach((key) => this.#keys.delete(key));
    let pauseMs = Math.max(this.waitMs, this.pauseMs);
    try {
      await this.handle(keys);
      this.#failures = 0;
    } catch (error) {
      console.warn("live:", error.message);
      this.#failures += 1;
      pauseMs = Math.min(pauseMs * 2 ** this.#failures, LONGEST_MS);
      if (this.#failures < this.attempts) {
        this.#keys = new Set([...keys, ...this.#keys]);
      } else {
        this.#failures = 0;
        this.gaveUp(error);
      }
    } finally {
      this.#busy = false;
      this.#timer = setTimeout(() => this.#run(), pauseMs); // also where nothing waits yet: it is a pause
    }
  }
}
