const STAY_MS = 6000;

/** Messages that need no answer leave by themselves; one the pointer or the focus is on stays. */
export function passAway(root) {
  for (const toast of root.querySelectorAll("[data-toasts] [data-passing]")) leaveLater(toast);
}

/** Show a message. */
export function toast(text, kind = "info") {
  const shelf = document.querySelector("[data-toasts]");
  const element = document.createElement("p");
  element.className = `toast ${kind}`;
  element.textContent = text;
  shelf.append(element);
  leaveLater(element);
}

function leaveLater(element) {
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
const SAY_MS = 5000;

/** Tell a screen reader, at most every five seconds, everything since the last time. */
export function say(text) {
  if (!pending.includes(text)) pending.push(text);
  if (timer === null) {
    speak();
    timer = setTimeout(() => {
      timer = null;
      if (pending.length) speak();
    }, SAY_MS);
  }
}

function speak() {
  const ear = document.querySelector("[data-said]");
  if (ear) ear.textContent = pending.slice(-3).join(". ");
  pending = [];
}
