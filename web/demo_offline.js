// Keeps the demo page for a visit without a network: its files here, the weights by predictor.js; sw.js answers with them.

/** Keeps the page of the bundle at `address`, all of it or nothing; true when it is kept. */
export async function keep(address, manifest, build) {
  if (!globalThis.caches || !navigator.serviceWorker) return false; // an insecure origin has neither
  try {
    await navigator.serviceWorker.register(new URL("sw.js", address));
    await navigator.serviceWorker.ready;
    const cache = await caches.open("dlpack page");
    const files = ["./", "demo.css", "page.json", manifest.wasm[build].file, ...manifest.scripts];
    const { plan, shaders } = manifest.webgpu ?? {};
    if (plan && (await navigator.gpu?.requestAdapter())) files.push("webgpu.js", plan.file, shaders.file);
    await cache.addAll(files.map((file) => new URL(file, address).href));
    return await weightsAreKept(address, manifest);
  } catch {
    return false; // no room, or this browser keeps nothing: the page works with the network alone
  }
}

const [TRIES, PAUSE] = [20, 250]; // milliseconds

/** Whether predictor.js has room for the weights: it keeps them when the model is ready. */
async function weightsAreKept(address, { weights }) {
  if (!weights) return true;
  const key = new URL(`${weights.file}?sha256=${weights.sha256}`, address);
  const cache = await caches.open("dlpack");
  for (let k = 0; k < TRIES; k++) {
    if (await cache.match(key.href)) return true;
    await new Promise((done) => setTimeout(done, PAUSE));
  }
  return false;
}
