// Threads: workers that help a predictor with the trips of a kernel's loop, over shared memory.
let told = false;

/** How many threads to use: what the model was built for and the caller allows, 1 where this place has no threads. */
export function threadCount(manifest, atMost) {
  const count = Math.min(manifest.wasm_threads?.count ?? 1, atMost ?? globalThis.navigator?.hardwareConcurrency ?? 1);
  if (!(count >= 2)) return 1;
  if (globalThis.crossOriginIsolated !== false && typeof SharedArrayBuffer === "function") return Math.floor(count);
  if (!told) console.info(`${manifest.name} runs on one thread: for ${count}, serve this page cross-origin isolated`);
  told = true;
  return 1;
}

/** The memory that threads share: the builds for threads import it. */
export function sharedMemory(manifest) {
  const [initial, most] = manifest.wasm_threads.pages;
  for (let maximum = most; ; maximum >>= 1) {
    try {
      return new WebAssembly.Memory({ initial, maximum, shared: true });
    } catch (e) {
      if (maximum <= most >> 3) throw e; // small devices reserve no more than this
    }
  }
}

/** Starts a worker for each stack (the address of its top), which makes ready to help; none where one cannot be started. */
export async function startThreads(name, module, memory, stacks) {
  const Kind = globalThis.Worker ?? (await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads")).Worker;
  const workers = [];
  const ready = (worker) =>
    new Promise((resolve, reject) => {
      if (worker.on) worker.on("message", resolve).on("error", reject);
      else [worker.onmessage, worker.onerror] = [resolve, reject];
    });
  try {
    for (const stack of stacks) {
      const worker = new Kind(new URL("./thread.js", import.meta.url), { type: "module" });
      workers.push(worker);
      worker.postMessage({ module, memory, stack });
    }
    await Promise.all(workers.map(ready));
    workers.forEach((worker) => worker.unref?.()); // node may end without them
  } catch (e) {
    console.warn(`${name} runs on one thread: a worker cannot be started (${e.message ?? "see the console"})`);
    workers.splice(0).forEach((worker) => worker.terminate());
  }
  return workers;
}
