// ModelWorker: a model that lives in a worker (worker.js), so that the page stays responsive.

export class ModelWorker {
  /** Starts worker.js on a bundle; `kind` is the class of index.js that runs the model there. */
  static async start(source, { signal, onProgress, cache, build, threads, backend, manifest } = {}) {
    if (typeof Worker !== "function") throw new Error(`there are no web workers here: use ${this.kind}.load`);
    signal?.throwIfAborted();
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    const self = new this(worker);
    const page = globalThis.document?.baseURI ?? globalThis.location?.href;
    const address = new URL(String(source), page).href;
    try {
      const options = { cache, build, threads, backend, manifest };
      const about = await self._ask("load", [this.kind, address, options], [], { signal, onProgress });
      return Object.assign(self, about);
    } catch (e) {
      worker.terminate();
      throw e;
    }
  }

  constructor(worker) {
    this._worker = worker;
    this._waiting = new Map();
    this._next = 0;
    this.timing = null;
    worker.onmessage = ({ data: { id, progress, result, error } }) => {
      const call = this._waiting.get(id);
      if (!call) return;
      if (progress) return call.onProgress?.(progress);
      this._waiting.delete(id);
      call.done();
      if (error) call.reject(Object.assign(new Error(error.message), { name: error.name }));
      else call.resolve(result);
    };
    const fail = (e) => this._end(new Error(`the worker failed: ${e.message ?? "its script cannot be loaded"}`));
    worker.onerror = fail;
    worker.onmessageerror = fail;
  }

  _ask(method, args, transfer, { signal, onProgress } = {}) {
    if (!this._worker) return Promise.reject(new Error("the model is disposed of; load it again"));
    const id = this._next++;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      this._worker.postMessage({ id, method, args }, transfer);
      const abort = () => {
        this._worker?.postMessage({ id, abort: true });
        this._waiting.delete(id);
        reject(signal.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
      const done = () => signal?.removeEventListener("abort", abort);
      this._waiting.set(id, { resolve, reject, onProgress, done });
    });
  }

  dispose() {
    this._end(new Error("the model is disposed of; load it again"));
  }

  _end(reason) {
    this._worker?.terminate();
    this._worker = null;
    for (const call of this._waiting.values()) {
      call.done();
      call.reject(reason);
    }
    this._waiting.clear();
  }
}
