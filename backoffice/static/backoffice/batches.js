/** Gathers keys and hands them over together: soon, but one request at a time. */
export class Batches {
  #keys = new Set();
  #timer = null;
  #busy = false;

  constructor(handle, waitMs = 120) {
    this.handle = handle;
    this.waitMs = waitMs;
  }

  add(key) {
    this.#keys.add(key);
    this.#schedule();
  }

  #schedule() {
    if (this.#timer !== null || this.#busy || !this.#keys.size) return;
    this.#timer = setTimeout(() => this.#run(), this.waitMs);
  }

  async #run() {
    this.#timer = null;
    this.#busy = true;
    const keys = [...this.#keys];
    this.#keys.clear();
    try {
      await this.handle(keys);
    } catch (error) {
      console.warn("live:", error.message); // the next event or a reload brings it
    } finally {
      this.#busy = false;
      this.#schedule();
    }
  }
}
