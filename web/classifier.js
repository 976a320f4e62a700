// Classifier: from a picture to named classes, with the preprocessing and the labels of the bundle.
import { PictureModel, PictureWorker } from "./picture_model.js";

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
    const named = predictor.outputs.find((t) => t.dtype.startsWith("float") && size(t) === this.labels?.length);
    this.output = this.task.output ?? (named ?? predictor.outputs[0]).name;
  }

  /**
   * @param image ImageBitmap, image element, canvas, video, VideoFrame, ImageData or {data, width, height}
   * @param options {topK, shape, signal}; shape is the number of a set of shapes, the predictor's unless given
   * @returns {Promise<{index, label, probability}[]>} the likeliest first
   */
  async classify(image, { topK = 5, ...options } = {}) {
    const outputs = await this._outputs(image, options);
    return best(outputs[this.output], this.labels, topK);
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
