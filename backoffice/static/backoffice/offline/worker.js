// The service worker of /admin/. Online every page comes from the server. Offline, or when the server does not answer,
// it serves the shell and the record pages this person opened last, each with the files of its own release.
//
// `self.formease` is prepended by the server: version, parts (URL -> hash), words, page, records.

const { version, parts, words, page: offlinePage, records } = self.formease;
const SHELLS = "formease-shell-"; // followed by the release, which is also the value of a kept page's X-Keep
const SHELL = SHELLS + version;
const PAGES = "formease-pages-"; // followed by the person's number
const MAX_PAGES = 40;
const MAX_SHELLS = 3; // kept pages of older releases are deleted
const HASHED = /\.[0-9a-f]{12}\.\w+$/; // a file whose name names its content
const TIMEOUT_MS = 8000; // then an older copy is better than waiting
const AWAY = new Set([502, 503, 504]);
const RECORD = new RegExp(records);
const IGNORE_QUERY = { ignoreVary: true, ignoreSearch: true };

const withoutNetwork = new Map(); // clients with a cached page -> its release, of which all its files must be

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (request.mode === "navigate") event.respondWith(answerPage(event, url));
  else if (HASHED.test(url.pathname) || url.pathname in parts || url.pathname === words) event.respondWith(answerPart(event, url));
});
self.addEventListener("message", (event) => {
  if (event.data?.keep) event.waitUntil(Promise.all(event.data.keep.map(keepAgain)));
  if (event.data?.take) event.waitUntil(self.clients.claim().then(() => keepAgain(event.data.take)));
});

// -- lifecycle --------------------------------------------------------------------------------------------------------

/** Installs the whole shell, each file verified by its hash, or no new version at all. */
async function install() {
  const isNew = !(await caches.has(SHELL));
  try {
    await fetchShell();
  } catch (error) {
    if (isNew) await caches.delete(SHELL); // an incomplete shell is useless
    throw error;
  }
  await self.skipWaiting(); // online, pages do not depend on the worker: a newer one may always take over
}

async function fetchShell() {
  const shell = await caches.open(SHELL);
  const whole = Object.entries(parts).map(([address, integrity]) => [address, { integrity, cache: "no-cache" }]);
  const rest = [[words, { cache: "no-cache" }], [`${offlinePage}?shell=1`, { cache: "no-cache" }]];
  await Promise.all(
    [...whole, ...rest].map(async ([address, options]) => {
      const answer = await fetch(address, options);
      if (!isWhole(answer)) throw new Error(`${answer.status} ${address}`);
      await shell.put(new URL(address, self.location).pathname, answer);
    }),
  );
}

async function activate() {
  await dropOldReleases();
  await self.clients.claim();
  const open = await self.clients.matchAll({ type: "window" });
  await Promise.all(open.map((client) => keepAgain(client.url))); // opened before there was a worker
}

/** Deletes the shells that no kept page needs, and the pages whose release is gone or too old. */
async function dropOldReleases() {
  const shells = (await caches.keys()).filter((name) => name.startsWith(SHELLS)); // in the order of the releases
  const usable = new Set([SHELL, ...shells.filter((name) => name !== SHELL).slice(1 - MAX_SHELLS)]);
  const needed = new Set([SHELL]);
  for (const name of await caches.keys()) {
    if (!name.startsWith(PAGES)) continue;
    const pages = await caches.open(name);
    for (const request of await pages.keys()) {
      const shell = SHELLS + releaseOf(await pages.match(request));
      if (usable.has(shell)) needed.add(shell);
      else await pages.delete(request);
    }
  }
  await Promise.all(shells.filter((name) => !needed.has(name)).map((name) => caches.delete(name)));
}

const releaseOf = (page) => page?.headers.get("X-Keep") ?? version;

// -- pages -----------------------------------------------------------------------------------------------------------

/** 1 fetch from the network, up to the timeout  2 check the owner and cache it  3 offline: the cached copy
 *  4 else the page that lists what is available offline */
