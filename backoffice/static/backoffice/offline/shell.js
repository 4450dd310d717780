import { Timer, fullJitter } from "../../realtime/timer.js";
import { isOurs, jsonOf } from "../answers.js";
import { keys, read, remove, write } from "../storage.js";
import { toast } from "../toasts.js";
import { _, ngettext } from "../words.js";
import { openCount, waiting } from "./edits.js";
import { Flusher } from "./flusher.js";
import { Network } from "./network.js";
import { Queue } from "./store.js";
import { summaries } from "./verdicts.js";

const PERSON = "formease:person";
const CLIENT = "formease:client";
const ANSWER_MS = 10_000;
const SYNC_MS = 60_000;

let made = null;

/** The offline services of the signed-in person: queue, network, flusher. Null if no person is known. */
export function shell() {
  const place = document.querySelector("[data-person-url]");
  made ??= place && build(place.dataset);
  return made;
}

function build(urls) {
  const person = Number(urls.person ?? read(PERSON)) || null;
  if (person === null) return null;
  if (urls.person) write(PERSON, urls.person);
  const queue = new Queue(person);
  const network = new Network({
    person,
    ask: async () => (await fetchPerson(urls.personUrl)).person,
    timer: new Timer(() => network.ask()),
    pause: fullJitter,
  });
  const flusher = new Flusher({
    queue,
    network,
    client: clientId(),
    send: (body) => sync(urls.syncUrl, body),
    timer: new Timer(() => flusher.flush()),
    pause: fullJitter,
    locks: navigator.locks ?? { request: (_name, work) => work() },
  });
  return { person, urls, queue, network, flusher };
}

/** Behaviour of every page: shows queued edits, the network state and the verdicts on sent edits. */
export function open() {
  updateWorker();
  const own = shell();
  if (!own) return;
  const { queue, network, flusher } = own;
  const count = () => showCount(own);
  queue.onChange(({ verdicts = [], here }) => {
    count();
    if (here) summaries(verdicts).forEach((words) => toast(words));
  });
  network.onChange((state) => {
    count();
    if (state === "online") flusher.flush();
  });
  window.addEventListener("online", () => network.ask());
  window.addEventListener("offline", () => network.lost());
  window.addEventListener("connection", ({ detail }) => {
    if (detail === "reconnecting" || (detail === "live" && network.state === "offline")) network.ask();
  });
  document.addEventListener("visibilitychange", () => document.hidden || flusher.flush());
  refreshKept(queue);
  guardLogout(own);
  if (navigator.onLine === false || "kept" in document.documentElement.dataset) network.lost();
  else flusher.flush();
  count();
}

// -- requests ---------------------------------------------------------------------------------------------------

/** Returns `{person, session}` of the signed-in person, null if none; rejects without a response of the application. */
export async function fetchPerson(url) {
  return jsonOf(await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) }));
}

async function sync(url, body) {
  const headers = { "Content-Type": "application/json", "X-CSRFToken": token() };
  const answer = await fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(SYNC_MS) });
  const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  if (!answer.ok) return { status: answer.status, retryAfter, ours: isOurs(answer) };
  return { status: 200, ...(await jsonOf(answer)) };
}

/** The CSRF token of the current session; the one in a page may be outdated. */
export function token() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

function clientId() {
  const known = read(CLIENT) ?? crypto.randomUUID();
  write(CLIENT, known);
  return known;
}

// -- on the page -----------------------------------------------------------------------------------------------------

async function showCount({ queue, network, urls }) {
  const stored = await queue.all().catch(() => null);
  const edits = stored ?? [];
  const n = openCount(edits);
  const refused = n - waiting(edits).length;
  const chip = document.querySelector("[data-queued]");
  if (chip) {
    chip.hidden = n === 0;
    chip.classList.toggle("refused", refused > 0);
    chip.textContent = refused
      ? ngettext("%(n)s edit rejected", "%(n)s edits rejected", refused)
      : ngettext("%(n)s waiting", "%(n)s waiting", n);
  }
  showNetwork(network.state, n, urls, stored !== null);
}

