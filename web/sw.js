// The demo page's service worker: the network answers, and where there is none, what demo_offline.js has kept. It begins
// with the next visit: to claim this one, Firefox waits for threads, which sleep until the page runs its model.

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const { origin, pathname } = new URL(url);
  if (method !== "GET" || origin !== self.location.origin || pathname.endsWith(".weights")) return;
  event.respondWith(fetch(event.request).catch((e) => kept(event.request, e)));
});

async function kept(request, failure) {
  const cache = await caches.open("dlpack page");
  const response = await cache.match(request, { ignoreSearch: true });
  if (!response) throw failure;
  return response;
}
