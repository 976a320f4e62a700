// Transcriber: a model of speech, such as Whisper, writes what is said. Sound of any length is taken in windows, each of
// which the model hears at once; the tokens are chosen in C, so they are the same in every language.
import { Decoder } from "./decoder.js";
import { ModelWorker } from "./model_worker.js";
import { Predictor } from "./predictor.js";
import { SoundModel } from "./sound.js";
import { TextModel } from "./text.js";
import { streamed } from "./text_writer.js";

const REST = 12; // milliseconds of writing between two looks at the page

/** A Transcriber that lives in a worker. */
export class WorkerTranscriber extends ModelWorker {
  static kind = "Transcriber";

  /** As Transcriber.hear; the worker writes ahead of who takes the pieces. */
  hear(samples, { signal, ...options }) {
    return streamed(this, "hear", samples, options, signal);
  }
}

export class Transcriber {
  /** Loads a bundle of a model of speech that has a tokenizer; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  /** The same in a worker, so that the page stays responsive; `source` is an address. */
  static inWorker(source, options) {
    return WorkerTranscriber.start(source, options);
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
    const { sound } = this;
    const state = { spoken: this._spoken(samples, rate, language, translate), sampler: { ...sampling } };
    for (let at = 0; at < samples.length; at += sound.samples) {
      signal?.throwIfAborted();
      sound.preprocess(samples.subarray(at, at + sound.samples), rate);
      await this._begin(state, translate, signal);
      yield* this._window(state.sampler, signal);
    }
  }

  /**
   * The same in segments with the times that the model tells, in seconds: {start, end, text}. A window begins where the
   * last whole segment before it has ended.
   */
  async *segments(samples, rate, { language, translate = false, signal, ...sampling } = {}) {
    const { predictor, sound, texts, _speech: speech } = this;
    if (speech.times === undefined) throw new Error(`${predictor.name} tells no times`);
    const state = { spoken: this._spoken(samples, rate, language, translate), sampler: { ...sampling } };
    const seconds = (steps) => (steps * speech.step) / rate;
    for (let at = 0, seen; at < samples.length; at += seen) {
      signal?.throwIfAborted();
      const heard = Math.min(sound.samples, samples.length - at);
      sound.preprocess(samples.subarray(at, at + heard), rate);
      await this._begin(state, translate, signal, true);
      const told = segmentsOf(await this._timed(state.sampler, signal), speech, heard);
      for (const { begin, end, ids } of told.segments) {
        const text = texts.detokenize(ids.filter((id) => id < speech.times));
        if (text) yield { start: at / rate + seconds(begin), end: at / rate + seconds(end), text };
      }
      seen = told.seen;
    }
  }

  /** Segments where the model tells times, else pieces as {text}; `rate` stands among the options. */
  async *hear(samples, { rate, ...options }) {
    if (this._speech.times !== undefined) yield* this.segments(samples, rate, options);
    else for await (const text of this.transcribe(samples, rate, options)) yield { text };
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

  /** The token of a language, if it is given; raises what is wrong with the arguments. */
  _spoken(samples, rate, language, translate) {
    const { predictor, _speech: speech } = this;
    this.sound._check(samples, rate);
    const spoken = language === undefined ? undefined : speech.languages[language];
    if (language !== undefined && spoken === undefined) {
      const known = Object.keys(speech.languages).sort().join(", ") || "one, which is not named";
      throw new RangeError(`${predictor.name} does not know the language ${language}; it knows ${known}`);
    }
    if (translate && speech.translate === undefined) throw new RangeError(`${predictor.name} does not translate`);
    return spoken;
  }

  /** Reads the tokens before a window's text; without a language, the model finds it out first. */
  async _begin(state, translate, signal, timed = false) {
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
    if (quiet !== undefined && !timed) prompt.push(quiet);
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

  /** The tokens of a window with times. */
  async _timed(sampler, signal) {
    const { decoder } = this;
    const { suppressed, suppressed_first: first, ends } = this._speech;
    const ids = [];
    let rested = performance.now();
    while (decoder.length < decoder.context) {
      signal?.throwIfAborted();
      keepTimes(this._suppress(ids.length ? suppressed : [...suppressed, ...first]), ids, this._speech);
      const token = decoder.sample(sampler);
      if (ends.includes(token)) break;
      decoder.accept(token);
      ids.push(token);
      if (performance.now() - rested < REST) continue;
      await new Promise((done) => setTimeout(done));
      rested = performance.now();
    }
    return ids;
  }

  /** Makes tokens impossible; gives the scores of all. */
  _suppress(tokens) {
    const at = this.decoder._call("scores") >>> 0;
    const scores = new Float32Array(this.predictor._memory.buffer, at, this.decoder.vocabulary);
    for (const token of tokens) scores[token] = -Infinity;
    return scores;
  }
}

/** Makes impossible what cannot follow the tokens of a text with times, as keep_times() in C. */
function keepTimes(scores, ids, { times, quiet, ends, latest_first: latest }) {
  const n = ids.length;
  const last = n > 0 && ids[n - 1] >= times;
  const beforeLast = n < 2 || ids[n - 2] >= times;
  if (quiet !== undefined) scores[quiet] = -Infinity;
  if (last) beforeLast ? scores.fill(-Infinity, times) : scores.fill(-Infinity, 0, ends[0]);
  const before = ids.findLast((id) => id >= times);
  if (before !== undefined) scores.fill(-Infinity, times, before + (last && !beforeLast ? 0 : 1));
  if (n === 0) {
    scores.fill(-Infinity, 0, times);
    if (latest !== undefined) scores.fill(-Infinity, times + latest + 1);
  }
  let [text, sum] = [-Infinity, 0];
  for (let t = 0; t < times; t++) if (scores[t] > text) text = scores[t];
  for (let t = times; t < scores.length && sum <= 1; t++) sum += scores[t] > text ? 2 : Math.exp(scores[t] - text);
  if (sum > 1) scores.fill(-Infinity, 0, times);
}

/** The segments of a window's tokens, and the samples until the next window, as tell_window() in C. */
function segmentsOf(ids, { times, step }, heard) {
  const isTime = (k) => ids[k] >= times;
  const n = ids.length;
  const closed = n >= 2 && isTime(n - 1) && !isTime(n - 2);
  const segments = [];
  let [from, seen] = [0, heard];
  for (let k = 1; k <= n; k++) {
    const pair = k < n && isTime(k - 1) && isTime(k);
    if (!pair && (k < n || !closed || from === 0)) continue;
    const end = ids[k - 1] - times;
    segments.push({ begin: ids[from] - times, end, ids: ids.slice(from, k) });
    if (!closed && end > 0) seen = end * step;
    from = k;
  }
  if (from) return { segments, seen };
  const last = ids.findLast((id) => id >= times);
  const end = last > times ? last - times : Math.floor(heard / step);
  return { segments: [{ begin: 0, end, ids }], seen };
}
