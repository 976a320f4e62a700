// The neural network @name@. @about@
import { createRequire } from 'node:module';
//@ if side
import { fileURLToPath } from 'node:url';
//@ end

const addon = createRequire(import.meta.url)('./@name@.node');

const INPUTS = {
  @inputs@
};
const OUTPUTS = {
  @outputs@
};

/** A compiled model. Its calls return when they are done; `close` gives its memory back, else the garbage collector. */
export class Predictor {
  #handle;

//@ if side
  /** Maps the weights: those of this package, or the file of that path. */
  constructor(weights = fileURLToPath(new URL('@weights@', import.meta.url))) {
    if (Buffer.byteLength(weights) > 4095) throw new RangeError('the path of the weights is longer than 4095 bytes');
    this.#handle = addon.create(weights);
  }
//@ else
  constructor() {
    this.#handle = addon.create();
  }
//@ end

  /** Computes all outputs: typed arrays by name, row-major. Throws for an input that is missing, unknown or ill-formed. */
  run(inputs) {
    this.#open();
    for (const name of Object.keys(inputs)) {
      if (!Object.hasOwn(INPUTS, name)) {
        throw new TypeError(`unknown input ${name}; the model has ${Object.keys(INPUTS).join(', ')}`);
      }
    }
    for (const [name, { type, size, kind }] of Object.entries(INPUTS)) {
      const data = inputs[name];
      if (!(data instanceof type)) throw new TypeError(`input ${name} (${kind}) is no ${type.name}`);
      if (data.length !== size) {
        throw new RangeError(`input ${name} (${kind}) has ${data.length} elements; ${size} are needed`);
      }
    }
    for (const [name, { index, size }] of Object.entries(INPUTS)) {
      if (size > 0) addon.setInput(this.#handle, index, inputs[name], inputs[name].byteLength);
    }
    addon.run(this.#handle);
    const outputs = {};
    for (const [name, { index, type, size }] of Object.entries(OUTPUTS)) {
      outputs[name] = new type(size);
      if (size > 0) addon.getOutput(this.#handle, index, outputs[name], outputs[name].byteLength);
    }
    return outputs;
  }
//@ if pictures

  /** The `count` likeliest classes of a picture, the likeliest first: `height` rows of `width` pixels R, G, B. */
  classify(rgb, width, height, count = 5) {
    this.#open();
    if (!(rgb instanceof Uint8Array || rgb instanceof Uint8ClampedArray)) {
      throw new TypeError('the picture is no Uint8Array');
    }
    if (![width, height].every((side) => Number.isInteger(side) && side > 0) || rgb.length !== 3 * width * height) {
      throw new RangeError(`the picture has ${rgb.length} bytes; 3 x ${width} x ${height} are needed`);
    }
    addon.preprocessRgb(this.#handle, rgb, width, height);
    addon.run(this.#handle);
    return this.#top(count);
  }
//@ end
//@ if numbers

  /** The `count` likeliest classes of the inputs that `run` takes, the likeliest first. */
  classify(inputs, count = 5) {
    this.run(inputs);
    return this.#top(count);
  }
//@ end

  /** Gives the memory back. Closing twice is no error. */
  close() {
    if (this.#handle) addon.destroy(this.#handle);
    this.#handle = undefined;
  }
//@ if classes

  #top(count) {
    if (!Number.isInteger(count) || count < 1) throw new RangeError(`count is ${count}; at least one class can be asked for`);
    const classes = addon.topK(this.#handle, Math.min(count, @classes@));
    return classes.map((c) => ({ index: c.index, label: c.label ?? String(c.index), probability: c.probability }));
  }
//@ end

  #open() {
    if (!this.#handle) throw new Error('the predictor is closed');
  }
}
