const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 60 * 1000;

/** Whether the server can be reached, and who is signed in there.
 *
 *  `state` is `online`, `offline` (no network, or no answer), `signed_out` or `other` (another person is signed in now).
 *  `ask` is async and resolves to the id of the signed-in person or null; it rejects without an answer.
 *  `pause(attempt, min, max)` returns the delay before the next check, in ms.
 */
export class Network {
  state = "online";
  #failures = 0;
  #listeners = new Set();

  constructor({ person, ask, timer, pause }) {
    Object.assign(this, { person, timer, pause });
    this.fetchPerson = ask;
  }

  onChange(listener) {
    this.#listeners.add(listener);
  }

  /** Asks the server now and returns the new state. */
  async ask() {
    this.timer.clear();
    try {
      const person = await this.fetchPerson();
      this.#failures = 0;
      this.#setState(person === null ? "signed_out" : person === this.person ? "online" : "other");
    } catch {
      this.lost();
    }
    return this.state;
  }

  /** A request failed: the state becomes `offline`, and a check is scheduled. */
  lost() {
    this.timer.set(this.pause(this.#failures++, FIRST_WAIT_MS, LONGEST_WAIT_MS));
    this.#setState("offline");
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    for (const listener of this.#listeners) listener(state);
  }
}
