/** Covers the page once its session has ended, so that nothing of it stays readable. */
import { REVOKED } from "../realtime/connection.js";
import { Timer, fullJitter } from "../realtime/timer.js";
import { connection } from "./live.js";
import { fetchPerson } from "./offline/shell.js";

const GRACE_MS = 300; // a quick answer for the same person shows no cover
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
const STABLE_MS = 60_000;

export function open(element) {
  const socket = connection();
  const guard = new SessionGuard(element.dataset, socket, document.querySelector("[data-cover]"));
  socket.onState((state, _reason, code) => {
    if (state === "stopped" && code === REVOKED) guard.check();
  });
  window.addEventListener("signed-out", () => guard.check()); // a request was answered by the login page
  document.addEventListener("visibilitychange", () => document.hidden || guard.recheck());
  window.addEventListener("pageshow", () => guard.recheck());
}

/** Whether the page would ask before it is left. */
function hasTyping() {
  return !window.dispatchEvent(new Event("beforeunload", { cancelable: true }));
}

class SessionGuard {
  #attempts = 0;
  #enteredAt = -Infinity;
  #over = false; // another person is signed in: the page cannot be used again
  #latest = 0; // number of the latest check; answers to earlier ones are ignored
  #focused = null; // had the focus before the cover
  #timer = new Timer(() => this.check());
  #grace = new Timer(() => this.covered || this.#coverPage("checking"));

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

  /** After a revoked connection: asks who is signed in. Without an answer within GRACE_MS the page is covered. */
  async check() {
    if (this.#over) return;
    const number = ++this.#latest;
    this.#timer.clear();
    this.#grace.set(GRACE_MS);
    const found = await fetchPerson(this.personUrl).catch(() => null);
    if (number !== this.#latest) return;
    this.#grace.clear();
    if (found === null) {
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
    if (!this.covered) return;
    delete document.documentElement.dataset.covered;
    this.cover.hidden = true;
    document.title = this.title;
    this.#focused?.focus();
  }

  #coverPage(why) {
    for (const words of this.cover.querySelectorAll("[data-cover-words]")) {
      words.hidden = words.dataset.coverWords !== why;
    }
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    const link = this.cover.querySelector("[data-cover-link]");
    const next = why === "other" ? "" : `?${new URLSearchParams({ next: location.pathname + location.search })}`;
    link.href = `${this.loginUrl}${next}`;
    link.target = why !== "other" && hasTyping() ? "_blank" : ""; // signed in there, the person finds the text here
    const was = this.covered;
    if (!was) this.#focused = document.activeElement;
    document.documentElement.dataset.covered = "";
    this.cover.hidden = false;
    document.title = this.cover.querySelector("h2").innerText;
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
