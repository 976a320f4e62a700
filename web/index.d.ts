// A bundle has the one of Decoder, Detector, Stylizer and Writer that suits its model, TextModel with a tokenizer,
// TextWriter where it also writes, SoundModel where it takes sound, Transcriber where it writes speech; everything else is
// in every bundle.
/// <reference lib="dom" />

/** How far the weights have come, in bytes. */
export interface Progress {
  loaded: number;
  total: number;
}

/** An extent: times * floor((size + plus) / by) + then; what is left out is 1 of factors, else 0. */
export interface ExtentRule {
  dimension: number;
  plus?: number;
  by?: number;
  times?: number;
  then?: number;
}

export interface TensorInfo {
  name: string;
  dtype:
    | "float16"
    | "bfloat16"
    | "float32"
    | "float64"
    | "int8"
    | "uint8"
    | "int16"
    | "uint16"
    | "int32"
    | "uint32"
    | "int64"
    | "uint64"
    | "bool"
    | "int4"
    | "uint4"
    | "int2"
    | "uint2"
    | "float8_e4m3fn"
    | "float8_e4m3fnuz"
    | "float8_e5m2"
    | "float8_e5m2fnuz"
    | "float8_e8m0fnu"
    | "float4_e2m1fn"
    /** Strings of so many bytes of UTF-8, less one: arrays of strings in JavaScript. */
    | `S${number}`;
  shape: number[];
  /** If it is quantised: its integers q represent the real numbers (q - zero_point) * scale. */
  quantization?: Quantization;
  /** Each element of this output is a probability, from Softmax or Sigmoid. */
  probabilities?: true;
  /**
   * Only a run knows the size of this output; `shape` is the largest in the manifest, and in `Predictor.outputs` that of
   * the last run. This names the output, of the manifest and the C API, with the true shape.
   */
  true_shape?: string;
  /** Of the manifest's last output, which is not 0 where a run exceeds one of these maxima of the build; `run` throws. */
  limits?: Record<string, number>;
}

export interface Quantization {
  scale: number;
  zero_point: number;
}

/** `dots` is of models with products of 8-bit integers: `relaxed` with the processor's own dot products. */
export type Build = "dots" | "relaxed" | "simd";

export type Backend = "wasm" | "webgpu";

export interface RunOptions {
  /**
   * By input, the output of the last run that it takes on where it is not given: states, caches. Those outputs are not
   * among the results; on WebGPU they stay on the GPU.
   */
  states?: Record<string, string>;
}

/** A model built for threads also has these. */
export type ThreadBuild = "dots_threads" | "relaxed_threads" | "simd_threads";

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

/** How a picture is turned into the input; web/README.md describes the keys. */
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
  /** That of the input; values are rounded to its steps. */
  quantization?: Quantization;
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
  wasm: Record<Build, FileInfo> & Partial<Record<ThreadBuild, FileInfo>>;
  /** Of the builds for threads: how many at most, 64 KiB pages of memory at first and at most, bytes of a thread's stack. */
  wasm_threads?: { count: number; pages: [number, number]; stack: number };
  /** Of a bundle that was built with --webgpu: the shaders and the plan of their launches, or why there are none. */
  webgpu?: { shaders: FileInfo; plan: FileInfo; kernels: number } | { unsupported: string };
  weights?: FileInfo & { chunk_bytes?: number; chunk_sha256?: string[] };
  labels?: string[];
  /** Of a model of tables: the columns of the first input, each with its values in training where they are known. */
  features?: { name: string; range?: [number, number] }[];
  preprocess?: PreprocessSpec;
  /**
   * The sets of shapes of a bundle that has several; `inputs` and `outputs` are the first's, `preprocess` that of the first
   * in which the input takes a picture: its batch is 1.
   */
  shapes?: { inputs: TensorInfo[]; outputs: TensorInfo[]; preprocess?: PreprocessSpec }[];
  /** Where sizes are open: their bounds, and by tensor and dimension the extents that follow from them. */
  open?: {
    dimensions: { smallest: number; largest: number; step: number }[];
    inputs: Record<string, Record<number, ExtentRule>>;
    outputs: Record<string, Record<number, ExtentRule>>;
    /** Multiply-adds of a run of the largest size. */
    macs: number;
    /** "8/7": pictures are resized to that part of the shorter side; else in proportion to the first set's. */
    resize?: string;
  };
  /** Where a set is made for each length of a dimension: which dimensions are padded and cut, by input and output. */
  buckets?: { sizes: number[]; inputs: Record<string, number[]>; outputs: Record<string, number[]> };
  /** Of a model that generates text: its inputs, the tokens that a predictor keeps, how many there are, and are read at once. */
  decoder?: {
    tokens: string;
    mask: string;
    positions?: string;
    scores: string;
    context: number;
    vocabulary: number;
    block: number;
    cache_bytes: number;
    /** Of a model that reads a text and answers it. */
    encoder?: { tokens: string; mask: string; most: number; vocabulary: number; start: number[] };
  };
  /** What the outputs mean; web/README.md describes the keys of each kind. */
  task?: { kind: "classify" | "detect" | "style" | "digits" | "text" | "generate" | "transcribe"; [key: string]: unknown };
}