async function answerPage(event, url) {
  const fetched = fetch(event.request).then((answer) => received(event, url, answer)); // 1, 2
  event.waitUntil(fetched.catch(() => {}));
  const kept = RECORD.test(url.pathname) ? await find(url) : undefined;
  try {
    const answer = await (kept ? Promise.race([fetched, silence()]) : fetched);
    if (!kept || !AWAY.has(answer.status)) return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (withoutNetwork.size > MAX_PAGES) withoutNetwork.clear(); // those have loaded their files by now
  withoutNetwork.set(event.resultingClientId, releaseOf(kept));
  if (kept) return marked(kept); // 3
  const page = await (await caches.open(SHELL)).match(offlinePage, IGNORE_QUERY);
  return page ? marked(page) : Response.error(); // 4
}

const silence = () => new Promise((_, refuse) => setTimeout(() => refuse(new Error("no answer")), TIMEOUT_MS));

/** Deletes all pages of the previous person before a page of another person is shown. */
async function received(event, url, answer) {
  const person = answer.headers.get("X-Person");
  if (person === null) return answer;
  await forget(person);
  event.waitUntil(Promise.all([keep(url, answer.clone()), inLanguage(answer.headers.get("Content-Language"))]));
  return answer;
}

/** Caches a record page if the server allows it and the files of its release are here: the last `MAX_PAGES`, as far as
 *  storage permits. */
async function keep(url, answer) {
  if (!RECORD.test(url.pathname) || !answer.headers.has("X-Keep") || !isWhole(answer)) return;
  if (!(await caches.has(SHELLS + answer.headers.get("X-Keep")))) return; // newer than this worker: the next one does
  if (!answer.headers.get("Content-Type")?.startsWith("text/html")) return;
  const pages = await caches.open(PAGES + answer.headers.get("X-Person"));
  await pages.delete(url.pathname);
  await pages.put(url.pathname, answer).catch((error) => console.warn("offline:", error.message));
  const oldest = await pages.keys(); // in insertion order
  await Promise.all(oldest.slice(0, -MAX_PAGES).map((request) => pages.delete(request)));
}

async function keepAgain(address) {
  const url = new URL(address, self.location);
  if (!RECORD.test(url.pathname)) return;
  try {
    await keep(url, await fetch(url.pathname, { redirect: "manual", headers: { Accept: "text/html" } }));
  } catch {
    // offline: the older copy stays
  }
}

async function forget(person) {
  const others = (await caches.keys()).filter((name) => name.startsWith(PAGES) && name !== PAGES + person);
  await Promise.all(others.map((name) => caches.delete(name)));
}

async function find(url) {
  for (const name of await caches.keys()) {
    const found = name.startsWith(PAGES) && (await (await caches.open(name)).match(url.pathname, IGNORE_QUERY));
    if (found) return found;
  }
  return undefined;
}

/** Refetches the fallback page when the language changed. */
async function inLanguage(language) {
  const shell = await caches.open(SHELL);
  const there = await shell.match(offlinePage, IGNORE_QUERY);
  if (!language || !there || there.headers.get("Content-Language") === language) return;
  const answer = await fetch(`${offlinePage}?shell=1`).catch(() => null);
  if (answer && isOurs(answer) && isWhole(answer)) await shell.put(offlinePage, answer);
}

const isOurs = (answer) => answer.headers.has("X-FormEase"); // and not the sign-in page of a network
const isWhole = (answer) => answer.status === 200 && answer.type === "basic" && !answer.redirected;

/** Marks a cached page as a copy; keeps its headers, including the security policy. */
async function marked(answer) {
  const headers = new Headers(answer.headers);
  for (const name of ["Content-Encoding", "Content-Length"]) headers.delete(name);
  const text = await answer.text();
  return new Response(text.replace("<html ", "<html data-kept "), { status: 200, headers });
}

// -- parts of the shell -----------------------------------------------------------------------------------------------

/** A hashed file never changes, so a copy of it needs no request. Others come from the network, except for pages that
 *  come from the cache themselves. */
async function answerPart(event, url) {
  const kept = await findPart(url, withoutNetwork.get(event.clientId) ?? version);
  if (kept && (HASHED.test(url.pathname) || withoutNetwork.has(event.clientId))) return kept;
  try {
    const answer = await (kept ? Promise.race([fetch(event.request), silence()]) : fetch(event.request));
    if (url.pathname === words && isOurs(answer) && isWhole(answer)) {
      await (await caches.open(SHELL)).put(words, answer.clone());
    }
    if (kept && AWAY.has(answer.status)) return kept;
    return answer;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}

async function findPart(url, release) {
  const names = (await caches.keys()).filter((name) => name.startsWith(SHELLS) && name !== SHELLS + release);
  for (const name of HASHED.test(url.pathname) ? [SHELLS + release, ...names] : [SHELLS + release]) {
    const found = await (await caches.open(name)).match(url.pathname, IGNORE_QUERY);
    if (found) return found;
  }
  return undefined;
}
