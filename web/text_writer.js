// TextWriter: a decoder with its tokenizer writes text. The tokens are the decoder's, so a seed gives the same text in
// every language.
import { Decoder } from "./decoder.js";
import { Predictor } from "./predictor.js";
import { TextModel } from "./text.js";

export class TextWriter {
  /** Loads a bundle of a decoder that has a tokenizer; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  constructor(predictor) {
    this.predictor = predictor;
    this.texts = new TextModel(predictor);
    this.decoder = new Decoder(predictor);
    this._stop = predictor.manifest.tokenizer.stop ?? [];
  }

  /**
   * What the model writes after a prompt, piece by piece; each token is computed when it is asked for.
   * @param {string | Uint8Array} prompt
   * @param {object} options as of Decoder.tokens; without `stop`, the text ends where the model says
   * @returns {AsyncGenerator<string>}
   */
  async *write(prompt, { stop = this._stop, keep = false, ...options } = {}) {
    const ids = [];
    const tokens = this.texts.tokenize(prompt, { special: !(keep && this.decoder.length) });
    for await (const token of this.decoder.tokens(tokens, { ...options, stop, keep })) {
      const piece = this.texts.detokenizeNext(ids, token);
      ids.push(token);
      if (piece) yield piece;
    }
    const rest = this.texts.detokenizeNext(ids, null);
    if (rest) yield rest;
  }

  dispose() {
    this.predictor.dispose();
  }
}
