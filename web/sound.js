// SoundModel: a model that takes sound. Samples become its input, a spectrogram, in the model's own code.
import { Predictor } from "./predictor.js";

export class SoundModel {
  /** Loads a bundle that was built with --sound; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  constructor(predictor) {
    const { sound } = predictor.manifest;
    if (!sound) throw new Error(`${predictor.name} takes no sound: build it with --sound whisper, or a file that describes it`);
    this.predictor = predictor;
    this.rate = sound.rate;
    this.samples = sound.samples;
    this._at = predictor._memory.buffer.byteLength;
    predictor._memory.grow(Math.ceil((4 * this.samples) / 65536));
  }

  /**
   * Makes the input of samples; silence follows where there are fewer than the model takes.
   * @param {Float32Array} samples of one channel, in -1..1
   * @param {number} rate how many there are per second, the model's
   * @returns {Float32Array} the input, a copy
   */
  preprocess(samples, rate) {
    const { predictor } = this;
    predictor._open();
    this._check(samples, rate);
    if (samples.length > this.samples)
      throw new RangeError(`${samples.length} samples are more than the ${this.samples} that ${predictor.name} takes at once`);
    new Float32Array(predictor._memory.buffer, this._at, samples.length).set(samples);
    predictor._check(predictor._call("preprocess_sound", predictor._handle, this._at, samples.length, rate));
    const index = predictor.manifest.inputs.findIndex(({ name }) => name === predictor.manifest.sound.input);
    const { mels, frames } = predictor.manifest.sound;
    const at = predictor._call("input_data", predictor._handle, index) >>> 0;
    return new Float32Array(predictor._memory.buffer, at, mels * frames).slice();
  }

  /** Runs the model on samples; returns its outputs, as Predictor.run does. */
  async run(samples, rate) {
    return this.predictor.run({ [this.predictor.manifest.sound.input]: this.preprocess(samples, rate) });
  }

  _check(samples, rate) {
    const { name } = this.predictor;
    if (rate !== this.rate)
      throw new RangeError(`${name} takes ${this.rate} samples per second, not ${rate}: resample them before`);
    if (!(samples instanceof Float32Array)) throw new TypeError("samples are a Float32Array of one channel, in -1..1");
    if (!samples.length) throw new RangeError("there are no samples");
    if (!samples.every(Number.isFinite)) throw new RangeError("samples must be finite numbers");
  }

  dispose() {
    this.predictor.dispose();
  }
}
