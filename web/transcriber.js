// Transcriber: a model of speech, such as Whisper, writes what is said. Sound of any length is taken in windows, each of
// which the model hears at once; the tokens are chosen in C, so they are the same in every language.
import { Decoder } from "./decoder.js";
import { Predictor } from "./predictor.js";
import { SoundModel } from "./sound.js";
import { TextModel } from "./text.js";

export class Transcriber {
  /** Loads a bundle of a model of speech that has a tokenizer; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  constructor(predictor) {
    const { speech } = predictor.manifest;
    if (!speech) throw new Error(`${predictor.name} does not write speech: that takes a model such as Whisper`);
    this.predictor = predictor;
    this.sound = new SoundModel(predictor);
    this.decoder = new Decoder(predictor);
    this.texts = new TextModel(predictor);
    this._speech = speech;
  }

  /**
   * What is said, piece by piece; each token is computed when it is asked for.
   * @param {Float32Array} samples of one channel, in -1..1
   * @param {number} rate how many there are per second, the model's
   * @param {object} options {language, translate: false, temperature, topK, topP, seed, signal}
   * @returns {AsyncGenerator<string>}
   */
  async *transcribe(samples, rate, { language, translate = false, signal, ...sampling } = {}) {
    const { sound, predictor, _speech: speech } = this;
    sound._check(samples, rate);
    const spoken = language === undefined ? undefined : speech.languages[language];
    if (language !== undefined && spoken === undefined) {
      const known = Object.keys(speech.languages).sort().join(", ") || "one, which is not named";
      throw new RangeError(`${predictor.name} does not know the language ${language}; it knows ${known}`);
    }
    if (translate && speech.translate === undefined) throw new RangeError(`${predictor.name} does not translate`);
    const state = { spoken, sampler: { ...sampling } };
    for (let at = 0; at < samples.length; at += sound.samples) {
      signal?.throwIfAborted();
      sound.preprocess(samples.subarray(at, at + sound.samples), rate);
      await this._begin(state, translate, signal);
      yield* this._window(state.sampler, signal);
    }
  }

  /** The same as one text. */
  async write(samples, rate, options) {
    let text = "";
    for await (const piece of this.transcribe(samples, rate, options)) text += piece;
    return text;
  }

  dispose() {
    this.predictor.dispose();
  }

  /** Reads the tokens before a window's text; without a language, the model finds it out first. */
  async _begin(state, translate, signal) {
    const { start, languages, quiet } = this._speech;
    let prompt = [start];
    const known = Object.values(languages);
    if (known.length) {
      if (state.spoken === undefined) {
        await this.decoder.append(prompt, { signal });
        const scores = this.decoder.scores();
        state.spoken = known.reduce((best, token) => (scores[token] > scores[best] ? token : best));
        prompt = [];
      }
      prompt.push(state.spoken, translate ? this._speech.translate : this._speech.transcribe);
    }
    if (quiet !== undefined) prompt.push(quiet);
    await this.decoder.append(prompt, { signal });
  }

  async *_window(sampler, signal) {
    const { decoder, texts } = this;
    const { suppressed, suppressed_first: first, ends } = this._speech;
    const ids = [];
    while (decoder.length < decoder.context) {
      signal?.throwIfAborted();
      this._suppress(ids.length ? suppressed : [...suppressed, ...first]);
      const token = decoder.sample(sampler);
      if (ends.includes(token)) break;
      decoder.accept(token);
      const piece = texts.detokenizeNext(ids, token);
      ids.push(token);
      if (piece) yield piece;
    }
    const rest = texts.detokenizeNext(ids, null);
    if (rest) yield rest;
  }

  /** Makes tokens impossible. */
  _suppress(tokens) {
    const at = this.decoder._call("scores") >>> 0;
    const scores = new Float32Array(this.predictor._memory.buffer, at, this.decoder.vocabulary);
    for (const token of tokens) scores[token] = -Infinity;
  }
}
