/** The neural network @name@. @about@ */
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
/** A compiled model. Its calls return when they are done; `close` gives its memory back, else the garbage collector. */
export class Predictor {
//@ if side
  /** Maps the weights: those of this package, or the file of that path. */
  constructor(weights?: string);
//@ end
  /** Computes all outputs. Throws for an input that is missing, unknown or ill-formed. */
  run(inputs: Inputs): Outputs;
//@ if pictures
  /** The `count` likeliest classes of a picture, the likeliest first: `height` rows of `width` pixels R, G, B. */
  classify(rgb: Uint8Array | Uint8ClampedArray, width: number, height: number, count?: number): Classification[];
//@ end
//@ if numbers
  /** The `count` likeliest classes of the inputs that `run` takes, the likeliest first. */
  classify(inputs: Inputs, count?: number): Classification[];
//@ end
  /** Gives the memory back. Closing twice is no error. */
  close(): void;
}
