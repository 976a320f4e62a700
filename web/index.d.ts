/** How far the weights have come, in bytes. */
export interface Progress {
  loaded: number;
  total: number;
}

export interface TensorInfo {
  name: string;
  dtype: "float32" | "float64" | "int8" | "uint8" | "int16" | "uint16" | "int32" | "uint32" | "int64" | "uint64" | "bool";
  shape: number[];
}

export type Build = "relaxed" | "simd";

export type TensorData =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** What is done to a picture; README.md of web/ tells each key. */
export interface PreprocessSpec {
  input: string;
  height: number;
  width: number;
  resize: number | null;
  channels: "RGB" | "BGR" | "GRAY";
  scale: number;
  mean: number[];
  std: number[];
  layout: "NCHW" | "NHWC";
  dtype: TensorInfo["dtype"];
}

export interface FileInfo {
  file: string;
  bytes: number;
  sha256: string;
}

/** A bundle's manifest.json, as far as this package reads it. */
export interface Manifest {
  format: 1;
  name: string;
  inputs: TensorInfo[];
  outputs: TensorInfo[];
  wasm: Record<Build, FileInfo>;
  weights?: FileInfo & { chunk_bytes?: number; chunk_sha256?: string[] };
  labels?: string[];
  preprocess?: PreprocessSpec;
}

type Data = BufferSource | Response;

/** A bundle in parts, for those who bring its files themselves. */
export interface Parts {
  manifest: Manifest;
  wasm: Partial<Record<Build, Data | WebAssembly.Module | Promise<Data>>>;
  weights?: Data | Promise<Data>;
}

export interface LoadOptions {
  /** Ends the loading; the promise is rejected with its reason. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
  /** false: the weights are not kept in the browser's cache. */
  cache?: boolean;
  /** Which build to run; the fastest that this browser can, unless given. */
  build?: Build;
  /** Used in place of the global fetch. */
  fetch?: typeof fetch;
}

/** Which of a bundle's builds this place can run; null where there is no WebAssembly SIMD. */
export function supportedBuild(): Build | null;

/** A predictor. One run at a time; make several for more. */
export class Predictor {
  /** Loads a bundle from the address of its folder or of its manifest.json, or from its parts. */
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Predictor>;
  readonly name: string;
  readonly manifest: Manifest;
  readonly build: Build;
  readonly inputs: TensorInfo[];
  readonly outputs: TensorInfo[];
  /** Computes all outputs; data are in the order of the shapes. */
  run(inputs: Record<string, TensorData | number[]>): Promise<Record<string, TensorData>>;
  runSync(inputs: Record<string, TensorData | number[]>): Record<string, TensorData>;
  /** What a run does, in order: the names of kernels, "fill_halo" and "loop". */
  readonly steps: string[];
  /** Does one step of a run: for profiles. */
  runStep(index: number): void;
  /** Gives the memory back. */
  dispose(): void;
}

/** Pixels of 1 (gray), 3 (RGB) or 4 (RGBA) bytes. */
export interface Pixels {
  data: ArrayLike<number>;
  width: number;
  height: number;
}

export type Picture =
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | OffscreenCanvas
  | VideoFrame
  | ImageData
  | Pixels;

export interface Class {
  index: number;
  label: string;
  probability: number;
}

export interface ClassifyOptions {
  /** How many classes; 5 unless given. */
  topK?: number;
  signal?: AbortSignal;
}

/** Milliseconds of the last call. */
export interface Timing {
  preprocess: number;
  run: number;
}

export class Classifier {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Classifier>;
  static inWorker(source: string | URL, options?: Omit<LoadOptions, "fetch">): Promise<WorkerClassifier>;
  constructor(predictor: Predictor);
  readonly predictor: Predictor;
  readonly labels: string[] | null;
  readonly timing: Timing | null;
  /** The likeliest classes first. */
  classify(image: Picture, options?: ClassifyOptions): Promise<Class[]>;
  dispose(): void;
}

export class WorkerClassifier {
  readonly manifest: Manifest;
  readonly build: Build;
  readonly labels: string[] | null;
  readonly timing: Timing | null;
  classify(image: Picture, options?: ClassifyOptions): Promise<Class[]>;
  dispose(): void;
}

/** The pixels of anything that can be drawn. */
export function pixelsOf(image: Picture): Pixels;

/** The model's input for a picture. */
export function preprocess(image: Picture, spec: PreprocessSpec): TensorData;
