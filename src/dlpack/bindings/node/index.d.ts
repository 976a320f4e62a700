/** The model @name@. @about@ */
export interface Inputs {
  @input_types@
}

/** What a run gives, row-major. */
export interface Outputs {
  @output_types@
}

//@ if classes
/** A class: its place in the output, its name (the place in digits where it has none) and its probability. */
export interface Classification {
  index: number;
  label: string;
  probability: number;
}

//@ end
//@ if boxes
/** A box in a picture: its class and its name (the place in digits where it has none), its score, its upper left corner
 * and size in pixels. */
export interface Detection {
  index: number;
  label: string;
  score: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

//@ end
//@ if decodes
/** How a text is written. */
export interface Generation {
  /** The most tokens to write; 128. */
  maxTokens?: number;
  /** 0: the likeliest token each time. Else a token's chance is softmax(scores / temperature). */
  temperature?: number;
  /** Only the so many likeliest are chosen from; 0: all. */
  topK?: number;
  /** Of those only the likeliest that together have at least this share; 1. */
  topP?: number;
  /** The same seed gives the same text. */
  seed?: number | bigint;
  /** Tokens that end the text and are not given; by default none, or in `write` those that the model names. */
  stop?: Iterable<number>;
  /** Whether the prompt goes on from the text so far, that the predictor has read and written. */
  keep?: boolean;
}

//@ end
//@ if open
export interface Options {
  /** The shapes that inputs have at most, as in `{ image: [1, 3, 64, 64] }`: the predictor takes memory for no more.
   * Without them, it does for all. */
  largest?: Partial<Record<keyof Inputs, number[]>>;
}

//@ end
/** A compiled model. Its calls return when they are done; `close` gives its memory back, else the garbage collector. */
export class Predictor {
//@ if side
  /** Maps the weights: those of this package, or the file of that path. */
  constructor(weights?: string@more_option_types@);
//@ else
//@ if open
  constructor(@option_types@);
//@ end
//@ end
//@ if shapes
  /** The number of the set of shapes that inputs and outputs have, at first 0:
   *
   @shape_docs@
   *
   * Setting it chooses another for what comes next; throws for a number that none has.
   */
  shape: number;
//@ if open
  /** Gives an input another shape, and all else what goes with it; throws for one that it cannot have. */
  reshape(name: keyof Inputs, extents: number[]): void;
//@ end
//@ end
//@ if threads
  /** Computes on this many threads from now on, at most @threads@; at first on as many as there are processors. */
  setThreads(count: number): void;
//@ end
  /** Computes all outputs. Throws for an input that is missing, unknown or ill-formed. */
  run(inputs: Inputs): Outputs;
//@ if pictures
//@ if classes
  /** The `count` likeliest classes of a picture, the likeliest first: `height` rows of `width` pixels R, G, B. */
  classify(rgb: Uint8Array | Uint8ClampedArray, width: number, height: number, count?: number): Classification[];
//@ end
//@ if boxes
  /** What is in a picture, the surest first: `height` rows of `width` pixels R, G, B. `threshold` is the least score, by
   * default @threshold@. */
  detect(rgb: Uint8Array | Uint8ClampedArray, width: number, height: number, threshold?: number): Detection[];
//@ end
//@ end
//@ if numbers
  /** The `count` likeliest classes of the inputs that `run` takes, the likeliest first. */
  classify(inputs: Inputs, count?: number): Classification[];
//@ end
  @text_types@
  /** Gives the memory back. Closing twice is no error. */
  close(): void;
}
