// The queue of one person, in this browser's IndexedDB. Edits of another person are never read.

const NAME = "formease";
const STORE = "edits";
const CHANNEL = "formease:edits";
const PAGES = "formease-pages-"; // the cached pages of the worker

export class Queue {
  #opened = null;
  #listeners = new Set();
  #channel = globalThis.BroadcastChannel ? new BroadcastChannel(CHANNEL) : null;

  constructor(person) {
    this.person = person;
    if (this.#channel) this.#channel.onmessage = ({ data }) => this.#receive(data);
  }

  /** All edits of this person, oldest first. */
  async all() {
    return this.#run("readonly", (store) => store.index("person").getAll(this.person));
  }

  /** Appends an edit and returns it with its number. Rejects when storage is full or unavailable. */
  async add(edit) {
    const kept = { ...edit, person: this.person };
    const seq = await this.#write((store) => store.add(kept));
    this.#publish({});
    return { ...kept, seq };
  }

  /** Changes several edits in one transaction. Skips those changed meanwhile, for which `check(now, edit)` is false. */
  async put(edits, news = {}, check = () => true) {
    const done = await this.#write((store) => {
      for (const edit of edits) {
        store.get(edit.seq).onsuccess = ({ target }) => {
          if (target.result?.person === this.person && check(target.result, edit)) store.put(edit);
        };
      }
    });
    this.#publish(news);
    return done;
  }

  async remove(seqs, news = {}, check = () => true) {
    await this.#run("readwrite", (store) => {
      for (const seq of seqs) {
        store.get(seq).onsuccess = ({ target }) => {
          if (target.result?.person === this.person && check(target.result)) store.delete(seq);
        };
      }
    });
    this.#publish(news);
  }

  /** Deletes all edits of this person. */
  async purge() {
    await this.#run("readwrite", (store) => {
      store.index("person").openKeyCursor(this.person).onsuccess = ({ target }) => {
        const cursor = target.result;
        if (!cursor) return;
        store.delete(cursor.primaryKey);
        cursor.continue();
      };
    });
    this.#publish({});
  }

  /** Calls `listener({verdicts, here})` after changes in any tab; `here` is set in the tab that made the change. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #publish(news) {
    this.#channel?.postMessage({ person: this.person, ...news });
    this.#receive({ person: this.person, here: true, ...news });
  }

  #receive(news) {
    if (news.person === this.person) for (const listener of this.#listeners) listener(news);
  }

  /** When storage is full, deletes cached pages and retries: typing exists nowhere else. */
  async #write(work) {
    for (;;) {
      try {
        return await this.#run("readwrite", work);
      } catch (error) {
        if (!isFull(error) || !(await freedSpace())) throw error;
      }
    }
  }

  /** Runs one transaction; resolves with the result of the request once it is on disk. */
  async #run(mode, work) {
    this.#opened ??= open(() => (this.#opened = null));
    const database = await this.#opened.catch((error) => {
      this.#opened = null;
      throw error;
    });
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode, { durability: "strict" });
      const request = work(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error ?? new Error("not kept"));
    });
  }
}

/** Whether the browser's storage is full. */
export const isFull = (error) => error.name === "QuotaExceededError";

/** Deletes the older half of the cached pages; false if there was none. */
async function freedSpace() {
  let dropped = 0;
  for (const name of (await globalThis.caches?.keys()) ?? []) {
    if (!name.startsWith(PAGES)) continue;
    const pages = await caches.open(name);
    const kept = await pages.keys(); // in insertion order
    for (const page of kept.slice(0, Math.ceil(kept.length / 2))) dropped += await pages.delete(page);
  }
  return dropped > 0;
}

/** Opens the database. `closed` is called when the connection ends: by a newer release, or because it was deleted. */
function open(closed) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      const store = request.result.createObjectStore(STORE, { keyPath: "seq", autoIncrement: true });
      store.createIndex("person", "person");
    };
    request.onsuccess = () => {
      const database = request.result;
      database.onclose = closed; // deleted with the data of the site
      database.onversionchange = () => {
        database.close(); // a newer release in another tab
        closed();
      };
      resolve(database);
    };
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked by an older tab"));
  });
}
