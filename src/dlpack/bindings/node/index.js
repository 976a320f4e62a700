// The model @name@. @about@
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

const unknownInput = (name) =>
  new TypeError(`unknown input ${name}; the model has ${Object.keys(INPUTS).join(', ')}`);

//@ if open
/** What `call` makes of an input's number and shape; throws where that is undefined: it cannot have the shape. */
function sized(name, extents, call) {
  if (!Object.hasOwn(INPUTS, name)) throw unknownInput(name);
  const made = call(INPUTS[name].index, BigInt64Array.from(extents, BigInt));
  if (made === undefined) throw new RangeError(`input ${name} can be ${INPUTS[name].shapes}, not ${extents.join('x')}`);
  return made;
}

/** The bytes of a predictor for inputs of no more than these shapes; 0, which stands for all, without any. */
const memoryFor = (largest) =>
  Math.max(0, ...Object.entries(largest).map(([name, extents]) => sized(name, extents, addon.memorySizeFor)));

//@ end
@text_values@
//@ if lists
const named = (found) => ({ ...found, label: found.label ?? String(found.index) });

//@ end
/** A compiled model. Its calls return when they are done; `close` gives its memory back, else the garbage collector. */
export class Predictor {
  #handle;

//@ if side
  /** Maps the weights: those of this package, or the file of that path. */
  constructor(weights = fileURLToPath(new URL('@weights@', import.meta.url))@more_options@) {
    if (Buffer.byteLength(weights) > 4095) throw new RangeError('the path of the weights is longer than 4095 bytes');
    this.#handle = addon.create(weights@more_memory@);
  }
//@ else
  constructor(@options@) {
    this.#handle = addon.create(@memory@);
  }
//@ end

//@ if shapes
  /** The number of the set of shapes that inputs and outputs have, at first 0:
   *
   @shape_docs@
   *
   * Setting it chooses another for what comes next.
   */
  get shape() {
    return addon.shape(this.#open());
  }
  set shape(number) {
    const handle = this.#open();
    if (!Number.isInteger(number) || number < 0 || number >= @shape_count@) {
      throw new RangeError(`set of shapes ${number}: there are @shape_count@, from 0 on`);
    }
    addon.setShape(handle, number);
  }
//@ if open

  /** Gives an input another shape, as in `reshape('image', [1, 3, 64, 64])`, and all else what goes with it. */
  reshape(name, extents) {
    const handle = this.#open();
    sized(name, extents, (index, shape) => addon.reshape(handle, index, shape));
  }
//@ end

//@ end
//@ if threads
  /** Computes on this many threads from now on, at most @threads@; at first on as many as there are processors. */
  setThreads(count) {
    const handle = this.#open();
    if (!Number.isInteger(count) || count < 1 || count > @threads@) {
      throw new RangeError(`${count} threads: from 1 to @threads@ can be chosen`);
    }
    addon.setThreads(handle, count);
  }

//@ end
  /** Computes all outputs: typed arrays by name, row-major. Throws for ill-formed, missing and unknown inputs. */
  run(inputs) {
    const handle = this.#open();
//@ if shapes
    const elements = ({ bytes, index, type }) => bytes(handle, index) / type.BYTES_PER_ELEMENT;
//@ else
    const elements = ({ size }) => size;
//@ end
    const unknown = Object.keys(inputs).find((name) => !Object.hasOwn(INPUTS, name));
    if (unknown !== undefined) throw unknownInput(unknown);
    for (const [name, input] of Object.entries(INPUTS)) {
      const data = inputs[name];
      const what = `input ${name} (${input.kind})`;
      if (!(data instanceof input.type)) throw new TypeError(`${what} is no ${input.type.name}`);
      if (data.length !== elements(input)) {
        throw new RangeError(`${what} has ${data.length} elements; ${elements(input)} are needed`);
      }
    }
//@ if inputs
    for (const [name, { index }] of Object.entries(INPUTS)) {
      if (inputs[name].length > 0) addon.setInput(handle, index, inputs[name], inputs[name].byteLength);
    }
//@ end
    addon.run(handle);
    const outputs = {};
    for (const [name, output] of Object.entries(OUTPUTS)) {
      const data = (outputs[name] = new output.type(elements(output)));
      if (data.length > 0) addon.getOutput(handle, output.index, data, data.byteLength);
    }
    return outputs;
  }
//@ if pictures
//@ if classes

  /** The `count` likeliest classes of a picture, the likeliest first: `height` rows of `width` pixels R, G, B. */
  classify(rgb, width, height, count = 5) {
    this.#runPicture(rgb, width, height);
    return this.#top(count);
  }
//@ end
//@ if boxes

  /** What is in a picture, the surest first, with a score of at least `threshold`. */
  detect(rgb, width, height, threshold = @threshold@) {
    this.#runPicture(rgb, width, height);
    return addon.detections(this.#handle, width, height, threshold).map(named);
  }
//@ end

  #runPicture(rgb, width, height) {
    const handle = this.#open();
    if (!(rgb instanceof Uint8Array || rgb instanceof Uint8ClampedArray)) {
      throw new TypeError('the picture is no Uint8Array');
    }
    if (![width, height].every((side) => Number.isInteger(side) && side > 0) || rgb.length !== 3 * width * height) {
      throw new RangeError(`the picture has ${rgb.length} bytes; 3 x ${width} x ${height} are needed`);
    }
    addon.preprocessRgb(handle, rgb, width, height);
    addon.run(handle);
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
    if (!Number.isInteger(count) || count < 1) {
      throw new RangeError(`count is ${count}; at least one class can be asked for`);
    }
    return addon.topK(this.#handle, Math.min(count, @class_count@)).map(named);
  }
//@ end

  #open() {
    if (!this.#handle) throw new Error('the predictor is closed');
    return this.#handle;
  }
  @text_functions@
}