type Data = BufferSource | Response;

/** The parts of a bundle, for callers that load its files themselves. */
export interface Parts {
  manifest: Manifest;
  wasm: Partial<Record<Build | ThreadBuild, Data | WebAssembly.Module | Promise<Data>>>;
  weights?: Data | Promise<Data>;
  /** Gives the text of one of the files that `manifest.webgpu` names; without it there is no WebGPU. */
  webgpu?: (file: string) => Promise<string>;
}

export interface LoadOptions {
  /** Ends the loading; the promise is rejected with its reason. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
  /** false: the weights are not kept in the browser's cache. */
  cache?: boolean;
  /**
   * Of a model with open dimensions the largest shape that an input is to have, { ids: [1, 128] }: the predictor takes
   * memory for no more, and refuses larger ones.
   */
  largest?: Record<string, number[]>;
  /** Which build to run (default: the fastest that this browser supports). */
  build?: Build;
  /**
   * Maximum number of threads (default: as many as the processor runs at once). Never more than the model was built for
   * (--threads), and one where the page is not cross-origin isolated.
   */
  threads?: number;
  /**
   * Where `run` computes: "auto" (the default) times WebGPU and WebAssembly once and takes the faster, "webgpu" does so
   * without timing. Both go on in WebAssembly where WebGPU does not work, and `backendNote` says why.
   */
  backend?: Backend | "auto";
  /** The bundle's manifest, where the page has it already. */
  manifest?: Manifest;
  /** Used in place of `navigator.gpu`: a GPU, as the types of WebGPU call it. */
  gpu?: { requestAdapter(): Promise<object | null> };
  /** Used in place of the global fetch. */
  fetch?: typeof fetch;
}

/**
 * Which of a bundle's builds (`manifest.wasm`) this browser runs fastest; null without WebAssembly SIMD. Without an
 * argument, of those that every bundle has.
 */
export function supportedBuild(builds?: Partial<Record<Build | ThreadBuild, unknown>>): Build | null;

