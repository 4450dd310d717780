/** Covers the page when its session has ended: nothing of it stays on the screen. */
import { REVOKED } from "../realtime/connection.js";
import { Timer, fullJitter } from "../realtime/timer.js";
import { connection } from "./live.js";
import { whoIsThere } from "./offline/shell.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
const STABLE_MS = 60_000;

export function open(element) {
  const line = connection();
  const guard = new Guard(element.dataset, line, document.querySelector("[data-cover]"));
  line.onState((state, _reason, code) => {
    if (state === "stopped" && code === REVOKED) guard.look();
  });
  document.addEventListener("visibilitychange", () => document.hidden || guard.lookAgain());
  window.addEventListener("pageshow", () => guard.lookAgain());
}

class Guard {
  #attempts = 0;
  #enteredAt = -Infinity;
  #over = false; // another person is signed in: this page is gone for good
  #alarm = new Timer(() => this.look());

  constructor({ person, session, personUrl, loginUrl }, line, cover) {
    Object.assign(this, { person: Number(person), session, personUrl, loginUrl, line, cover });
    this.title = document.title;
  }

  get covered() {
    return "covered" in document.documentElement.dataset;
  }

  lookAgain() {
    if (this.covered && !this.#over) this.look();
  }

  /** The connection was revoked: who is signed in by now? Until that is known, the page is covered. */
  async look() {
    if (this.#over) return;
    this.#alarm.clear();
    let found;
    try {
      found = await whoIsThere(this.personUrl);
    } catch {
      this.#hide("signed_out");
      this.#alarm.set(fullJitter(this.#attempts++, FIRST_WAIT_MS, LONGEST_WAIT_MS));
      return;
    }
    this.#attempts = 0;
    if (found.person === this.person) this.#goOn(found.session);
    else if (found.person === null) this.#hide("signed_out");
    else this.#leave();
  }

  /** The same person in a new session (a new password, a sign-in in another tab): what was typed is still here. */
  #goOn(session) {
    const now = performance.now();
    if (session === this.session && now - this.#enteredAt < STABLE_MS) {
      this.#hide("signed_out"); // refused again at once: do not try for ever
      return;
    }
    this.#enteredAt = now;
    this.session = session;
    this.line.enter(session);
    delete document.documentElement.dataset.covered;
    this.cover.hidden = true;
    document.title = this.title;
  }

  #hide(why) {
    for (const words of this.cover.querySelectorAll("[data-cover-words]")) {
      words.hidden = words.dataset.coverWords !== why;
    }
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    const door = this.cover.querySelector("[data-cover-door]");
    const next = why === "other" ? "" : `?${new URLSearchParams({ next: location.pathname + location.search })}`;
    door.href = `${this.loginUrl}${next}`;
    const was = this.covered;
    document.documentElement.dataset.covered = "";
    this.cover.hidden = false;
    document.title = this.cover.querySelector("h2").textContent;
    if (!was) door.focus();
  }

  /** Somebody else is signed in here: they must not find this page under its cover. */
  #leave() {
    this.#over = true;
    this.#hide("other");
    for (const child of [...document.body.children]) if (child !== this.cover) child.remove();
    this.cover.querySelector("[data-cover-door]").focus();
    this.line.stop();
  }
}
