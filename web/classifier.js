// Classifier: from a picture to named classes, with the preprocessing and the labels of the bundle.
import { Predictor } from "./predictor.js";
import { preprocess } from "./preprocess.js";

export class Classifier {
  /** Loads a bundle that was built with --preprocess; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  /**
   * The same in a worker, so that the page stays responsive; `source` is an address.
   * @returns {Promise<WorkerClassifier>} with the same classify() and dispose()
   */
  static async inWorker(source, options = {}) {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    return WorkerClassifier.start(worker, source, options);
  }

  /** A classifier over a predictor. */
  constructor(predictor) {
    const { preprocess: spec, labels } = predictor.manifest;
    if (!spec) throw new Error(`${predictor.name} takes no pictures: build it with --preprocess (imagenet, caffe, tf, none or a file)`);
    this.predictor = predictor;
    this.labels = labels ?? null;
    this.spec = spec;
    this.others = predictor.inputs.filter((t) => t.name !== spec.input);
    if (this.others.length) throw new Error(`${predictor.name} has the inputs ${predictor.inputs.map((t) => t.name).join(", ")}: use its Predictor`);
    const size = (t) => t.shape.reduce((n, d) => n * d, 1);
    const named = predictor.outputs.find((t) => t.dtype.startsWith("float") && size(t) === labels?.length);
    this.output = (named ?? predictor.outputs[0]).name;
    this.timing = null;
  }

  /**
   * @param image ImageBitmap, image element, canvas, video, VideoFrame, ImageData or {data, width, height}
   * @returns {Promise<{index, label, probability}[]>} the likeliest first
   */
  async classify(image, { topK = 5, signal } = {}) {
    signal?.throwIfAborted();
    const began = performance.now();
    const input = preprocess(image, this.spec);
    const prepared = performance.now();
    const outputs = await this.predictor.run({ [this.spec.input]: input });
    this.timing = { preprocess: prepared - began, run: performance.now() - prepared };
    return best(outputs[this.output], this.labels, topK);
  }

  dispose() {
    this.predictor.dispose();
  }
}

/** The classes with the largest scores. Scores that are no probabilities (of sum 1) go through softmax. */
export function best(scores, labels, topK) {
  let values = Array.from(scores, Number);
  const sum = values.reduce((a, b) => a + b, 0);
  if (Math.abs(sum - 1) > 1e-3 || values.some((v) => v < 0)) {
    const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = values.map((v) => Math.exp(v - largest));
    const total = powers.reduce((a, b) => a + b, 0);
    values = powers.map((v) => v / total);
  }
  return values
    .map((probability, index) => ({ index, label: labels?.[index] ?? String(index), probability }))
    .sort((a, b) => b.probability - a.probability || a.index - b.index)
    .slice(0, topK);
}

/** A Classifier that lives in a worker. */
export class WorkerClassifier {
  static async start(worker, source, { signal, onProgress, cache, build } = {}) {
    signal?.throwIfAborted();
    const self = new this(worker);
    const page = globalThis.document?.baseURI ?? globalThis.location?.href;
    const options = { cache, build };
    const address = new URL(String(source), page).href;
    try {
      const about = await self._ask("load", [address, options], [], { signal, onProgress });
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
    if (!this._worker) return Promise.reject(new Error("the classifier is disposed of; load it again"));
    const id = this._next++;
    return new Promise((resolve, reject) => {
      const abort = () => {
        this._worker?.postMessage({ id, abort: true });
        this._waiting.delete(id);
        reject(signal.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
      const done = () => signal?.removeEventListener("abort", abort);
      this._waiting.set(id, { resolve, reject, onProgress, done });
      this._worker.postMessage({ id, method, args }, transfer);
    });
  }

  async classify(image, { topK = 5, signal } = {}) {
    signal?.throwIfAborted();
    let own = image;
    if (image?.data) own = { data: image.data, width: image.width, height: image.height };
    else own = await createImageBitmap(image);
    const { classes, timing } = await this._ask("classify", [own, { topK }], own.data ? [] : [own], { signal });
    this.timing = timing;
    return classes;
  }

  dispose() {
    this._end(new Error("the classifier is disposed of; load it again"));
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
