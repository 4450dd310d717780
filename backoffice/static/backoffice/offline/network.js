const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 60 * 1000;

/** Whether the server can be reached, and who is signed in there.
 *
 *  `state` is `there`, `away` (no network, or no answer), `signed_out` or `other` (somebody else is signed in by now).
 *  `ask` is async and gives the number of who is signed in, null for nobody; it rejects where there is no answer.
 *  `pause(attempt, min, max)` says how long to wait before looking again, in ms.
 */
export class Network {
  state = "there";
  #failures = 0;
  #listeners = new Set();

  constructor({ person, ask, alarm, pause }) {
    Object.assign(this, { person, alarm, pause });
    this.fetchPerson = ask;
  }

  onChange(listener) {
    this.#listeners.add(listener);
  }

  /** Ask the server now; the state afterwards. */
  async ask() {
    this.alarm.clear();
    try {
      const person = await this.fetchPerson();
      this.#failures = 0;
      this.#be(person === null ? "signed_out" : person === this.person ? "there" : "other");
    } catch {
      this.lost();
    }
    return this.state;
  }

  /** Something did not get through: look again by and by. */
  lost() {
    this.alarm.set(this.pause(this.#failures++, FIRST_WAIT_MS, LONGEST_WAIT_MS));
    this.#be("away");
  }

  #be(state) {
    if (state === this.state) return;
    this.state = state;
    for (const listener of this.#listeners) listener(state);
  }
}
