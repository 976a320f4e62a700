// Decoder: a language model reads and writes tokens, whole numbers. What it knows of the text so far lies in the
// predictor, so each token is read once; C chooses them, so a seed gives the same tokens in every language.
import { Predictor } from "./predictor.js";

const FULL = 10; // NAME_FULL of NAME.h
const FRAME = 12; // milliseconds of work between two looks at the page
const [SAMPLER, TOKEN, LIST] = [0, 32, 64]; // places in a page of memory

/** Lets the page do its own. */
const pause = () => new Promise((resolve) => setTimeout(resolve));

export class Decoder {
  /** Loads a bundle of a decoder; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  constructor(predictor) {
    const { decoder } = predictor.manifest;
    if (!decoder) throw new Error(`${predictor.name} does not generate text: that takes a decoder's export with its past`);
    this.predictor = predictor;
    this.context = decoder.context;
    this.vocabulary = decoder.vocabulary;
    this._block = decoder.block;
    this._encoder = decoder.encoder;
    this._page = predictor._memory.buffer.byteLength;
    const pages = Math.ceil((LIST + 8 * Math.max(this._block, decoder.encoder?.most ?? 0)) / 65536);
    predictor._memory.grow(pages);
  }

  /** How many tokens the text has. */
  get length() {
    return this._call("length") >>> 0;
  }

  /** Forgets the text, and clears the memory where it was. */
  reset() {
    this._done(this._call("reset"));
  }

  /** Forgets all but the first `length` tokens of the text. */
  rewind(length) {
    if (!(length >= 0 && length <= this.length)) throw new RangeError(`the text has ${this.length} tokens, not ${length}`);
    this._done(this._call("rewind", length));
  }

  /** Reads a text with the encoder, and begins an answer; to begin it with other tokens, rewind(0) and append them. */
  read(tokens) {
    const encoder = this._encoder;
    if (!encoder) throw new Error(`${this.predictor.name} has no encoder of text: append() reads tokens`);
    const all = this._checked(tokens, encoder.vocabulary);
    if (!all.length) throw new Error("there are no tokens to read");
    if (all.length > encoder.most) {
      const text = `the text has ${all.length} tokens, and the encoder reads ${encoder.most}`;
      throw Object.assign(new RangeError(text), { code: FULL, tokens: [] });
    }
    new BigInt64Array(this._memory, this._page + LIST, all.length).set(all.map(BigInt));
    this._done(this._call("read", this._page + LIST, all.length));
  }

  /** Reads tokens behind the text so far; nothing is read where one is none or the text would get too long. */
  async append(tokens, { signal } = {}) {
    const all = this._checked(tokens);
    if (all.length > this.context - this.length) {
      throw this._full(`the prompt of ${all.length} token${all.length === 1 ? "" : "s"} is too long: `);
    }
    let began = performance.now();
    for (let k = 0; k < all.length; k += this._block) {
      signal?.throwIfAborted();
      const part = all.slice(k, k + this._block);
      new BigInt64Array(this._memory, this._page + LIST, part.length).set(part.map(BigInt));
      this._done(this._call("append", this._page + LIST, part.length));
      if (performance.now() - began > FRAME) {
        await pause();
        began = performance.now();
      }
    }
  }

  /** The scores of all tokens to follow the text; null where nothing was read. */
  scores() {
    const at = this._call("scores") >>> 0;
    this._done(0);
    return at ? new Float32Array(this._memory, at, this.vocabulary).slice() : null;
  }

  /** Chooses a token to follow the text, which is not added to it; see index.d.ts for the sampler, whose seed changes. */
  sample(sampler = {}) {
    if (!this.length) throw new Error("there is no text to go on from: read some tokens first");
    const view = new DataView(this._memory, this._page, LIST);
    const { temperature = 0, topK = 0, topP = 1, seed = 0 } = sampler;
    view.setFloat32(SAMPLER, temperature, true);
    view.setInt32(SAMPLER + 4, topK, true);
    view.setFloat32(SAMPLER + 8, topP, true);
    view.setBigUint64(SAMPLER + 16, BigInt.asUintN(64, BigInt(seed)), true);
    this._done(this._call("sample", this._page + SAMPLER, this._page + TOKEN));
    const after = new DataView(this._memory, this._page, LIST); // the memory may have grown
    sampler.seed = after.getBigUint64(SAMPLER + 16, true);
    return Number(after.getBigInt64(TOKEN, true));
  }

  /** Adds a token to the text, which is read when something needs it. */
  accept(token) {
    const [value] = this._checked([token]);
    this._done(this._call("accept", BigInt(value)));
  }

  /** The tokens that the model writes after the prompt, one at a time; index.d.ts has the options. */
  async *tokens(prompt, { maxTokens = 128, stop = [], signal, keep = false, ...sampling } = {}) {
    const given = this._checked(prompt, this._encoder?.vocabulary);
    checkSampling(sampling);
    if (!keep) this.rewind(0);
    if (!given.length && !this.length) throw new Error("the prompt is empty, and there is no text to go on from");
    const sampler = { ...sampling };
    const ends = new Set(stop);
    if (!this._encoder) await this.append(given, { signal });
    else if (given.length) this.read(given);
    for (let k = 0; k < maxTokens; k++) {
      signal?.throwIfAborted();
      const token = this.sample(sampler);
      if (ends.has(token)) return;
      this.accept(token);
      yield token;
    }
  }

  /** The same as an array; `onToken` is called with each, and ends the text where it returns true. */
  async generate(prompt, { onToken, ...options } = {}) {
    const found = [];
    let began = performance.now();
    try {
      for await (const token of this.tokens(prompt, options)) {
        found.push(token);
        if (onToken?.(token) === true) break;
        if (performance.now() - began < FRAME) continue;
        await pause();
        began = performance.now();
      }
    } catch (error) {
      if (error.code === FULL) error.tokens = found;
      throw error;
    }
    return found;
  }

  dispose() {
    this.predictor.dispose();
  }

  get _memory() {
    return this.predictor._memory.buffer;
  }

  _call(name, ...values) {
    this.predictor._open();
    return this.predictor._call(name, this.predictor._handle, ...values);
  }

  /** Throws where a call failed. Reading has chosen a set of shapes, and the predictor's own inputs. */
  _done(status) {
    if (status === FULL) throw this._full("");
    this.predictor._check(status);
    if (!this.predictor.manifest.shapes) return;
    this.predictor._describe(this._call("shape"), 0);
    this.predictor._bind();
  }

  _full(why) {
    const text = `${why}the text would get longer than the ${this.context} tokens that the predictor keeps`;
    return Object.assign(new RangeError(text), { code: FULL, tokens: [] });
  }

  _checked(tokens, most = this.vocabulary) {
    const all = Array.from(tokens, Number);
    const wrong = all.find((token) => !(Number.isInteger(token) && token >= 0 && token < most));
    if (wrong !== undefined) throw new RangeError(`${wrong} is no token; the model's are 0 to ${most - 1}`);
    return all;
  }
}

function checkSampling({ temperature = 0, topK = 0, topP = 1, ...others }) {
  const unknown = Object.keys(others).find((key) => key !== "seed");
  if (unknown) throw new TypeError(`unknown option ${unknown}`);
  if (!(temperature >= 0 && temperature < 1e38)) throw new RangeError(`temperature ${temperature} is not a number from 0 on`);
  if (!(Number.isInteger(topK) && topK >= 0)) throw new RangeError(`topK ${topK} is not a whole number from 0 on`);
  if (!(topP > 0 && topP <= 1)) throw new RangeError(`topP ${topP} is not above 0 and at most 1`);
}
