// Writer: a character model writes on from a text. Each step takes one character and the states, and gives the scores
// of the next character and the new states.
import { Predictor } from "./predictor.js";
import { dequantized, quantized } from "./quantization.js";

export class Writer {
  /** Loads a bundle whose task is text; arguments as of Predictor.load. */
  static async load(source, options) {
    return new this(await Predictor.load(source, options));
  }

  constructor(predictor) {
    const { task, labels } = predictor.manifest;
    if (task?.kind !== "text") throw new Error(`${predictor.name} writes no text: build it with --task`);
    if (!labels?.length) throw new Error(`${predictor.name} has no characters: build it with --labels`);
    this.predictor = predictor;
    this.task = task;
    this.labels = labels;
    this.index = new Map(labels.map((character, i) => [character, i]));
    this.sizes = Object.fromEntries(predictor.inputs.map((t) => [t.name, t.shape.reduce((n, d) => n * d, 1)]));
    this.input = predictor.inputs.find((t) => t.name === task.input);
    this.output = predictor.outputs.find((t) => t.name === task.output);
  }

  /**
   * Reads `seed` and writes on, a character at a time. Loops over it may wait in between: the text goes on from there.
   * @param {string} seed at least one character
   * @param {object} options {length: 400, temperature: 0.8 (0: always the likeliest), signal, random: Math.random}
   * @returns {AsyncGenerator<string>}
   */
  async *write(seed, { length = 400, temperature = 0.8, signal, random = Math.random } = {}) {
    if (!(temperature >= 0)) throw new RangeError(`the temperature ${temperature} is not a number from 0 on`);
    const characters = Array.from(seed);
    const unknown = characters.find((c) => !this.index.has(c));
    if (unknown !== undefined) throw new Error(`the model does not know the character ${JSON.stringify(unknown)}`);
    if (!characters.length) throw new Error("the seed is empty: the model writes on from at least one character");
    const zeros = (t) => [t.name, new Array(this.sizes[t.name]).fill(t.quantization?.zero_point ?? 0)];
    let states = Object.fromEntries(this.predictor.inputs.filter((t) => t.name in this.task.states).map(zeros));
    let scores;
    const read = (character) => {
      const outputs = this.predictor.runSync({ [this.task.input]: this._input(character), ...states });
      states = Object.fromEntries(Object.entries(this.task.states).map(([before, after]) => [before, outputs[after]]));
      scores = dequantized(this.output, outputs[this.task.output]);
    };
    characters.forEach(read);
    for (let i = 0; i < length; i++) {
      signal?.throwIfAborted();
      const next = this.labels[chosen(scores, temperature, random())];
      yield next;
      read(next);
    }
  }

  /** A character as its number, or as as many numbers as there are characters, all 0 but one. */
  _input(character) {
    const index = this.index.get(character);
    const count = this.sizes[this.task.input];
    return count === 1
      ? [index]
      : quantized(
          this.input,
          Array.from({ length: count }, (_, i) => Number(i === index)),
        );
  }

  dispose() {
    this.predictor.dispose();
  }
}

/** The index that `share` (0 to 1) falls on where each has the probability softmax(scores / temperature). */
export function chosen(scores, temperature, share) {
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  if (temperature === 0) return scores.indexOf(largest);
  const powers = Array.from(scores, (s) => Math.exp((s - largest) / temperature));
  let left = share * powers.reduce((a, b) => a + b, 0);
  const index = powers.findIndex((p) => (left -= p) < 0);
  return index < 0 ? powers.length - 1 : index;
}
