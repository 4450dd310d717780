import { afterServerError, applyVerdicts, batchOf, bodyOf, expired } from "./edits.js";
import { isFull } from "./store.js";

const LOCK = "formease:flush";
const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 5 * 60 * 1000;
const MAX_SERVER_ERRORS = 2; // after so many server errors in a row, edits are sent one by one

/** Sends queued edits: one tab at a time, in order, each exactly once.
 *
 *  queue    the person's `Queue`          network  their `Network`
 *  send     async (body) -> `{status, retryAfter?, results?}`; rejects without an answer
 *  timer    calls `flush` later           pause    (attempt, min, max) -> delay in ms
 *  locks    `navigator.locks`             client   this browser's name
 */
export class Flusher {
  #parts;
  #requested = false;
  #failures = 0;
  #alone = false;

  constructor(parts) {
    this.#parts = parts;
  }

  /** Starts a round. While a round waits for the lock, further calls have no effect. */
  async flush() {
    if (this.#requested) return;
    this.#requested = true;
    this.#parts.timer.clear();
    try {
      await this.#parts.locks.request(LOCK, async () => {
        this.#requested = false; // later calls start another round
        await this.#sendAll();
      });
    } catch (error) {
      this.#requested = false;
      console.warn("offline:", error.message); // no storage, or the page is closing
    }
  }

  /** 1 choose the oldest waiting edits with their chains  2 check server and person  3 mark as sent  4 send
   *  5 store the verdicts in one transaction  6 repeat until no edit is left */
  async #sendAll() {
    const { queue, network, send, client } = this.#parts;
    for (;;) {
      const chosen = batchOf(await queue.all(), { alone: this.#alone }); // 1
      if (!chosen.length) return this.#tidy();
      if ((await network.ask()) !== "online") return; // 2
      const sent = await this.#markSent(chosen); // 3
      let answer;
      try {
        answer = await send(bodyOf(client, queue.person, sent)); // 4
      } catch {
        return network.lost();
      }
      if (!answer.results) return this.#onError(answer, sent);
      const { changed, verdicts } = applyVerdicts(await queue.all(), sent, answer.results);
      if (!(await this.#storeVerdicts(changed, verdicts)) || !verdicts.length) return this.#pause(); // 5
      this.#failures = 0;
    } // 6
  }

  /** Marks edits as sent: they can no longer be changed or cancelled. Leaves out edits changed meanwhile. */
  async #markSent(chosen) {
    const { queue } = this.#parts;
    const sent = chosen.map((edit) => (edit.state === "waiting" ? { ...edit, tried: true } : edit));
    try {
      await queue.put(sent.filter((edit) => edit.state === "waiting"), {}, (now, edit) => now.id === edit.id);
    } catch (error) {
      if (!isFull(error)) throw error; // storage is full: send them anyway
    }
    const stored = new Set((await queue.all()).map(({ id }) => id));
    return sent.filter(({ id }) => stored.has(id));
  }

  /** Stores the verdicts; true if all were stored. With full storage, finished edits leave the queue instead; the rest
   *  is sent again later under the same ids. */
  async #storeVerdicts(changed, verdicts) {
    const { queue } = this.#parts;
    try {
      await queue.put(changed, { verdicts });
      return true;
    } catch (error) {
      if (!isFull(error)) throw error;
    }
    const over = changed.filter((edit) => edit.state === "done" && edit.closed).map((edit) => edit.seq);
    await queue.remove(over, { verdicts: verdicts.filter((edit) => over.includes(edit.seq)) });
    return over.length === changed.length;
  }

  #pause(retryAfter = 0) {
    const pause = this.#parts.pause(this.#failures++, FIRST_WAIT_MS, LONGEST_WAIT_MS);
    this.#parts.timer.set(retryAfter * 1000 + pause);
  }

  /** The whole request was rejected, or ended with a server error. */
  async #onError({ status, retryAfter = 0, ours = true }, sent) {
    this.#pause(retryAfter);
    const code = codeOf(status, ours);
    if (code === null) return;
    const changed = afterServerError(sent, code);
    const verdicts = changed.filter((edit) => edit.state === "refused");
    this.#alone = !verdicts.length && (this.#alone || this.#failures >= MAX_SERVER_ERRORS);
    await this.#parts.queue.put(changed, { verdicts });
  }

  async #tidy() {
    this.#failures = 0;
    this.#alone = false;
    const old = expired(await this.#parts.queue.all());
    if (old.length) await this.#parts.queue.remove(old);
  }
}

/** The code of an error that one of the edits may have caused; null if any request would have been answered so. */
function codeOf(status, ours) {
  if (status === 500) return "server_error";
  if (status === 413) return "too_large";
  return !ours && (status === 400 || status === 403) ? "blocked" : null; // a firewall that reads the text
}
