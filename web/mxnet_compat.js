// mxnet.js's API over a bundle, for pages written for it; README.md shows the line to change.
import { Predictor as Compiled } from "./index.js";

/**
 * Loads the model that `new Predictor(model, shapes)` takes.
 * @param {string | URL | object} source as Predictor.load of the package takes it, or a promise of it; the bundle in
 *   that contains this file by default
 * @param {object} options the same as there
 */
export async function loadModel(source = new URL(".", import.meta.url), options = {}) {
  const compiled = await Compiled.load(await source, options);
  return { synset: compiled.manifest.labels ?? null, meanimg: meanImage(compiled.manifest.preprocess), compiled };
}

/** The same, after it has put Predictor, ndarray and base64Decode where a page's classic scripts find them. */
export function install(source, options) {
  Object.assign(globalThis, { Predictor, ndarray, base64Decode });
  return loadModel(source, options);
}

/** An array: `data` becomes a Float32Array, `shape` a Uint32Array. */
export function ndarray(data, shape) {
  const array = { data: Float32Array.from(data), shape: Uint32Array.from(shape) };
  if (array.data.length !== count(array.shape)) {
    throw new Error(`${array.data.length} values do not make an array of ${text(array.shape)}`);
  }
  return array;
}

/** The bytes of a base64 text. */
export function base64Decode(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/**
 * Predictors of one model share its memory, so they take none of their own; between two steps of `partialforward`
 * no other of them may run.
 */
export class Predictor {
  /** `shapes`: {input: [sizes]}, which have to be those that the bundle was compiled for. */
  constructor(model, shapes = {}) {
    if (!(model?.compiled instanceof Compiled)) {
      throw new TypeError("the model is not one of loadModel(): a model's JSON file cannot be run, build a bundle from it");
    }
    const { inputs, name } = model.compiled;
    for (const [key, shape] of Object.entries(shapes)) {
      const want = find(inputs, key, name).shape;
      if (text(shape) !== text(want)) {
        throw new Error(`${name} was compiled for "${key}" of ${text(want)}, not ${text(shape)}: build it with that --shape`);
      }
    }
    this.model = model;
    this.input_shapes = shapes;
    this.meanimg = model.meanimg;
    const zeros = (t) => new Array(count(t.shape)).fill(t.quantization?.zero_point ?? 0);
    this._inputs = Object.fromEntries(inputs.map((t) => [t.name, zeros(t)]));
    this._outputs = null;
  }

  /** Copies an array in. Inputs that were never set are zeros. */
  setinput(key, { data }) {
    const { inputs, name } = this._open();
    const { shape, dtype, quantization } = find(inputs, key, name);
    if (data.length !== count(shape)) {
      throw new Error(`input "${key}" has ${data.length} values; the model takes ${count(shape)} (${text(shape)})`);
    }
    const floats = dtype === "float32" ? Float32Array.from(data) : Array.from(data);
    const whole = () => (quantization ? this._open().quantize(key, floats) : floats.map(Math.trunc));
    this._inputs[key] = dtype.startsWith("float") ? floats : whole();
  }

  forward() {
    const compiled = this._open();
    this.model.stepping = null;
    this._outputs = compiled.runSync(this._inputs);
  }

  /** Does step 0, then 1 and so on; returns how many are left. */
  partialforward(step) {
    const compiled = this._open();
    if (step === 0) {
      compiled.setInputs(this._inputs);
      this.model.stepping = this;
    } else if (this.model.stepping !== this) {
      throw new Error("partialforward begins with step 0, and no other predictor of the model may run before its last");
    }
    compiled.runStep(step);
    const left = (this._steps ??= compiled.steps.length) - step - 1;
    if (left === 0) {
      this.model.stepping = null;
      this._outputs = compiled.outputValues();
    }
    return left;
  }

  /** An output of the last forward: {data: Float32Array, shape: Uint32Array}. */
  output(index) {
    const tensor = this._open().outputs[index];
    if (!tensor) throw new RangeError(`there is no output ${index}; the model has ${this.model.compiled.outputs.length}`);
    if (!this._outputs) throw new Error("there is no output yet: call forward() first");
    const values = this._open().dequantize(tensor.name, this._outputs[tensor.name]);
    return ndarray(typeof values[0] === "bigint" ? Array.from(values, Number) : values, tensor.shape);
  }

  /** The predictor cannot be used after it. The model can; `model.compiled.dispose()` gives its memory back. */
  destroy() {
    this.model = this._inputs = this._outputs = null;
  }

  _open() {
    if (!this.model) throw new Error("the predictor is destroyed; make another");
    return this.model.compiled;
  }
}

function find(tensors, name, model) {
  const tensor = tensors.find((t) => t.name === name);
  if (!tensor) throw new Error(`${model} has no input "${name}"; it has ${tensors.map((t) => `"${t.name}"`).join(", ")}`);
  return tensor;
}

function count(shape) {
  return shape.reduce((n, d) => n * d, 1);
}

function text(shape) {
  return Array.from(shape).join(" x ");
}

/** The picture that pages subtract from theirs; undefined where the bundle's preprocessing is more than that. */
function meanImage(spec) {
  if (!spec || spec.scale !== 1 || spec.std.some((v) => v !== 1) || spec.layout !== "NCHW") return undefined;
  const plane = spec.height * spec.width;
  const channels = spec.channels === "GRAY" ? 1 : 3;
  const data = Float32Array.from({ length: channels * plane }, (_, i) => spec.mean[Math.floor(i / plane) % spec.mean.length]);
  return ndarray(data, [channels, spec.height, spec.width]);
}
