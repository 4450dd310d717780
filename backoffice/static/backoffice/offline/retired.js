// Served instead of the worker while OFFLINE=0: it takes the place of the one before and ends itself. What waits to be
// sent is no business of a worker, and stays.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(retire()));

async function retire() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith("formease-")).map((name) => caches.delete(name)));
  await self.registration.unregister();
}
