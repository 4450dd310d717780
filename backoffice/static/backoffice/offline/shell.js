import { Timer, fullJitter } from "../../realtime/timer.js";
import { toast } from "../toasts.js";
import { _, ngettext } from "../words.js";
import { unsettled, waiting } from "./edits.js";
import { Flusher } from "./flusher.js";
import { Network } from "./network.js";
import { Queue } from "./store.js";
import { told as inWords } from "./told.js";

const PERSON = "formease:person";
const CLIENT = "formease:client";
const ANSWER_MS = 10_000;
const SYNC_MS = 60_000;

let made = null;

/** What every page of a person has: their queue, the way to the server, who sends. Null where nobody is known. */
export function shell() {
  const place = document.querySelector("[data-person-url]");
  made ??= place && build(place.dataset);
  return made;
}

function build(urls) {
  const person = Number(urls.person ?? localStorage.getItem(PERSON)) || null;
  if (person === null) return null;
  if (urls.person) localStorage.setItem(PERSON, urls.person);
  const queue = new Queue(person);
  const network = new Network({
    person,
    ask: async () => (await whoIsThere(urls.personUrl)).person,
    alarm: new Timer(() => network.ask()),
    pause: fullJitter,
  });
  const flusher = new Flusher({
    queue,
    network,
    client: clientId(),
    send: (body) => sync(urls.syncUrl, body),
    alarm: new Timer(() => flusher.poke()),
    pause: fullJitter,
    locks: navigator.locks ?? { request: (_name, work) => work() },
  });
  return { person, urls, queue, network, flusher };
}

/** The part of every page: how many wait, whether there is a network, what became of what was sent. */
export function open() {
  tendWorker();
  const own = shell();
  if (!own) return;
  const { queue, network, flusher } = own;
  const count = () => showCount(own);
  queue.onChange(({ told = [], here }) => {
    count();
    if (here) inWords(told).forEach((words) => toast(words));
  });
  network.onChange((state) => {
    count();
    if (state === "there") flusher.poke();
  });
  window.addEventListener("online", () => network.ask());
  window.addEventListener("offline", () => network.lost());
  window.addEventListener("line", ({ detail }) => {
    if (detail === "reconnecting" || (detail === "live" && network.state === "away")) network.ask();
  });
  document.addEventListener("visibilitychange", () => document.hidden || flusher.poke());
  refreshKept(queue);
  guardLogout(own);
  if (navigator.onLine === false || "kept" in document.documentElement.dataset) network.lost();
  else flusher.poke();
  count();
}

// -- to the server ---------------------------------------------------------------------------------------------------

/** The number of who is signed in, null for nobody, and what names their session; rejects where there is no answer. */
export async function whoIsThere(url) {
  const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
}

async function sync(url, body) {
  const headers = { "Content-Type": "application/json", "X-CSRFToken": token() };
  const answer = await fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(SYNC_MS) });
  const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  return answer.ok ? { status: 200, ...(await answer.json()) } : { status: answer.status, retryAfter };
}

/** The token that goes with the session of now; one in a page may be of an earlier one. */
export function token() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

function clientId() {
  const known = localStorage.getItem(CLIENT) ?? crypto.randomUUID();
  localStorage.setItem(CLIENT, known);
  return known;
}

// -- on the page -----------------------------------------------------------------------------------------------------

async function showCount({ queue, network, urls }) {
  const edits = await queue.all().catch(() => []);
  const n = unsettled(edits);
  const refused = n - waiting(edits).length;
  const chip = document.querySelector("[data-queued]");
  if (chip) {
    chip.hidden = n === 0;
    chip.classList.toggle("refused", refused > 0);
    chip.textContent = refused
      ? ngettext("%(n)s edit refused", "%(n)s edits refused", refused)
      : ngettext("%(n)s waiting", "%(n)s waiting", n);
  }
  showNetwork(network.state, n, urls);
}

function showNetwork(state, n, urls) {
  const bar = document.querySelector("[data-network]");
  if (!bar) return;
  const words = {
    away: () => _("You are offline. Edits are kept here and sent when the connection is back."),
    signed_out: () =>
      n
        ? ngettext(
            "You are signed out. Log in, and the edit that waits is sent.",
            "You are signed out. Log in, and the %(n)s edits that wait are sent.",
            n,
          )
        : _("You are signed out."),
    other: () => _("Somebody else is signed in here by now. Your edits wait for you: nobody else sees or sends them."),
  };
  bar.hidden = !(state in words);
  if (bar.hidden || bar.dataset.state === `${state} ${n}`) return;
  bar.dataset.state = `${state} ${n}`;
  const text = document.createElement("span");
  text.textContent = words[state]();
  bar.replaceChildren(text);
  if (state !== "signed_out") return;
  const door = document.createElement("a");
  door.className = "button small";
  door.href = `${urls.loginUrl}?${new URLSearchParams({ next: location.pathname })}`;
  door.textContent = _("Log in");
  bar.append(door);
}

/** Logging out forgets what was not sent: that is asked first. Without a network the session would stay open. */
function guardLogout({ queue, network }) {
  const form = document.getElementById("logout-form");
  const dialog = document.querySelector("[data-leave-dialog]");
  if (!form || !dialog) return;
  dialog.querySelector("[data-leave-stay]").addEventListener("click", () => dialog.close());
  dialog.querySelector("[data-leave-go]").addEventListener("click", () => form.submit());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const n = unsettled(await queue.all().catch(() => []));
    if ((await network.ask()) === "away") {
      toast(_("Without a connection you cannot be logged out: your session would stay open."), "error");
      return;
    }
    if (!n) {
      form.submit();
      return;
    }
    const words = dialog.querySelector("[data-leave-words]");
    words.textContent = ngettext(
      "%(n)s edit was made without a network and waits here. Logging out deletes it.",
      "%(n)s edits were made without a network and wait here. Logging out deletes them.",
      n,
    );
    dialog.showModal();
  });
}

// -- the worker ------------------------------------------------------------------------------------------------------

/** Registered where the server wants one, taken away where it does not want one any more. */
function tendWorker() {
  const workers = navigator.serviceWorker;
  const place = document.querySelector("[data-person-url]");
  if (!workers || !place) return;
  if (place.dataset.worker) {
    const scope = new URL(".", new URL(place.dataset.worker, location)).pathname;
    workers.register(place.dataset.worker, { scope, updateViaCache: "none" }).catch((error) => {
      console.warn("offline:", error.message); // pages work without it as long as there is a network
    });
    // A page that was on its way here while the worker took over the others was passed over: it asks.
    workers.ready.then(({ active }) => workers.controller ?? active.postMessage({ take: location.href }));
  } else {
    workers.getRegistrations().then((all) => all.forEach((registration) => registration.unregister()));
    forgetPages();
  }
}

/** The copies of records that were saved are made anew: the next journey begins with them. */
function refreshKept(queue) {
  queue.onChange(({ told = [], here }) => {
    const keep = [...new Set(told.map((edit) => edit.path))];
    if (here && keep.length) navigator.serviceWorker?.controller?.postMessage({ keep });
  });
}

export async function forgetPages() {
  if (!globalThis.caches) return;
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith("formease-pages-")).map((name) => caches.delete(name)));
}

/** After logging out: nothing of this person stays, no edit, no page, no draft of a conflict. */
export async function forget(person) {
  localStorage.removeItem(PERSON);
  const drafts = `formease:conflict:${person}:`;
  for (const key of Object.keys(localStorage)) if (key.startsWith(drafts)) localStorage.removeItem(key);
  await Promise.all([forgetPages(), new Queue(person).purge()]);
}
