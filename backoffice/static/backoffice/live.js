import { connect } from "../realtime/index.js";
import { _ } from "./words.js";

let line = null;
let painted = false;

/** The page's one connection: every page has it, to learn when its session ends. */
export function connection() {
  if (line === null) {
    const session = document.querySelector("[data-session]")?.dataset.session || null;
    line = connect({ url: "/ws/admin/", session });
    line.onState((state) => window.dispatchEvent(new CustomEvent("line", { detail: state })));
  }
  return line;
}

/** The same for what is shown live; the chip in the header tells how it is. */
export function live() {
  connection();
  if (!painted) {
    painted = true;
    const chip = document.querySelector("[data-live]");
    const show = () => paint(chip, navigator.onLine === false ? "offline" : line.state);
    line.onState(show);
    window.addEventListener("online", show);
    window.addEventListener("offline", show);
  }
  return line;
}

function paint(chip, state) {
  if (!chip) return;
  const words = {
    live: _("Live"),
    connecting: _("Connecting"),
    reconnecting: _("Reconnecting"),
    offline: _("Offline"),
    stopped: _("Not live"),
  };
  chip.hidden = false;
  chip.dataset.state = state;
  const text = chip.querySelector("[data-live-text]");
  if (text.textContent !== words[state]) text.textContent = words[state] ?? state;
  chip.title = words[state] ?? state;
}

/** An element out of a page or a fragment of the server. */
export async function fetchDocument(url, { signal } = {}) {
  const answer = await fetch(url, { signal, headers: { "X-Requested-With": "fetch" }, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${answer.status} ${url}`);
  if (answer.redirected && new URL(answer.url).pathname.includes("/login/")) throw new Error("signed out");
  return { page: new DOMParser().parseFromString(await answer.text(), "text/html"), headers: answer.headers };
}

/** Light an element up for a moment. */
export function flash(element) {
  element.classList.remove("flash");
  void element.offsetWidth; // begin anew when it is already lit
  element.classList.add("flash");
  element.addEventListener("animationend", () => element.classList.remove("flash"), { once: true });
}
