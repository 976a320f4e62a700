// The worker behind inWorker(): messages {id, method, args} in; {id, progress | result | error} out.
import * as kinds from "./index.js";

const WARM_RUNS = 4;
let model = null;
const running = new Map();

/** Lets the messages come in that wait. */
const { port1, port2 } = new MessageChannel();
function turn() {
  return new Promise((done) => {
    port1.addEventListener("message", done, { once: true });
    port1.start();
    port2.postMessage(null);
  });
}

const methods = {
  async load([kind, source, options], report, signal) {
    const onProgress = (progress) => report({ progress });
    model = await kinds[kind].load(source, { ...options, signal, onProgress });
    const { manifest, build, threads, backend, backendNote } = model.predictor;
    return { manifest, build, threads, backend, backendNote, labels: model.labels };
  },
  /** Runs a model on zeros, without its weights. */
  async warmUp([module, manifest, build]) {
    const predictor = await kinds.Predictor.instance(module, manifest, build);
    predictor.runWithoutWeights(WARM_RUNS);
  },

  /** What a method of the model gives. */
  async call([method, ...args]) {
    return model[method](...args);
  },

  /** What an asynchronous generator of the model yields, piece by piece; an abort may arrive between two of them. */
  async stream([method, value, options], report, signal) {
    for await (const piece of model[method](value, { ...options, signal })) {
      report({ progress: { piece, timing: model.timing } });
      await turn();
    }
    return model.timing;
  },

  async show([method, image, options]) {
    try {
      const answer = await model[method](image, options);
      const { backend, backendNote } = model.predictor; // which a lost device changes
      return { answer, timing: model.timing, backend, backendNote };
    } finally {
      image.close?.();
    }
  },
};

self.onmessage = async ({ data: { id, method, args, abort } }) => {
  if (abort) return running.get(id)?.abort();
  const report = (message) => self.postMessage({ id, ...message });
  const control = new AbortController();
  running.set(id, control);
  try {
    report({ result: await methods[method](args, report, control.signal) });
  } catch (e) {
    report({ error: { name: e.name, message: e.message } });
  } finally {
    running.delete(id);
  }
};