/** A predictor. One run at a time; make several for more. */
export class Predictor {
  /** Loads a bundle from the address of its folder or of its manifest.json, or from its parts. */
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Predictor>;
  readonly name: string;
  readonly manifest: Manifest;
  readonly build: Build | ThreadBuild;
  /** How many threads a run takes. */
  readonly threads: number;
  /** Where `run` computes. It becomes "wasm" if the WebGPU device is lost. */
  readonly backend: Backend;
  /** Why there: the times of both, or what WebGPU lacks. */
  readonly backendNote: string;
  /** In the set of shapes of the last run; at first, the first. */
  readonly inputs: TensorInfo[];
  readonly outputs: TensorInfo[];
  /** The number of that set. */
  readonly shape: number;
  /**
   * Takes the set of that number, for inputs that have as many elements in several; else their lengths choose it, that of
   * the last run first. With buckets, inputs between two of them are padded with zeros and outputs are cut back. Where
   * sizes are open, the shapes of inputs may stand for the number: `setShape({ image: [1, 3, 480, 640] })`.
   */
  setShape(shape: number | Record<string, number[]>): void;
  /** Computes all outputs; data are in the order of the shapes. */
  run<T extends TensorData | string[] = TensorData>(
    inputs: Record<string, TensorData | number[] | string[]>,
    options?: RunOptions,
  ): Promise<Record<string, T>>;
  /** The same, at once, in WebAssembly. */
  runSync<T extends TensorData | string[] = TensorData>(
    inputs: Record<string, TensorData | number[] | string[]>,
  ): Record<string, T>;
  /** Converts the integers of a quantised output or input to real numbers; other values are returned unchanged. */
  dequantize(name: string, values: TensorData): TensorData;
  /** Converts real numbers to integers of a quantised input or output, for `run`; else returns the values unchanged. */
  quantize<T extends TensorData | number[]>(name: string, values: T): T | TensorData;
  /** The steps of a run, in order: names of kernels, "fill_halo" and "loop". */
  readonly steps: string[];
  /** Runs one step, for profiling. */
  runStep(index: number): void;
  /** Copies the inputs in, for `runStep`. */
  setInputs(inputs: Record<string, TensorData | number[] | string[]>): void;
  /** The outputs as the last run or step left them. */
  outputValues<T extends TensorData | string[] = TensorData>(): Record<string, T>;
  /** Releases the memory and ends the threads. */
  dispose(): void;
}

/** Pixels of 1 (gray), 3 (RGB) or 4 (RGBA) bytes. */
export interface Pixels {
  data: ArrayLike<number>;
  width: number;
  height: number;
}

export type Picture =
  ImageBitmap | HTMLImageElement | HTMLCanvasElement | HTMLVideoElement | OffscreenCanvas | VideoFrame | ImageData | Pixels;

export interface Class {
  index: number;
  label: string;
  probability: number;
}

export interface PictureOptions {
  /**
   * The number of the set of shapes to use (default: the predictor's, or if that takes no picture, the first that does).
   */
  shape?: number;
  signal?: AbortSignal;
}

export interface ClassifyOptions extends PictureOptions {
  /** How many classes (default: 5). */
  topK?: number;
}

/** Milliseconds of the last call. */
export interface Timing {
  preprocess: number;
  run: number;
}

/** What all models for pictures have in common. */
declare abstract class PictureModel {
  constructor(predictor: Predictor);
  readonly predictor: Predictor;
  readonly labels: string[] | null;
  readonly timing: Timing | null;
  dispose(): void;
}

/** A model that lives in a worker. */
declare abstract class ModelWorker<T> {
  readonly manifest: Manifest;
  readonly build: Build | ThreadBuild;
  readonly threads: number;
  readonly backend: Backend;
  readonly backendNote: string;
  readonly timing: T | null;
  dispose(): void;
}

declare abstract class PictureWorker extends ModelWorker<Timing> {
  readonly labels: string[] | null;
}

type WorkerOptions = Omit<LoadOptions, "fetch" | "gpu">;

export class Classifier extends PictureModel {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Classifier>;
  static inWorker(source: string | URL, options?: WorkerOptions): Promise<WorkerClassifier>;
  /** The most likely classes first. */
  classify(image: Picture, options?: ClassifyOptions): Promise<Class[]>;
}

export class WorkerClassifier extends PictureWorker {
  classify(image: Picture, options?: ClassifyOptions): Promise<Class[]>;
}

