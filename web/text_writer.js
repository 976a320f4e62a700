// TextWriter: a decoder with its tokenizer writes text. The tokens are the decoder's, so a seed gives the same text in
// every language.
import { Decoder } from "./decoder.js";
import { ModelWorker } from "./model_worker.js";
import { Predictor } from "./predictor.js";
import { TextModel } from "./text.js";

/** A TextWriter that lives in a worker. */
export class WorkerTextWriter extends ModelWorker {
  static kind = "TextWriter";

  /** As TextWriter.write; the worker writes ahead of who takes the pieces, until the text ends or is left. */
  write(prompt, { signal, stop, ...options } = {}) {
    return streamed(this, "write", prompt, { ...options, ...(stop && { stop: Array.from(stop) }) }, signal);
  }
}

/** What an asynchronous generator of the model in a worker yields for a value and options. */
export async function* streamed(model, method, value, options, signal) {
  const control = new AbortController();
  const abort = () => control.abort(signal.reason);
  const waiting = [];
  let [ended, wake] = [false, () => {}];
  model.timing = null;
  const onProgress = (part) => {
    waiting.push(part);
    wake();
  };
  signal?.throwIfAborted();
  signal?.addEventListener("abort", abort);
  const answer = model._ask("stream", [method, value, options], [], { signal: control.signal, onProgress });
  const end = () => {
    ended = true;
    wake();
  };
  answer.then(end, end);
  try {
    while (!ended || waiting.length) {
      signal?.throwIfAborted();
      if (waiting.length) {
        const { piece, timing } = waiting.shift();
        model.timing = timing;
        yield piece;
      } else await new Promise((next) => (wake = next));
    }
    model.timing = await answer;
  } finally {
    signal?.removeEventListener("abort", abort);
    control.abort();
  }
}

export class TextWriter {
  /** Loads a bundle of a decoder that has a tokenizer; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  /** The same in a worker, so that the page stays responsive; `source` is an address. */
  static inWorker(source, options) {
    return WorkerTextWriter.start(source, options);
  }

  constructor(predictor) {
    this.predictor = predictor;
    this.timing = null;
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
    this.timing = null;
    const { encoder } = this.predictor.manifest.decoder;
    const special = !(keep && this.decoder.length) || Boolean(encoder && prompt.length);
    const prompted = this.texts.tokenize(prompt, { special });
    const ids = encoder ? [] : [...prompted]; // a piece may begin with a space only behind something
    const tokens = this.decoder.tokens(prompted, { ...options, stop, keep });
    const timing = (this.timing = { prompt: prompted.length, read: 0, tokens: 0, write: 0 });
    try {
      for (;;) {
        const began = performance.now();
        const { done, value: token } = await tokens.next();
        timing[timing.tokens ? "write" : "read"] += performance.now() - began;
        if (done) break;
        timing.tokens++;
        const piece = this.texts.detokenizeNext(ids, token);
        ids.push(token);
        if (piece) yield piece;
      }
    } finally {
      tokens.return();
    }
    const rest = this.texts.detokenizeNext(ids, null);
    if (rest) yield rest;
  }

  dispose() {
    this.predictor.dispose();
  }
}
