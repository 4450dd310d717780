// The queue of one person, in this browser's IndexedDB. What another person queued here is never looked at.

const NAME = "formease";
const STORE = "edits";
const CHANNEL = "formease:edits";
const PAGES = "formease-pages-"; // the worker's copies of pages

export class Queue {
  #opened = null;
  #listeners = new Set();
  #channel = new BroadcastChannel(CHANNEL);

  constructor(person) {
    this.person = person;
    this.#channel.onmessage = ({ data }) => this.#hear(data);
  }

  /** All edits of this person, oldest first. */
  async all() {
    return this.#run("readonly", (store) => store.index("person").getAll(this.person));
  }

  /** Put one at the end; returns it with its number. Rejects when the browser has no room, or keeps nothing. */
  async add(edit) {
    const kept = { ...edit, person: this.person };
    const seq = await this.#write((store) => store.add(kept));
    this.#tell({});
    return { ...kept, seq };
  }

  /** Change several, or none. What `check(now, edit)` does not say yes to is left alone: somebody was faster. */
  async put(edits, news = {}, check = () => true) {
    const done = await this.#write((store) => {
      for (const edit of edits) {
        store.get(edit.seq).onsuccess = ({ target }) => {
          if (target.result?.person === this.person && check(target.result, edit)) store.put(edit);
        };
      }
    });
    this.#tell(news);
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
    this.#tell(news);
  }

  /** Forget everything of this person. */
  async purge() {
    await this.#run("readwrite", (store) => {
      store.index("person").openKeyCursor(this.person).onsuccess = ({ target }) => {
        const cursor = target.result;
        if (!cursor) return;
        store.delete(cursor.primaryKey);
        cursor.continue();
      };
    });
    this.#tell({});
  }

  /** `listener(news)` after each change here or in another tab; `news.told` are verdicts, `news.here` is this tab. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(news) {
    this.#channel.postMessage({ person: this.person, ...news });
    this.#hear({ person: this.person, here: true, ...news });
  }

  #hear(news) {
    if (news.person === this.person) for (const listener of this.#listeners) listener(news);
  }

  /** Where there is no room, copies of pages give way: what somebody typed exists nowhere else. */
  async #write(work) {
    for (;;) {
      try {
        return await this.#run("readwrite", work);
      } catch (error) {
        if (!isFull(error) || !(await madeRoom())) throw error;
      }
    }
  }

  /** One transaction: resolves with the request's result once it is on disk. */
  async #run(mode, work) {
    this.#opened ??= open();
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

/** Is this what a browser says when it has no room? */
export const isFull = (error) => error.name === "QuotaExceededError";

/** Drop the older half of the copies. False when there was none. */
async function madeRoom() {
  let dropped = 0;
  for (const name of (await globalThis.caches?.keys()) ?? []) {
    if (!name.startsWith(PAGES)) continue;
    const pages = await caches.open(name);
    const kept = await pages.keys(); // in the order they were put in
    for (const page of kept.slice(0, Math.ceil(kept.length / 2))) dropped += await pages.delete(page);
  }
  return dropped > 0;
}

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      const store = request.result.createObjectStore(STORE, { keyPath: "seq", autoIncrement: true });
      store.createIndex("person", "person");
    };
    request.onsuccess = () => {
      const database = request.result;
      database.onversionchange = () => database.close(); // a newer release in another tab
      resolve(database);
    };
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked by an older tab"));
  });
}
