// TextModel: a model with a tokenizer. Texts become ids and ids texts, and, where the model is of that kind, texts become
// embeddings. The work is done by the model's own code, on memory behind the predictor's.
import { ModelWorker } from "./model_worker.js";
import { Predictor } from "./predictor.js";

const PAGE = 65536;
const TOO_LONG = 9; // NAME_TOO_LONG of NAME.h

/** A TextModel that lives in a worker. */
export class WorkerTextModel extends ModelWorker {
  static kind = "TextModel";

  embed(text, options) {
    return this._ask("call", ["embed", text, options], []);
  }
}

export class TextModel {
  /** Loads a bundle that has a tokenizer; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  /** The same in a worker, so that the page stays responsive; `source` is an address. */
  static inWorker(source, options) {
    return WorkerTextModel.start(source, options);
  }

  constructor(predictor) {
    if (!predictor.manifest.tokenizer) throw new Error(`${predictor.name} has no tokenizer: build it with --tokenizer`);
    this.predictor = predictor;
    this._encoder = new TextEncoder();
    this._decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    this._room = { at: 0, bytes: 0 };
  }

  /**
   * The ids of a text; broken UTF-8 of bytes, and halves of surrogate pairs, count as U+FFFD.
   * @param {string | Uint8Array} text
   * @param {object} options {special: true}: with the tokens around it, such as [CLS]
   * @returns {number[]}
   */
  tokenize(text, { special = true } = {}) {
    const bytes = this._bytes(text);
    for (let capacity = bytes.length + 512; ;) {
      const [count, ids, from] = this._places(4, 4 * capacity, bytes.length);
      this._array(Uint8Array, from, bytes.length).set(bytes);
      const status = this._call("tokenize", from, bytes.length, Number(special), ids, capacity, count);
      const needed = this._array(Uint32Array, count, 1)[0];
      if (status === TOO_LONG && needed > capacity) capacity = needed;
      else if (status === TOO_LONG) throw this._tooLong(bytes.length);
      else {
        this.predictor._check(status);
        return Array.from(this._array(Int32Array, ids, needed));
      }
    }
  }

  /**
   * The text of ids. Ids without a token are left out.
   * @param {ArrayLike<number>} ids
   * @param {object} options {special: false}: with special tokens
   * @returns {string}
   */
  detokenize(ids, { special = false } = {}) {
    return this._written("detokenize", ids, Number(special));
  }

  /** What one more id adds to the text of `ids`: whole characters only. null ends the text. */
  detokenizeNext(ids, id) {
    return this._written("detokenize_next", ids, id === null ? -1 : checkedIds([id])[0]);
  }

  /**
   * The embedding of a text.
   * @param {string | Uint8Array} text
   * @param {object} options {cut: false}: a text with more tokens than the model takes is cut, and no error
   * @returns {Float32Array}
   */
  embed(text, { cut = false } = {}) {
    const { embedding, shapes } = this.predictor.manifest;
    if (!embedding) throw new Error(`${this.predictor.name}: the model embeds no texts`);
    const bytes = this._bytes(text);
    const [to, from] = this._places(4 * embedding.size, bytes.length);
    this._array(Uint8Array, from, bytes.length).set(bytes);
    const status = this._call("embed", from, bytes.length, Number(cut), to);
    if (shapes) this.predictor._describe(this._call("shape"), 0);
    this.predictor._bind();
    if (status === TOO_LONG) throw this._tooLong(bytes.length);
    this.predictor._check(status);
    return this._array(Float32Array, to, embedding.size).slice();
  }

  dispose() {
    this.predictor.dispose();
  }

  _written(what, ids, last) {
    const given = checkedIds(ids);
    for (let capacity = 64 + 16 * given.length; ;) {
      const [count, from, text] = this._places(4, 4 * given.length, capacity);
      this._array(Int32Array, from, given.length).set(given);
      const status = this._call(what, from, given.length, last, text, capacity, count);
      const needed = this._array(Uint32Array, count, 1)[0];
      if (status !== TOO_LONG) {
        this.predictor._check(status);
        return this._decoder.decode(this._array(Uint8Array, text, needed).slice());
      }
      capacity = needed;
    }
  }

  _bytes(text) {
    if (text instanceof Uint8Array) return text;
    if (typeof text !== "string") throw new TypeError(`a text is a string or a Uint8Array, and not ${typeof text}`);
    return this._encoder.encode(text);
  }

  _tooLong(bytes) {
    const { name, manifest } = this.predictor;
    const most = manifest.embedding ? ` and ${manifest.embedding.tokens} tokens` : "";
    return Object.assign(
      new RangeError(
        `${name}: the text of ${bytes} bytes is too long; ${manifest.tokenizer.text_bytes} bytes${most} are possible`,
      ),
      { status: TOO_LONG },
    );
  }

  _call(what, ...values) {
    this.predictor._open();
    return this.predictor._call(what, this.predictor._handle, ...values);
  }

  /** Addresses of so many bytes each, in memory that grows where it does not suffice. */
  _places(...sizes) {
    this.predictor._open();
    let total = 0;
    const ends = sizes.map((size) => (total += Math.ceil(size / 8) * 8));
    const missing = total - this._room.bytes;
    if (missing > 0) {
      const memory = this.predictor._memory;
      const end = memory.buffer.byteLength;
      const follows = this._room.at + this._room.bytes === end;
      const pages = Math.ceil((follows ? missing : total) / PAGE);
      memory.grow(pages);
      this._room = follows ? { at: this._room.at, bytes: this._room.bytes + pages * PAGE } : { at: end, bytes: pages * PAGE };
    }
    return sizes.map((_, i) => this._room.at + (i ? ends[i - 1] : 0));
  }

  _array(Type, at, count) {
    return new Type(this.predictor._memory.buffer, at, count);
  }
}

function checkedIds(ids) {
  const wrong = Array.prototype.find.call(ids, (id) => !(Number.isInteger(id) && id >= 0 && id < 2 ** 31));
  if (wrong !== undefined) throw new RangeError(`${wrong} is no id of a token`);
  return ids;
}
