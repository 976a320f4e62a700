// Threads: workers that compute parts of a kernel's loop, over shared memory.
const NODE = "node:worker_threads"; // named here, so that bundlers for pages do not look for it
let reported = false;

/** How many threads to use: what the model was built for and the caller allows, 1 where this place has no threads. */
export function threadCount(manifest, atMost) {
  const count = Math.min(manifest.wasm_threads?.count ?? 1, atMost ?? globalThis.navigator?.hardwareConcurrency ?? 1);
  if (!(count >= 2)) return 1;
  if (globalThis.crossOriginIsolated !== false && typeof SharedArrayBuffer === "function") return Math.floor(count);
  if (!reported) console.info(`${manifest.name} runs on one thread: to use ${count}, serve this page cross-origin isolated`);
  reported = true;
  return 1;
}

/** The memory that threads share: the builds for threads import it. It grows up to what is reserved for it here. */
export function sharedMemory({ name, wasm_threads: { pages } }) {
  const [initial, most] = pages;
  for (let maximum = most; ; maximum >>= 1) {
    try {
      return new WebAssembly.Memory({ initial, maximum, shared: true });
    } catch (cause) {
      if (maximum > most >> 3) continue; // small devices reserve less
      const size = (maximum * 65536) / 1e6;
      throw new Error(`${name} cannot reserve ${Math.round(size)} MB for its threads: load it with threads: 1`, { cause });
    }
  }
}

/** Starts a worker for each stack (the address of its top); none where one cannot be started. */
export async function startThreads(name, module, memory, stacks) {
  const Worker = globalThis.Worker ?? (await import(/* webpackIgnore: true */ /* @vite-ignore */ NODE)).Worker;
  const workers = [];
  const ready = (worker) =>
    new Promise((resolve, reject) => {
      const answer = ({ error }) => (error === null ? resolve() : reject(new Error(error)));
      if (worker.on) worker.on("message", answer).on("error", reject);
      else [worker.onmessage, worker.onerror] = [({ data }) => answer(data), reject];
    });
  try {
    for (const stack of stacks) {
      // In node a worker inherits the process's options by default, and not all of them suit a file.
      const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module", execArgv: [] });
      workers.push(worker);
      worker.postMessage({ module, memory, stack });
    }
    await Promise.all(workers.map(ready));
    workers.forEach((worker) => worker.unref?.()); // node may end without them
  } catch (e) {
    e.preventDefault?.(); // an event of onerror: it is reported here
    console.warn(`${name} runs on one thread: a worker cannot be started (${e.message || "thread.js cannot be loaded"})`);
    workers.splice(0).forEach((worker) => worker.terminate());
  }
  return workers;
}
