// Detector: from a picture to boxes. The definition stands in src/dlpack/detect.py, step by step; the two give the same.
import { PictureModel, PictureWorker } from "./picture_model.js";
import { sizeOf } from "./preprocess.js";

/** A Detector that lives in a worker. */
export class WorkerDetector extends PictureWorker {
  static kind = "Detector";

  detect(image, options) {
    return this._show("detect", image, options);
  }
}

export class Detector extends PictureModel {
  static Remote = WorkerDetector;

  constructor(predictor) {
    super(predictor);
    if (this.task.kind !== "detect") throw new Error(`${predictor.name} is no detector: build it with --task`);
  }

  /** The outputs' shapes by name. */
  get shapes() {
    return Object.fromEntries(this.predictor.outputs.map((t) => [t.name, t.shape]));
  }

  /**
   * @param image as of Classifier.classify
   * @param options {threshold, iou, shape, signal}; threshold and iou default to the task's
   * @returns {Promise<{index, label, score, x, y, width, height}[]>} the surest first, in pixels of the picture
   */
  async detect(image, { threshold = this.task.threshold, iou = this.task.iou, ...options } = {}) {
    const outputs = await this._outputs(image, options);
    const likely = decoders[this.task.format](outputs, this, threshold);
    const named = likely.filter(({ index }) => index >= 0 && index !== this.task.background);
    const size = sizeOf(image);
    return suppressed(named, iou, this.task.most)
      .map(({ index, score, box }) => {
        const label = this.labels?.[index] ?? String(index);
        return { index, label, score, ...inPicture(box, this.spec, size) };
      })
      .filter(({ width, height }) => width > 0 && height > 0);
  }
}

/** Of boxes of one class that overlap by more than `iou`, the one with the highest score; at most `most`. */
export function suppressed(candidates, iou, most) {
  const kept = [];
  for (const c of [...candidates].sort((a, b) => b.score - a.score)) {
    if (kept.length === most) break;
    if (kept.every((k) => k.index !== c.index || overlap(k.box, c.box) <= iou)) kept.push(c);
  }
  return kept;
}

/** Intersection over union of two boxes (left, top, right, bottom). */
function overlap(a, b) {
  const side = (k) => Math.max(0, Math.min(a[k + 2], b[k + 2]) - Math.max(a[k], b[k]));
  const common = side(0) * side(1);
  const union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common;
  return union > 0 ? common / union : 0;
}

/** A box relative to the input, in pixels of the picture. */
function inPicture(box, spec, { width, height }) {
  const short = Math.min(width, height);
  const along = (part, side, size) => {
    const scaled = spec.resize ? Math.floor((2 * size * spec.resize + short) / (2 * short)) : side;
    return Math.min(size, Math.max(0, ((Math.floor((scaled - side) / 2) + part * side) * size) / scaled));
  };
  const [x, right] = [box[0], box[2]].map((part) => along(part, spec.width, width));
  const [y, bottom] = [box[1], box[3]].map((part) => along(part, spec.height, height));
  return { x, y, width: right - x, height: bottom - y };
}

/** A level's anchors in the order of the boxes: centre and size, relative to the input. */
function placed({ anchors, clip }, { width, height }) {
  const all = [];
  const cut = (v) => (clip ? Math.min(1, Math.max(0, v)) : v);
  for (const { stride, sizes } of anchors) {
    for (let row = 0; row < Math.ceil(height / stride); row++) {
      for (let column = 0; column < Math.ceil(width / stride); column++) {
        const [x, y] = [((column + 0.5) * stride) / width, ((row + 0.5) * stride) / height];
        for (const [w, h] of sizes) all.push([x, y, w / width, h / height].map(cut));
      }
    }
  }
  return all;
}

/** The candidates of two outputs: their likeliest class but the background, where its score is at least `threshold`. */
function scored(outputs, { task, shapes }, threshold, boxOf) {
  const scores = outputs[task.scores];
  const [, count, classes] = shapes[task.scores];
  const found = [];
  for (let n = 0; n < count; n++) {
    let [index, score] = [-1, -Infinity];
    for (let c = 0; c < classes; c++) {
      const value = scores[n * classes + c];
      if (c !== task.background && value > score) [index, score] = [c, value];
    }
    if (score >= threshold) found.push({ index, score, box: boxOf(n) });
  }
  return found;
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

const decoders = {
  corners(outputs, model, threshold) {
    const boxes = outputs[model.task.boxes];
    const { width, height } = model.spec;
    const unit = model.task.coordinates === "pixels" ? [width, height] : [1, 1];
    return scored(outputs, model, threshold, (n) => [0, 1, 2, 3].map((k) => boxes[4 * n + k] / unit[k % 2]));
  },

  anchors(outputs, model, threshold) {
    const offsets = outputs[model.task.boxes];
    const [v0, v1] = model.task.variances;
    const anchors = placed(model.task, model.spec);
    return scored(outputs, model, threshold, (n) => {
      const [x, y, w, h] = anchors[n];
      const [dx, dy, dw, dh] = offsets.subarray(4 * n, 4 * n + 4);
      const [cx, cy] = [x + dx * v0 * w, y + dy * v0 * h];
      const [halfW, halfH] = [(w * Math.exp(dw * v1)) / 2, (h * Math.exp(dh * v1)) / 2];
      return [cx - halfW, cy - halfH, cx + halfW, cy + halfH];
    });
  },

  grid(outputs, { task, shapes }, threshold) {
    const values = outputs[task.output];
    const [, channels, rows, columns] = shapes[task.output];
    const cells = rows * columns;
    const found = [];
    for (let n = 0; n < cells; n++) {
      const at = (channel) => values[channel * cells + n];
      let [index, share] = [-1, -Infinity];
      for (let c = 5; c < channels; c++) if (at(c) > share) [index, share] = [c - 5, at(c)];
      const score = at(0) ** 0.6 * share ** 0.4;
      if (!(score >= threshold)) continue;
      const x = ((n % columns) + Math.tanh(at(1))) / columns;
      const y = (Math.floor(n / columns) + Math.tanh(at(2))) / rows;
      const [w, h] = [sigmoid(at(3)) / 2, sigmoid(at(4)) / 2];
      found.push({ index, score, box: [x - w, y - h, x + w, y + h] });
    }
    return found;
  },

  rows(outputs, { task, shapes }, threshold) {
    const values = outputs[task.output];
    const length = shapes[task.output].at(-1);
    const found = [];
    for (let at = length - 6; at < values.length; at += length) {
      const [index, score, ...box] = values.subarray(at, at + 6);
      if (score >= threshold) found.push({ index: Math.trunc(index), score, box });
    }
    return found;
  },
};
