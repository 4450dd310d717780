/** Covers the page once its session has ended, so that nothing of it stays readable. */
import { REVOKED } from "../realtime/connection.js";
import { Timer, fullJitter } from "../realtime/timer.js";
import { connection } from "./live.js";
import { fetchPerson } from "./offline/shell.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
const STABLE_MS = 60_000;

export function open(element) {
  const socket = connection();
  const guard = new SessionGuard(element.dataset, socket, document.querySelector("[data-cover]"));
  socket.onState((state, _reason, code) => {
    if (state === "stopped" && code === REVOKED) guard.check();
  });
  document.addEventListener("visibilitychange", () => document.hidden || guard.recheck());
  window.addEventListener("pageshow", () => guard.recheck());
}

class SessionGuard {
  #attempts = 0;
  #enteredAt = -Infinity;
  #over = false; // another person is signed in: the page cannot be used again
  #timer = new Timer(() => this.check());

  constructor({ person, session, personUrl, loginUrl }, connection, cover) {
    Object.assign(this, { person: Number(person), session, personUrl, loginUrl, connection, cover });
    this.title = document.title;
  }

  get covered() {
    return "covered" in document.documentElement.dataset;
  }

  recheck() {
    if (this.covered && !this.#over) this.check();
  }

  /** After a revoked connection: asks who is signed in; the page stays covered until the answer is known. */
  async check() {
    if (this.#over) return;
    this.#timer.clear();
    let found;
    try {
      found = await fetchPerson(this.personUrl);
    } catch {
      this.#coverPage("signed_out");
      this.#timer.set(fullJitter(this.#attempts++, FIRST_WAIT_MS, LONGEST_WAIT_MS));
      return;
    }
    this.#attempts = 0;
    if (found.person === this.person) this.#resume(found.session);
    else if (found.person === null) this.#coverPage("signed_out");
    else this.#removePage();
  }

  /** The same person in a new session (new password, sign-in in another tab): uncovers the page with its typing. */
  #resume(session) {
    const now = performance.now();
    if (session === this.session && now - this.#enteredAt < STABLE_MS) {
      this.#coverPage("signed_out"); // revoked again at once: do not retry forever
      return;
    }
    this.#enteredAt = now;
    this.session = session;
    this.connection.enter(session);
    delete document.documentElement.dataset.covered;
    this.cover.hidden = true;
    document.title = this.title;
  }

  #coverPage(why) {
    for (const words of this.cover.querySelectorAll("[data-cover-words]")) {
      words.hidden = words.dataset.coverWords !== why;
    }
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    const link = this.cover.querySelector("[data-cover-link]");
    const next = why === "other" ? "" : `?${new URLSearchParams({ next: location.pathname + location.search })}`;
    link.href = `${this.loginUrl}${next}`;
    const was = this.covered;
    document.documentElement.dataset.covered = "";
    this.cover.hidden = false;
    document.title = this.cover.querySelector("h2").textContent;
    if (!was) link.focus();
  }

  /** Another person is signed in: removes the page, so that they cannot find it under the cover. */
  #removePage() {
    this.#over = true;
    this.#coverPage("other");
    for (const child of [...document.body.children]) if (child !== this.cover) child.remove();
    this.cover.querySelector("[data-cover-link]").focus();
    this.connection.stop();
  }
}
