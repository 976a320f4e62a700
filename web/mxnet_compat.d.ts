import type { LoadOptions, Parts, Predictor as Compiled } from "./index.js";

export interface NDArray {
  data: Float32Array;
  shape: Uint32Array;
}

/** What mxnet.js's JSON file was: the loaded model. */
export interface Model {
  /** The classes' names. */
  synset: string[] | null;
  /** The mean picture, where the bundle's preprocessing is to subtract one. */
  meanimg?: NDArray;
  compiled: Compiled;
}

type Source = string | URL | Parts;

/** Loads a bundle; by default the one that contains this module. */
export function loadModel(source?: Source | Promise<Source>, options?: LoadOptions): Promise<Model>;

/** The same; Predictor, ndarray and base64Decode become global. */
export function install(source?: Source | Promise<Source>, options?: LoadOptions): Promise<Model>;

export function ndarray(data: ArrayLike<number>, shape: ArrayLike<number>): NDArray;
export function base64Decode(text: string): Uint8Array;

export class Predictor {
  constructor(model: Model, shapes?: Record<string, ArrayLike<number>>);
  readonly input_shapes: Record<string, ArrayLike<number>>;
  readonly meanimg?: NDArray;
  setinput(key: string, array: { data: ArrayLike<number> }): void;
  forward(): void;
  /** Returns how many steps are left. */
  partialforward(step: number): number;
  output(index: number): NDArray;
  destroy(): void;
}
