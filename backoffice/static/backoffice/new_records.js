import { DebouncedSet } from "./debounced_set.js";

export const IDS_PER_REQUEST = 200; // the server accepts no more ids in one request
export const MAX_SHOWN = 200; // above it the button shows "200+", and no more requests are sent
export const MAX_PENDING = 1_000; // above it the number is unknown

/** Whether an event may add a record to a list that does not show it. */
export function arrives(event) {
  if (event.event.endsWith(".changed")) return event.version === 1;
  return /\.(created|received|restored|filed|reopened)$/.test(event.event);
}

/**
 * The records that are new to a list. `ask` resolves to those of the given ids that match the filters of the list;
 * `changed` is called when the number changes.
 */
export class NewRecords {
  #known = new Set();
  #overflows = 0;
  #asking;

  constructor(ask, changed) {
    this.changed = changed;
    const handle = async (ids) => this.#settle(ids, new Set(await ask(ids)));
    this.#asking = new DebouncedSet(handle, 300, { limit: IDS_PER_REQUEST });
  }

  get size() {
    return this.#known.size;
  }

  /** Ids above `MAX_PENDING` were dropped, so the number is unknown. */
  get isUnsure() {
    return this.#overflows > 0;
  }

  get isFull() {
    return this.isUnsure || this.size >= MAX_SHOWN;
  }

  has(id) {
    return this.#known.has(id) || this.#asking.has(id);
  }

  ids() {
    return [...this.#known];
  }

  /** Asks about a record that may be new, or may no longer match. */
  add(id) {
    if (this.isFull) {
      if (this.isUnsure) this.#overflows += 1;
      return;
    }
    this.#asking.add(id);
    if (this.#asking.size <= MAX_PENDING) return;
    this.#stopAsking();
    this.#overflows = 1;
    this.changed();
  }

  /** Call before the list is fetched, and call the result once it is drawn: it forgets the records shown by then. */
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
