// Stylizer: from a picture to a picture.
import { PictureModel, PictureWorker } from "./picture_model.js";

/** A Stylizer that lives in a worker. */
export class WorkerStylizer extends PictureWorker {
  static kind = "Stylizer";

  stylize(image, options) {
    return this._show("stylize", image, options);
  }
}

export class Stylizer extends PictureModel {
  static Remote = WorkerStylizer;

  constructor(predictor) {
    super(predictor);
    if (this.task.kind !== "style") throw new Error(`${predictor.name} makes no picture: build it with --task`);
  }

  /**
   * @param image as of Classifier.classify
   * @param options {shape, signal}
   * @returns {Promise<{data: Uint8ClampedArray, width, height}>} RGBA in the model's size, as ImageData has it
   */
  async stylize(image, options = {}) {
    const values = (await this._outputs(image, options))[this.task.output];
    const [, , height, width] = this.predictor.outputs.find((t) => t.name === this.task.output).shape;
    const [low, high] = this.task.range;
    const data = new Uint8ClampedArray(4 * width * height).fill(255); // it rounds and clamps
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) data[4 * i + c] = (255 * (values[c * width * height + i] - low)) / (high - low);
    }
    return { data, width, height };
  }
}
