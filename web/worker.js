// The worker behind Classifier.inWorker(): messages {id, method, args} in; {id, progress | result | error} out.
import { Classifier } from "./classifier.js";

let classifier = null;
const running = new Map();

const methods = {
  async load([source, options], report, signal) {
    const onProgress = (progress) => report({ progress });
    classifier = await Classifier.load(source, { ...options, signal, onProgress });
    const { manifest, build } = classifier.predictor;
    return { manifest, build, labels: classifier.labels };
  },
  async classify([image, options]) {
    try {
      return { classes: await classifier.classify(image, options), timing: classifier.timing };
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