function showNetwork(state, n, urls, isStored) {
  const bar = document.querySelector("[data-network]");
  if (!bar) return;
  const words = {
    offline: () =>
      isStored
        ? _("You are offline. Edits are stored in this browser and sent when you are back online.")
        : _("You are offline, and this browser does not store edits. Keep this page open until you can save."),
    signed_out: () =>
      n
        ? ngettext(
            "You are signed out. Sign in to send the waiting edit.",
            "You are signed out. Sign in to send the %(n)s waiting edits.",
            n,
          )
        : _("You are signed out."),
    other: () =>
      _("Someone else is signed in here now. Your edits wait until you sign in; nobody else can see or send them."),
  };
  bar.hidden = !(state in words);
  if (bar.hidden || bar.dataset.state === `${state} ${n} ${isStored}`) return;
  bar.dataset.state = `${state} ${n} ${isStored}`;
  const text = document.createElement("span");
  text.textContent = words[state]();
  bar.replaceChildren(text);
  if (state !== "signed_out") return;
  const link = document.createElement("a");
  link.className = "button small";
  link.href = `${urls.loginUrl}?${new URLSearchParams({ next: location.pathname })}`;
  link.textContent = _("Sign in");
  bar.append(link);
}

/** Asks before signing out with unsent edits, which it deletes. Offline, the session would stay open. */
function guardLogout({ queue, network }) {
  const form = document.getElementById("logout-form");
  const dialog = document.querySelector("[data-leave-dialog]");
  if (!form || !dialog) return;
  dialog.querySelector("[data-leave-stay]").addEventListener("click", () => dialog.close());
  dialog.querySelector("[data-leave-go]").addEventListener("click", () => form.submit());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const n = openCount(await queue.all().catch(() => []));
    if ((await network.ask()) === "offline") {
      toast(_("You cannot sign out while offline: your session would stay open."), "error");
      return;
    }
    if (!n) {
      form.submit();
      return;
    }
    const words = dialog.querySelector("[data-leave-words]");
    words.textContent = ngettext(
      "%(n)s offline edit has not been sent. Signing out deletes it.",
      "%(n)s offline edits have not been sent. Signing out deletes them.",
      n,
    );
    dialog.showModal();
  });
}

// -- the worker ------------------------------------------------------------------------------------------------------

/** Registers the service worker, or unregisters it where the server has it switched off. */
function updateWorker() {
  const workers = navigator.serviceWorker;
  const place = document.querySelector("[data-person-url]");
  if (!workers || !place) return;
  if (place.dataset.worker) {
    const scope = new URL(".", new URL(place.dataset.worker, location)).pathname;
    workers.register(place.dataset.worker, { scope, updateViaCache: "none" }).catch((error) => {
      console.warn("offline:", error.message); // pages work online without it
    });
    // A page that was loading while the worker took control is not controlled yet, so it requests control.
    workers.ready.then(({ active }) => workers.controller ?? active.postMessage({ take: location.href }));
  } else {
    workers.getRegistrations().then((all) => all.forEach((registration) => registration.unregister()));
    forgetPages();
  }
}

/** Refreshes the cached pages of saved records, for the next time offline. */
function refreshKept(queue) {
  queue.onChange(({ verdicts = [], here }) => {
    const keep = [...new Set(verdicts.map((edit) => edit.path))];
    if (here && keep.length) navigator.serviceWorker?.controller?.postMessage({ keep });
  });
}

export async function forgetPages() {
  if (!globalThis.caches) return;
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith("formease-pages-")).map((name) => caches.delete(name)));
}

/** After signing out: deletes edits, cached pages and conflict drafts of this person. */
export async function forget(person) {
  remove(PERSON);
  const drafts = `formease:conflict:${person}:`;
  for (const key of keys()) if (key.startsWith(drafts)) remove(key);
  await Promise.all([forgetPages(), new Queue(person).purge()]);
}