/** A box in the picture: its left upper corner and size in pixels, and its class. */
export interface Detection {
  index: number;
  label: string;
  score: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface DetectOptions extends PictureOptions {
  /** The lowest score (default: the task's). */
  threshold?: number;
  /** How much two boxes of one class may overlap (intersection over union; default: the task's). */
  iou?: number;
}

export class Detector extends PictureModel {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Detector>;
  static inWorker(source: string | URL, options?: WorkerOptions): Promise<WorkerDetector>;
  /** Highest score first, after non-maximum suppression. */
  detect(image: Picture, options?: DetectOptions): Promise<Detection[]>;
}

export class WorkerDetector extends PictureWorker {
  detect(image: Picture, options?: DetectOptions): Promise<Detection[]>;
}

export type StylizeOptions = PictureOptions;

export class Stylizer extends PictureModel {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Stylizer>;
  static inWorker(source: string | URL, options?: WorkerOptions): Promise<WorkerStylizer>;
  /** The model's picture in the model's size, RGBA. */
  stylize(image: Picture, options?: StylizeOptions): Promise<{ data: Uint8ClampedArray; width: number; height: number }>;
}

export class WorkerStylizer extends PictureWorker {
  stylize(image: Picture, options?: StylizeOptions): Promise<{ data: Uint8ClampedArray; width: number; height: number }>;
}

export interface WriteOptions {
  /** How many characters (default: 400). */
  length?: number;
  /** Scores are divided by it: 0 takes the most likely character, 1 the model's own probabilities (default: 0.8). */
  temperature?: number;
  /** Used in place of Math.random. */
  random?: () => number;
  signal?: AbortSignal;
}

export class Writer {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Writer>;
  constructor(predictor: Predictor);
  readonly predictor: Predictor;
  /** The characters that the model knows. */
  readonly labels: string[];
  /** Continues a text, one character at a time. */
  write(seed: string, options?: WriteOptions): AsyncGenerator<string>;
  dispose(): void;
}

/** A model that takes sound; in bundles that were built with --sound. */
export class SoundModel {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<SoundModel>;
  constructor(predictor: Predictor);
  readonly predictor: Predictor;
  /** Samples per second. */
  readonly rate: number;
  /** Samples of the model's input. */
  readonly samples: number;
  /** Makes the input, a spectrogram, of samples of one channel in -1..1; fewer than `samples` end in silence. */
  preprocess(samples: Float32Array, rate: number): Float32Array;
  /** Runs the model on samples. */
  run<T extends TensorData | string[] = TensorData>(samples: Float32Array, rate: number): Promise<Record<string, T>>;
  dispose(): void;
}

/** A model with a tokenizer; in bundles that have one. */
export class TextModel {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<TextModel>;
  static inWorker(source: string | URL, options?: WorkerOptions): Promise<WorkerTextModel>;
  constructor(predictor: Predictor);
  readonly predictor: Predictor;
  /** The ids of a text, by default with the tokens around it. Broken UTF-8 counts as U+FFFD. */
  tokenize(text: string | Uint8Array, options?: { special?: boolean }): number[];
  /** The text of ids, by default without special tokens. */
  detokenize(ids: ArrayLike<number>, options?: { special?: boolean }): string;
  /** What one more id adds to the text of `ids`, whole characters only; null ends the text. */
  detokenizeNext(ids: ArrayLike<number>, id: number | null): string;
  /** The embedding of a text; `cut`: one with too many tokens is cut, and no error. */
  embed(text: string | Uint8Array, options?: { cut?: boolean }): Float32Array;
  dispose(): void;
}

export class WorkerTextModel extends ModelWorker<never> {
  embed(text: string | Uint8Array, options?: { cut?: boolean }): Promise<Float32Array>;
}

/** Of the last text: tokens of the prompt and the milliseconds until it was read, tokens written and their milliseconds. */
export interface WritingTime {
  prompt: number;
  read: number;
  /** The first of them is chosen when the prompt has been read: `write` is the time of the others. */
  tokens: number;
  write: number;
}

/** A decoder with its tokenizer. */
export class TextWriter {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<TextWriter>;
  static inWorker(source: string | URL, options?: WorkerOptions): Promise<WorkerTextWriter>;
  constructor(predictor: Predictor);
  readonly predictor: Predictor;
  readonly texts: TextModel;
  readonly decoder: Decoder;
  readonly timing: WritingTime | null;
  /** What the model writes after a prompt, piece by piece. Without `stop` it ends where the model says. */
  write(prompt: string | Uint8Array, options?: TokenOptions): AsyncGenerator<string>;
  dispose(): void;
}

export class WorkerTextWriter extends ModelWorker<WritingTime> {
  /** The same. The worker does not wait for the pieces to be taken; it ends where they are left, or `signal` says so. */
  write(prompt: string | Uint8Array, options?: TokenOptions): AsyncGenerator<string>;
}

/** A part of what is said. */
export interface Segment {
  start: number;
  end: number;
  text: string;
}

/** A Transcriber in a worker. */
export class WorkerTranscriber extends ModelWorker<null> {
  /** The same. The worker does not wait for the pieces to be taken; it ends where they are left, or `signal` says so. */
  hear(samples: Float32Array, options: SpeechOptions & { rate: number }): AsyncGenerator<Segment | { text: string }>;
}

/** A model of speech with its tokenizer, such as Whisper. */
export class Transcriber {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Transcriber>;
  static inWorker(source: string | URL, options?: WorkerOptions): Promise<WorkerTranscriber>;
  constructor(predictor: Predictor);
  readonly predictor: Predictor;
  readonly sound: SoundModel;
  readonly decoder: Decoder;
  readonly texts: TextModel;
  /** What is said in samples of one channel in -1..1, of any length, piece by piece. */
  transcribe(samples: Float32Array, rate: number, options?: SpeechOptions): AsyncGenerator<string>;
  /** The same in segments with times in seconds, which the model tells. */
  segments(samples: Float32Array, rate: number, options?: SpeechOptions): AsyncGenerator<Segment>;
  /** Segments where the model tells times, else pieces of the text. */
  hear(samples: Float32Array, options: SpeechOptions & { rate: number }): AsyncGenerator<Segment | { text: string }>;
  /** The same as one text. */
  write(samples: Float32Array, rate: number, options?: SpeechOptions): Promise<string>;
  dispose(): void;
}

export interface SpeechOptions extends Sampling {
  /** A code such as "en"; without one the model finds it out in the first window. */
  language?: string;
  /** Writes English. */
  translate?: boolean;
  signal?: AbortSignal;
}

/** How a token is chosen from the scores of all. */
export interface Sampling {
  /** Scores are divided by it; 0 takes the likeliest token (default: 0). */
  temperature?: number;
  /** Only so many of the likeliest tokens; 0: all (default). */
  topK?: number;
  /** Of these the likeliest that together have this share; 1: all (default). */
  topP?: number;
  /** The same seed gives the same tokens, in every language (default: 0). */
  seed?: number | bigint;
}

export interface TokenOptions extends Sampling {
  /** How many tokens at most (default: 128). */
  maxTokens?: number;
  /** Tokens that end the text; they are not given. */
  stop?: Iterable<number>;
  /** Goes on from the text so far; else the prompt begins a new one. */
  keep?: boolean;
  signal?: AbortSignal;
}

/** A language model: it reads and writes tokens, whole numbers from 0 on. */
export class Decoder {
  static load(source: string | URL | Parts, options?: LoadOptions): Promise<Decoder>;
  constructor(predictor: Predictor);
  readonly predictor: Predictor;
  /** How many tokens a text may have. */
  readonly context: number;
  /** How many tokens there are. */
  readonly vocabulary: number;
  /** How many tokens the text so far has. */
  readonly length: number;
  /** The tokens that follow the prompt. Where the text gets too long a RangeError has those so far, in `tokens`. */
  generate(
    prompt: Iterable<number>,
    options?: TokenOptions & { /** Returns true to end the text. */ onToken?: (token: number) => unknown },
  ): Promise<number[]>;
  /** The same, one at a time, each computed when it is asked for. */
  tokens(prompt: Iterable<number>, options?: TokenOptions): AsyncGenerator<number>;
  /** Of a model with an encoder of text: it reads one, and begins an answer; rewind(0) and append() begin another. */
  read(tokens: Iterable<number>): void;
  /** Reads tokens behind the text so far. */
  append(tokens: Iterable<number>, options?: { signal?: AbortSignal }): Promise<void>;
  /** The scores of all tokens to follow the text; null where nothing was read since it began or was cut. */
  scores(): Float32Array | null;
  /** Chooses a token to follow the text, which is not added to it; the sampler's seed changes. */
  sample(sampler?: Sampling): number;
  /** Adds a token to the text. */
  accept(token: number): void;
  /** Forgets all but the first `length` tokens of the text. */
  rewind(length: number): void;
  /** Forgets the text, and clears the memory where it was. */
  reset(): void;
  dispose(): void;
}

/** The pixels of anything that can be drawn. */
export function pixelsOf(image: Picture): Pixels;

/** The model's input for a picture. */
export function preprocess(image: Picture, spec: PreprocessSpec): TensorData;
