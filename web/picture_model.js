// What Classifier, Detector and Stylizer have in common: a predictor whose input is made of a picture, here or in a worker.
import { Predictor } from "./predictor.js";
import { notReadable, preprocess, sizeOf } from "./preprocess.js";
import { dequantized } from "./quantization.js";
import { pictureSet, shapeSets } from "./shapes.js";

export class PictureModel {
  /** Loads a bundle that was built with --preprocess; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  /**
   * The same in a worker, so that the page stays responsive; `source` is an address.
   * @returns {Promise<PictureWorker>} with the same methods and dispose()
   */
  static async inWorker(source, options = {}) {
    if (typeof Worker !== "function") throw new Error(`there are no web workers here: use ${this.Remote.kind}.load`);
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    return this.Remote.start(worker, source, options);
  }

  constructor(predictor) {
    const { labels, task } = predictor.manifest;
    const { name, inputs } = predictor;
    this.predictor = predictor;
    const { spec } = this;
    if (!spec) throw new Error(`${name} takes no pictures: build it with --preprocess (imagenet, caffe, tf, none or a file)`);
    if (inputs.some((t) => t.name !== spec.input)) {
      throw new Error(`${name} has the inputs ${inputs.map((t) => t.name).join(", ")}: use its Predictor`);
    }
    this.labels = labels ?? null;
    this.task = task ?? {};
    this.timing = null;
  }

  /** The number of the set of shapes that a picture goes into: the predictor's, or the first that takes one. */
  get shape() {
    const { manifest, shape = 0 } = this.predictor;
    return pictureSet(shapeSets(manifest), shape);
  }

  /** How a picture becomes the input in that set. */
  get spec() {
    return shapeSets(this.predictor.manifest)[this.shape]?.preprocess;
  }

  /** The outputs for a picture, by name, in real numbers where they are quantised; `shape` is the number of a set of shapes. */
  async _outputs(image, { signal, shape = this.shape }) {
    signal?.throwIfAborted();
    const began = performance.now();
    const { name, manifest, shape: now = 0 } = this.predictor;
    const spec = shapeSets(manifest)[shape]?.preprocess;
    if (!spec) throw new RangeError(`${name} takes no picture in its shapes number ${shape}`);
    if (shape !== now) this.predictor.setShape(shape);
    const input = preprocess(image, spec);
    const prepared = performance.now();
    const outputs = await this.predictor.run({ [spec.input]: input });
    signal?.throwIfAborted();
    this.timing = { preprocess: prepared - began, run: performance.now() - prepared };
    return Object.fromEntries(this.predictor.outputs.map((t) => [t.name, dequantized(t, outputs[t.name])]));
  }

  dispose() {
    this.predictor.dispose();
  }
}

/** A PictureModel that lives in a worker. */
export class PictureWorker {
  static async start(worker, source, { signal, onProgress, cache, build, threads, backend } = {}) {
    signal?.throwIfAborted();
    const self = new this(worker);
    const page = globalThis.document?.baseURI ?? globalThis.location?.href;
    const address = new URL(String(source), page).href;
    try {
      const about = await self._ask("load", [this.kind, address, { cache, build, threads, backend }], [], { signal, onProgress });
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

  /** Calls the model's method with a picture. */
  async _show(method, image, { signal, ...options } = {}) {
    signal?.throwIfAborted();
    let own;
    if (image?.data) own = { data: image.data, width: image.width, height: image.height };
    else {
      sizeOf(image);
      own = await createImageBitmap(image);
    }
    const sent = this._ask("show", [method, own, options], own.data ? [] : [own], { signal });
    const { answer, ...told } = await sent.catch((e) => {
      throw e.name === "DataCloneError" ? notReadable(e) : e;
    });
    Object.assign(this, told);
    return answer;
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
