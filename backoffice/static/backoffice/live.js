import { connect } from "../realtime/index.js";
import { isOurs } from "./answers.js";
import { _ } from "./words.js";

const ANSWER_MS = 30_000;

const POLL_AFTER_MS = 10_000; // without a socket, although the application answers
const POLL_MS = 15_000;

let current = null;
let painted = false;
let polling = null; // the timer, while no socket can be opened

/** The page's single connection; every page opens it to be notified when its session ends. */
export function connection() {
  if (current === null) {
    const session = document.querySelector("[data-session]")?.dataset.session || null;
    current = connect({ url: "/ws/admin/", session, onPosition: keepsPosition() ? keepPosition : undefined });
    current.onState((state) => window.dispatchEvent(new CustomEvent("connection", { detail: state })));
  }
  return current;
}

/** Whether the site reads from a standby: then it sets a cookie, and needs to know what this browser has received. */
function keepsPosition() {
  return /(^|; )fe_position=/.test(document.cookie);
}

function keepPosition(position) {
  const now = Number(/(?:^|; )fe_position=([0-9]+)/.exec(document.cookie)?.[1] ?? 0);
  const secure = location.protocol === "https:" ? "; secure" : "";
  if (position > now) document.cookie = `fe_position=${position}; path=/; samesite=lax${secure}`;
}

/** Calls `refresh` at intervals while no socket can be opened, as behind a proxy that blocks them. */
export function whilePolling(refresh) {
  window.addEventListener("poll", refresh);
}

/** Starts or ends polling after a change of the connection's state. */
function watchSocket(state, changed) {
  if (state === "connecting" || state === "reconnecting") {
    polling ??= setTimeout(function poll() {
      polling = setTimeout(poll, POLL_MS);
      document.documentElement.dataset.polling = "";
      window.dispatchEvent(new Event("poll"));
      changed();
    }, POLL_AFTER_MS);
    return;
  }
  clearTimeout(polling);
  polling = null;
  delete document.documentElement.dataset.polling;
}

/** The same connection for live content; the chip in the header shows its state. */
export function live() {
  connection();
  if (!painted) {
    painted = true;
    const chip = document.querySelector("[data-live]");
    const show = () => paint(chip, stateNow());
    current.onState((state) => {
      watchSocket(state, show);
      show();
    });
    window.addEventListener("online", show);
    window.addEventListener("offline", show);
    window.addEventListener("incomplete", show);
  }
  return current;
}

function stateNow() {
  if (navigator.onLine === false) return "offline";
  const { dataset } = document.documentElement;
  if ("polling" in dataset) return "polling";
  return current.state === "live" && "incomplete" in dataset ? "incomplete" : current.state;
}

function paint(chip, state) {
  if (!chip) return;
  const words = {
    live: _("Live"),
    connecting: _("Connecting"),
    reconnecting: _("Reconnecting"),
    polling: _("Updates every %(n)s s", { n: POLL_MS / 1000 }),
    offline: _("Offline"),
    stopped: _("Not live"),
    incomplete: _("Incomplete"),
  };
  chip.hidden = false;
  chip.dataset.state = state;
  const text = chip.querySelector("[data-live-text]");
  if (text.textContent !== words[state]) text.textContent = words[state] ?? state;
  chip.title = words[state] ?? state;
}

/** Fetches a page or a fragment of the server as a document. */
export async function fetchDocument(url, { signal = AbortSignal.timeout(ANSWER_MS) } = {}) {
  const answer = await fetch(url, { signal, headers: { "X-Requested-With": "fetch" } });
  if (!answer.ok || !isOurs(answer)) throw new Error(`${answer.status} ${url}`);
  if (answer.redirected && new URL(answer.url).pathname.includes("/login/")) {
    window.dispatchEvent(new Event("signed-out"));
    throw new Error("signed out");
  }
  return { page: new DOMParser().parseFromString(await answer.text(), "text/html"), headers: answer.headers };
}

/** Highlights an element for a moment. */
export function flash(element) {
  element.classList.remove("flash");
  void element.offsetWidth; // restart a running animation
  element.classList.add("flash");
  element.addEventListener("animationend", () => element.classList.remove("flash"), { once: true });
}
