// Classifier: from a picture to named classes, with the preprocessing and the labels of the bundle.
import { PictureModel, PictureWorker } from "./picture_model.js";
import { isReal } from "./quantization.js";

/** A Classifier that lives in a worker. */
export class WorkerClassifier extends PictureWorker {
  static kind = "Classifier";

  classify(image, options) {
    return this._show("classify", image, options);
  }
}

export class Classifier extends PictureModel {
  static Remote = WorkerClassifier;

  constructor(predictor) {
    super(predictor);
    const size = (t) => t.shape.reduce((n, d) => n * d, 1);
    const named = predictor.outputs.find((t) => isReal(t) && size(t) === this.labels?.length);
    this.output = this.task.output ?? (named ?? predictor.outputs[0]).name;
  }

  /** The likeliest classes of a picture: {index, label, probability} each; index.d.ts has the options. */
  async classify(image, { topK = 5, ...options } = {}) {
    const outputs = await this._outputs(image, options);
    const { quantization, probabilities } = this.predictor.outputs.find((t) => t.name === this.output);
    return best(outputs[this.output], this.labels, topK, { step: quantization?.scale, probabilities });
  }
}

/**
 * The classes with the largest scores. They go through softmax unless they are known to be `probabilities`, or look like
 * them: none is negative, their sum is 1. Quantising by steps of `step` moves each by up to half a step; none is above 1 then.
 */
export function best(scores, labels, topK, { step = 0, probabilities = false } = {}) {
  let values = Array.from(scores, Number);
  const sum = values.reduce((a, b) => a + b, 0);
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const unlike = Math.abs(sum - 1) > 1e-3 + (values.length * step) / 2 || values.some((v) => v < 0);
  if (!probabilities && (unlike || (step && largest > 1 + step / 2))) {
    const powers = values.map((v) => Math.exp(v - largest));
    const total = powers.reduce((a, b) => a + b, 0);
    values = powers.map((v) => v / total);
  }
  return values
    .map((probability, index) => ({ index, label: labels?.[index] ?? String(index), probability }))
    .sort((a, b) => b.probability - a.probability || a.index - b.index)
    .slice(0, topK);
}
