import { batchOf, bodyOf, failed, outlived, settle } from "./edits.js";
import { isFull } from "./store.js";

const LOCK = "formease:flush";
const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 5 * 60 * 1000;
const STUMBLES = 2; // after so many faults of the server in a row, edits are sent one by one

/** Sends what waits: one tab at a time, in order, each exactly once.
 *
 *  queue    the person's `Queue`          network  their `Network`
 *  send     async (body) -> `{status, retryAfter?, results?}`; rejects where no answer comes
 *  alarm    rings `poke` later            pause    (attempt, min, max) -> how long to wait, in ms
 *  locks    `navigator.locks`             client   this browser's name
 */
export class Flusher {
  #parts;
  #asked = false;
  #failures = 0;
  #alone = false;

  constructor(parts) {
    this.#parts = parts;
  }

  /** There may be something to do. While one round waits for its turn, more calls change nothing. */
  async poke() {
    if (this.#asked) return;
    this.#asked = true;
    this.#parts.alarm.clear();
    try {
      await this.#parts.locks.request(LOCK, async () => {
        this.#asked = false; // what comes from here on is another round
        await this.#flush();
      });
    } catch (error) {
      this.#asked = false;
      console.warn("offline:", error.message); // this browser keeps nothing, or the page is about to go
    }
  }

  /** 1 the oldest that wait, with their chains  2 is the server there, and are we who we were?  3 noted as sent
   *  4 sent  5 the verdicts, kept in one go  6 again, until nothing is left */
  async #flush() {
    const { queue, network, send, client } = this.#parts;
    for (;;) {
      const chosen = batchOf(await queue.all(), { alone: this.#alone }); // 1
      if (!chosen.length) return this.#tidy();
      if ((await network.ask()) !== "there") return; // 2
      const asked = await this.#noted(chosen); // 3
      let answer;
      try {
        answer = await send(bodyOf(client, queue.person, asked)); // 4
      } catch {
        return network.lost();
      }
      if (!answer.results) return this.#stumble(answer, asked);
      const { changed, told } = settle(await queue.all(), asked, answer.results);
      if (!(await this.#kept(changed, told)) || !told.length) return this.#rest(); // 5
      this.#failures = 0;
    } // 6
  }

  /** From here on nobody changes or cancels them: they may arrive. What was changed a moment ago is left out. */
  async #noted(chosen) {
    const { queue } = this.#parts;
    const sent = chosen.map((edit) => (edit.state === "waiting" ? { ...edit, tried: true } : edit));
    try {
      await queue.put(sent.filter((edit) => edit.state === "waiting"), {}, (now, edit) => now.id === edit.id);
    } catch (error) {
      if (!isFull(error)) throw error; // without room they had better go than wait for some
    }
    const there = new Set((await queue.all()).map(({ id }) => id));
    return sent.filter(({ id }) => there.has(id));
  }

  /** Keep the verdicts; true once all are. Without room for them, what is saved and over leaves the queue instead. What
   *  has to stay is asked for again later, by the same ids. */
  async #kept(changed, told) {
    const { queue } = this.#parts;
    try {
      await queue.put(changed, { told });
      return true;
    } catch (error) {
      if (!isFull(error)) throw error;
    }
    const over = changed.filter((edit) => edit.state === "done" && edit.closed).map((edit) => edit.seq);
    await queue.remove(over, { told: told.filter((edit) => over.includes(edit.seq)) });
    return over.length === changed.length;
  }

  #rest(retryAfter = 0) {
    const pause = this.#parts.pause(this.#failures++, FIRST_WAIT_MS, LONGEST_WAIT_MS);
    this.#parts.alarm.set(retryAfter * 1000 + pause);
  }

  /** The request as a whole was refused, or ended by a fault of the server. */
  async #stumble({ status, retryAfter = 0 }, asked) {
    this.#rest(retryAfter);
    if (status !== 500) return;
    const changed = failed(asked);
    const told = changed.filter((edit) => edit.state === "refused");
    this.#alone = !told.length && (this.#alone || this.#failures >= STUMBLES);
    await this.#parts.queue.put(changed, { told });
  }

  async #tidy() {
    this.#failures = 0;
    this.#alone = false;
    const old = outlived(await this.#parts.queue.all());
    if (old.length) await this.#parts.queue.remove(old);
  }
}
