import { Batches } from "./batches.js";

export const ASK = 200; // ids in one question: as many as the server takes
export const MOST = 200; // from here on the number is shown as "200+", and nothing more is asked
export const WAITING = 1_000; // so many arrived faster than can be asked about: no number is claimed

/** Which events may bring a record into a list that does not show it. */
export function arrives(event) {
  if (event.event.endsWith(".changed")) return event.version === 1;
  return /\.(created|received|restored|filed|reopened)$/.test(event.event);
}

/**
 * The records that are new to a list. `ask` resolves to those of the given ids that the list would show by its own
 * filters; `changed` is called when there is something else to tell.
 */
export class News {
  #known = new Set();
  #overflows = 0;
  #asking;

  constructor(ask, changed) {
    this.changed = changed;
    this.#asking = new Batches(async (ids) => this.#settle(ids, new Set(await ask(ids))), 300, { limit: ASK });
  }

  get size() {
    return this.#known.size;
  }

  /** More came than was asked about, so the number is not known. */
  get isUnsure() {
    return this.#overflows > 0;
  }

  get isFull() {
    return this.isUnsure || this.size >= MOST;
  }

  has(id) {
    return this.#known.has(id) || this.#asking.has(id);
  }

  ids() {
    return [...this.#known];
  }

  /** A record may be new, or may have left the list again: ask. */
  add(id) {
    if (this.isFull) {
      if (this.isUnsure) this.#overflows += 1;
      return;
    }
    this.#asking.add(id);
    if (this.#asking.size <= WAITING) return;
    this.#stopAsking();
    this.#overflows = 1;
    this.changed();
  }

  /** Call before the list is fetched, and the result once it is drawn: all that came before is shown then. */
  mark() {
    const [ids, overflows] = [[...this.#known, ...this.#asking.keys()], this.#overflows];
    return () => {
      for (const id of ids) {
        this.#known.delete(id);
        this.#asking.delete(id);
      }
      if (this.#overflows === overflows) this.#overflows = 0;
      this.changed();
    };
  }

  #settle(ids, shown) {
    const before = this.size;
    for (const id of ids) {
      if (shown.has(id)) this.#known.add(id);
      else this.#known.delete(id);
    }
    if (this.isFull) this.#stopAsking();
    if (this.size !== before) this.changed();
  }

  #stopAsking() {
    this.#asking.keys().forEach((key) => this.#asking.delete(key));
  }
}
