const LONGEST_MS = 30_000;

/**
 * Collects keys and passes them to `handle` in batches: one call at a time, at most `limit` keys per call, and a pause
 * between calls. Keys added during a call go into the next one. A failed call is retried with exponential backoff, and as
 * soon as the connection returns, until it succeeds: a page that says "Live" must not miss a change. With `gaveUp`, the
 * keys are dropped instead after `attempts` failures in a row, and `gaveUp` is called.
 */
export class DebouncedSet {
  #keys = new Set();
  #timer = null;
  #busy = false;
  #failures = 0;

  constructor(handle, waitMs = 120, { limit = Infinity, pauseMs = 500, attempts = 5, gaveUp = null } = {}) {
    this.handle = handle;
    Object.assign(this, { waitMs, limit, pauseMs, attempts, gaveUp });
    globalThis.addEventListener?.("online", () => this.#hurry());
    globalThis.addEventListener?.("connection", ({ detail }) => detail === "live" && this.#hurry());
  }

  /** Number of pending keys. */
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

  /** Retries a failed call now. */
  #hurry() {
    if (!this.#failures || this.#timer === null) return;
    clearTimeout(this.#timer);
    this.#run();
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
      if (!this.gaveUp || this.#failures < this.attempts) {
        this.#keys = new Set([...keys, ...this.#keys]);
      } else {
        this.#failures = 0;
        this.gaveUp(error);
      }
    } finally {
      this.#busy = false;
      this.#timer = setTimeout(() => this.#run(), pauseMs); // the pause, even with no pending keys
    }
  }
}
