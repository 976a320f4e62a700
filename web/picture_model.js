// What Classifier, Detector and Stylizer have in common: a predictor whose input is made of a picture, here or in a worker.
import { ModelWorker } from "./model_worker.js";
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
  static inWorker(source, options) {
    return this.Remote.start(source, options);
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
export class PictureWorker extends ModelWorker {
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
}
