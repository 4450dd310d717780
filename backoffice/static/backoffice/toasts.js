const STAY_MS = 6000;

/** Removes toasts after a while, except while the pointer or the focus is on them. */
export function dismissToasts(root) {
  for (const toast of root.querySelectorAll("[data-toasts] [data-passing]")) removeLater(toast);
}

/** Shows a message. */
export function toast(text, kind = "info") {
  const container = document.querySelector("[data-toasts]");
  const element = document.createElement("p");
  element.className = `toast ${kind}`;
  element.textContent = text;
  container.append(element);
  removeLater(element);
}

/** Shows the messages of another page of the server. */
export function adoptToasts(page) {
  const found = [...page.querySelectorAll("[data-toasts] > *")];
  document.querySelector("[data-toasts]").append(...found);
  found.forEach(removeLater);
}

function removeLater(element) {
  setTimeout(function leave() {
    if (element.matches(":hover, :focus-within")) {
      setTimeout(leave, STAY_MS);
      return;
    }
    element.classList.add("leaving");
    setTimeout(() => element.remove(), 400);
  }, STAY_MS);
}

const ANNOUNCE_MS = 5000;
const QUIET_MS = 60_000;

let pending = [];
let timer = null;
const requested = new Map(); // text -> when it was last to be announced

/** Announces a text to screen readers: texts are collected into one announcement at most every five seconds. A text
 *  that comes again is announced again only after a minute without it: many changes of one field are one message. */
export function announce(text) {
  const now = Date.now();
  for (const [old, at] of requested) if (now - at > QUIET_MS) requested.delete(old);
  const isNew = !requested.has(text);
  requested.set(text, now);
  if (!isNew) return;
  pending.push(text);
  timer ??= setTimeout(flush, 0);
}

/** Announces the response to what the person has just done: at once, and each time. */
export function respond(text) {
  show(text);
}

function flush() {
  if (pending.length) show(pending.splice(0).slice(-3).join(". "));
  timer = setTimeout(pause, ANNOUNCE_MS);
}

function pause() {
  timer = null;
  if (pending.length) flush();
}

function show(text) {
  const region = document.querySelector("[data-announcer]");
  if (region) region.replaceChildren(text); // a new node: the same text is announced again
}
