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

let pending = [];
let timer = null;
const ANNOUNCE_MS = 5000;

/** Announces a text to screen readers; texts are collected and announced at most every five seconds. */
export function announce(text) {
  if (!pending.includes(text)) pending.push(text);
  if (timer === null) {
    flush();
    timer = setTimeout(() => {
      timer = null;
      if (pending.length) flush();
    }, ANNOUNCE_MS);
  }
}

function flush() {
  const region = document.querySelector("[data-announcer]");
  if (region) region.textContent = pending.slice(-3).join(". ");
  pending = [];
}
