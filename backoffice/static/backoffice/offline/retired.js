// Served instead of the worker while OFFLINE=0: it replaces the previous worker and unregisters itself. Queued edits are
// not stored by the worker, and stay.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(retire()));

async function retire() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith("formease-")).map((name) => caches.delete(name)));
  await self.registration.unregister();
}
