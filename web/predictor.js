// Predictor: a compiled model in WebAssembly. No dependencies, no eval; works in pages, workers, bundlers and node.
import { dequantized, quantized } from "./quantization.js";
import { sha256 } from "./sha256.js";
import { cut, fittingSet, ownOutputs, padded, resized, shapeSets, trueSize } from "./shapes.js";
import { sharedMemory, startThreads, threadCount } from "./threads.js";

const TYPES = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
  int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array,
  uint64: BigUint64Array, // floats of 16 bits and less are their bits where JavaScript has no such array
  float16: globalThis.Float16Array ?? Uint16Array, bfloat16: Uint16Array, int4: Int8Array, int2: Int8Array,
  uint4: Uint8Array, uint2: Uint8Array, float8_e4m3fn: Uint8Array, float8_e4m3fnuz: Uint8Array,
  float8_e5m2: Uint8Array, float8_e5m2fnuz: Uint8Array, float8_e8m0fnu: Uint8Array, float4_e2m1fn: Uint8Array }; // prettier-ignore
const PAGE = 65536;

// Milliseconds: the weights' speed is known after so many; so many to go are worth a worker, which few bytes may have.
const [WATCHED, WORTH, LARGE] = [50, 250, 1 << 28];

// Functions without arguments: v128.const; f32x4.relaxed_madd on three; i32x4.relaxed_dot_i8x16_i7x16_add_s of 127 and
// the largest number of 8 or 7 bits.
const all = (byte) => [0xfd, 12, ...new Array(16).fill(byte)];
const PROBES = {
  dots: (most) => [...all(127), ...all(most), ...all(0), 0xfd, 0x93, 2],
  relaxed: () => [...all(0), ...all(0), ...all(0), 0xfd, 0x85, 2],
  simd: () => all(0),
};

/** The fastest of these builds that this browser can run: "dots" (if it is named), "relaxed", "simd" or null. */
export function supportedBuild(builds = { relaxed: 1, simd: 1 }) {
  const able = ([build, code]) => {
    const named = builds[build] ?? builds[`${build}_threads`];
    if (!named) return false;
    const most = named.bits === 7 ? 127 : 255;
    const body = [0, ...code(most), 0xfd, 27, 0, 0x0b]; // no locals; i32x4.extract_lane 0; end
    const head = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7f, 3, 2, 1, 0, 7, 5, 1, 1, 0x66, 0, 0];
    const bytes = new Uint8Array([...head, 10, body.length + 2, 1, body.length, ...body]);
    if (!WebAssembly.validate(bytes)) return false;
    // A lane of such a product, if the engine takes the second factor as it is and adds it once.
    return build !== "dots" || new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.f() === 4 * 127 * most;
  };
  return typeof WebAssembly === "object" ? (Object.entries(PROBES).find(able)?.[0] ?? null) : null;
}

export class Predictor {
  /** Loads a bundle from its address or its parts; index.d.ts has the options. */
  static async load(source, options = {}) {
    options.signal?.throwIfAborted();
    try {
      return await this._load(source, options);
    } catch (e) {
      options.signal?.throwIfAborted(); // with its reason, which not every step gives
      throw e;
    }
  }

  static async _load(source, options) {
    if (!options.build && !supportedBuild()) {
      throw new Error("this browser cannot run the model: it has no WebAssembly SIMD (Chrome 91, Firefox 89, Safari 16.4 have)");
    }
    const parts = isAddress(source) ? await partsAt(source, options) : source;
    if (!parts?.manifest || !parts.wasm)
      throw new TypeError("load expects a bundle's address or its parts, {manifest, wasm, weights}");
    const manifest = parts.manifest;
    const { build, threads } = chosenBuild(manifest, options, parts.wasm);
    if (manifest.open) (await import("./open_sizes.js")).addSets(manifest, options.largest);
    if (manifest.strings) (await import("./strings.js")).addTypes(TYPES, manifest);
    const opening = webGpu(manifest, parts, options);
    const module = await compile(await parts.wasm[build], `${manifest.name}.${build}.wasm`);
    const predictor = await this.instance(module, manifest, build);
    const workers = predictor._workers(module, threads);
    try {
      predictor._create();
      if (manifest.weights) await predictor._readWeights(parts, module, options);
      const { note, take } = await opening;
      predictor.backendNote = note ?? (await take(predictor));
    } catch (e) {
      opening.then(({ dispose }) => dispose?.());
      workers.then((all) => all.forEach((worker) => worker.terminate()));
      throw e;
    }
    predictor._share(await workers);
    return predictor;
  }

  /** @hidden A predictor that is not created yet. */
  static async instance(module, manifest, build) {
    const memory = build.endsWith("_threads") ? sharedMemory(manifest) : undefined;
    return new this(await WebAssembly.instantiate(module, memory ? { env: { memory } } : {}), manifest, build, memory);
  }

  /** @hidden */
  constructor(instance, manifest, build, memory) {
    const { exports } = instance;
    this.name = manifest.name;
    this.manifest = manifest;
    this.build = build;
    this.backend = "wasm";
    this._sets = shapeSets(manifest);
    this._describe(0, 0);
    this._call = (name, ...args) => exports[`${manifest.name}_${name}`](...args);
    this._memory = memory ?? exports.memory;
    this.threads = 1;
    this._threads = [];
    this._at = {};
    let end = exports.__heap_base.value;
    const reserve = (what, bytes) => {
      const at = Math.ceil(end / 64) * 64;
      this._at[what] = { at, bytes };
      end = at + bytes;
    };
    reserve("predictor", (this._sets.bytes?.(this, end) ?? this._call("memory_size")) >>> 0);
    reserve("weights", manifest.weights?.bytes ?? 0);
    this.inputs.forEach((_, i) => reserve(`input ${i}`, Math.max(...this._sets.map((set) => byteLength(set.inputs[i])))));
    reserve("handle", 4);
    if (memory) reserve("stacks", (manifest.wasm_threads.count - 1) * manifest.wasm_threads.stack);
    const missing = end - this._memory.buffer.byteLength;
    try {
      if (missing > 0) this._memory.grow(Math.ceil(missing / PAGE));
    } catch {
      const hint = memory ? " to threads: load it with threads: 1" : "";
      throw new Error(`${this.name} needs ${Math.ceil(end / 1e6)} MB of memory, which this browser does not give${hint}`);
    }
  }

  /** @returns {Uint8Array} a reserved part of the memory */
  _place(what) {
    const { at, bytes } = this._at[what];
    return new Uint8Array(this._memory.buffer, at, bytes);
  }

  /** Reads and checks the weights; what depends on them is computed meanwhile. */
  async _readWeights(parts, module, { signal, onProgress }) {
    const { weights } = this.manifest;
    const to = this._place("weights");
    const check = checked(to, weights);
    let [began, warming] = [0, null];
    const arrived = (loaded) => {
      onProgress?.({ loaded, total: weights.bytes });
      const spent = performance.now() - began;
      if (!warming && spent > WATCHED && (spent / loaded) * (weights.bytes - loaded) > WORTH) {
        warming = this._warmUp(module);
      }
      check.upTo(loaded);
      this._check(this._call("weights_arrived", this._handle, loaded));
    };
    const from = await parts.weights;
    if (!from) throw new TypeError(`${weights.file} is not among the parts`);
    began = performance.now();
    try {
      await read(from, to, weights, arrived, signal);
    } catch (e) {
      if (!signal?.aborted) await parts.forget?.();
      throw e;
    } finally {
      warming?.then((worker) => worker?.terminate());
    }
    signal?.throwIfAborted();
    if (!(await check.good())) {
      await parts.forget?.();
      throw new Error(`${weights.file} is damaged: its SHA-256 is not the one in manifest.json; load it again`);
    }
    this._keep = parts.keep;
    setTimeout(() => this._keepWeights()); // a first run comes before it
  }

  /** Puts the weights into the browser's cache, unless they are there. */
  _keepWeights() {
    this._keep?.(this._place("weights").slice());
    this._keep = null;
  }

  /** Has a worker run the module meanwhile; null where that is not worth its memory, or cannot be. */
  async _warmUp(module) {
    const can = globalThis.navigator?.hardwareConcurrency > 1 && typeof Worker === "function";
    if (!can || this.manifest.weights.bytes > LARGE) return null;
    try {
      return (await import("./warm_up.js")).warmUp(module, this.manifest, this.build);
    } catch {
      return null;
    }
  }

  /** @hidden Computes on zeros as often, in a predictor that is thrown away. */
  runWithoutWeights(times) {
    this._create();
    this._call("weights_arrived", this._handle, this.manifest.weights.bytes);
    for (let k = 0; k < times; k++) this._call("run", this._handle);
  }

  /** Makes the predictor, before its weights are there. */
  _create() {
    const { weights, predictor, handle } = this._at;
    const withWeights = weights.bytes > 0;
    this._check(
      this._call("create_early", handle.at, predictor.at, predictor.bytes, withWeights ? weights.at : 0, weights.bytes),
    );
    this._handle = new Uint32Array(this._memory.buffer, handle.at, 1)[0];
    this._bind();
  }

  _bind() {
    this._sets[this.shape].inputs.forEach((t, i) => {
      const { at } = this._at[`input ${i}`];
      const bytes = byteLength(t);
      if (bytes) this._check(this._call("bind_input", this._handle, i, at, bytes));
    });
  }

  /** Tells of a set; of outputs that are cut to `length`, 0 where nothing is. */
  _describe(number, length) {
    const { inputs, outputs } = this._sets[number];
    const dims = (name) => (length && this.manifest.buckets.outputs[name]) || [];
    this.shape = number;
    this._length = length;
    this.inputs = inputs.map((t) => ({ ...t }));
    this.outputs = ownOutputs(outputs).map((t) => ({ ...t, shape: resized(t.shape, dims(t.name), length) }));
  }

  /** Takes the set of shapes of that number, or with open sizes of those shapes; inputs of another length do so, too. */
  setShape(shape) {
    this._open();
    const number = this._sets.numberOf?.(shape) ?? shape;
    if (!this._sets[number]) throw new RangeError(`${this.name} has no shapes number ${number}; it has ${this._sets.length}`);
    if (number !== this.shape) {
      this._check(this._call("set_shape", this._handle, number));
      this._describe(number, 0);
      this._bind();
    }
  }

  /** Takes the set of shapes that the inputs ask for; returns them, padded. */
  _fitted(inputs) {
    const { buckets } = this.manifest;
    const [all, length] = buckets ? padded(this.manifest, inputs) : [inputs, 0];
    const number = fittingSet(this._sets, this.shape, all);
    if (number >= 0) this.setShape(number);
    if (length !== this._length) this._describe(this.shape, length);
    return all;
  }

  /** Starts the workers of so many threads. */
  async _workers(module, threads) {
    if (threads === 1) return [];
    const { at } = this._at.stacks;
    const { stack } = this.manifest.wasm_threads;
    return startThreads(
      this.name,
      module,
      this._memory,
      Array.from({ length: threads - 1 }, (_, k) => at + (k + 1) * stack),
    );
  }

  /** Lets workers share the kernels' work. */
  _share(workers) {
    this._threads = workers;
    this.threads = 1 + workers.length;
    if (workers.length) this._check(this._call("set_threads", this._handle, this.threads)); // before a worker begins
    workers.forEach((worker, k) => worker.postMessage({ name: this.name, handle: this._handle, number: k + 1 }));
  }

  /** Computes all outputs: {name: typed array or array} in, {name: typed array} out; see index.d.ts. */
  async run(inputs, { states } = {}) {
    const all = states ? this._continued(inputs, states) : inputs;
    if (this._gpu) return this._gpu.compute(this, all, states);
    const outputs = this.runSync(all);
    for (const from of Object.values(states ?? {})) delete outputs[from];
    return outputs;
  }

  /** The inputs with the states that the last run has left, unless they are where the next one finds them. */
  _continued(inputs, states) {
    const missing = Object.keys(states).filter((to) => inputs[to] === undefined);
    const left = this._left;
    if (!missing.length || (left && left === this._gpu)) return inputs;
    if (left) throw new Error(`${this.name}: the states are on the WebGPU device, which is lost`);
    if (left === undefined) throw new TypeError(`input "${missing[0]}" is missing: no run has left it yet`);
    const last = this.outputValues();
    return { ...Object.fromEntries(missing.map((to) => [to, last[states[to]]])), ...inputs };
  }

  /** The same, at once, in WebAssembly. */
  runSync(inputs) {
    this.setInputs(inputs);
    this._check(this._call("run", this._handle));
    this._left = null; // where the outputs are, as states of the next run: in WebAssembly
    return this.outputValues();
  }

  /** Throws where the predictor is disposed of. */
  _open() {}

  /** Copies the inputs in, for `runStep`. */
  setInputs(inputs, without) {
    this._open();
    if (typeof inputs !== "object" || !inputs) throw new TypeError(`inputs are {name: values}; ${this._names()}`);
    for (const name of Object.keys(inputs)) {
      if (!this.inputs.some((t) => t.name === name)) throw new TypeError(`unknown input "${name}"; ${this._names()}`);
    }
    const values = this._sets.length > 1 || this.manifest.buckets ? this._fitted(inputs) : inputs;
    this.inputs.forEach((t, i) => {
      if (without?.has(i)) return;
      const value = values[t.name];
      const Type = TYPES[t.dtype];
      const count = elements(t);
      if (value === undefined) throw new TypeError(`input "${t.name}" is missing; ${this._names()}`);
      const plain = Array.isArray(value);
      if ((!plain && !(value instanceof Type)) || value.length !== count) {
        const got = `${value?.constructor?.name ?? value}${value?.length >= 0 ? ` of ${value.length}` : ""}`;
        const counts = this._sets.map((set) => `${elements(set.inputs[i])} (${set.inputs[i].shape.join(" x ")})`);
        throw new TypeError(`input "${t.name}" is ${got}; the model takes ${Type.name} of ${counts.join(" or ")}`);
      }
      const big = Type === BigInt64Array || Type === BigUint64Array;
      new Type(this._memory.buffer, this._at[`input ${i}`].at, count).set(plain && big ? value.map(BigInt) : value);
    });
  }

  /** The outputs as the last run or step left them, with their true shapes. */
  outputValues(at = (i) => this._output(i)) {
    const { outputs } = this._sets[this.shape];
    const values = (t) => new TYPES[t.dtype](...at(outputs.indexOf(t)), elements(t)).slice();
    return Object.fromEntries(
      this.outputs.map((own, i) => {
        const t = outputs[i];
        const dims = this._length && this.manifest.buckets.outputs[t.name];
        if (dims) return [t.name, cut(values(t), t.shape, dims, this._length)];
        if (!t.true_shape) return [t.name, values(t)];
        own.shape = Array.from(values(outputs.find((s) => s.name === t.true_shape)), Number);
        return [t.name, trueSize(values(t), t.shape, own.shape)];
      }),
    );
  }

  _output(i) {
    const at = this._call("output_data", this._handle, i) >>> 0;
    return [this._memory.buffer, at];
  }

  /** Converts integers of a quantised output or input to real numbers. */
  dequantize(name, values) {
    return dequantized(this._tensor(name), values);
  }

  /** Converts real numbers to integers of a quantised input or output. */
  quantize(name, values) {
    return quantized(this._tensor(name), values);
  }

  _tensor(name) {
    const all = [...this.inputs, ...this.outputs];
    const tensor = all.find((t) => t.name === name);
    if (!tensor) throw new TypeError(`unknown name "${name}"; ${this._names(all)}`);
    return tensor;
  }

  /** What a run does, in order: the names of kernels, "fill_halo" and "loop". */
  get steps() {
    const [of, ...who] = this._sets.length > 1 ? ["_of", this._handle] : [""];
    const length = this._call(`step_count${of}`, ...who);
    return Array.from({ length }, (_, i) => this._text(this._call(`step_name${of}`, ...who, i)));
  }

  /** Does one step of a run: for profiles. */
  runStep(index) {
    this._check(this._call("run_step", this._handle, index));
  }

  _text(pointer) {
    const bytes = new Uint8Array(this._memory.buffer, pointer >>> 0);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }

  _names(tensors = this.inputs) {
    return `the model has ${tensors.map((t) => `"${t.name}"`).join(", ")}`;
  }

  _check(status) {
    if (status === 0) return;
    throw Object.assign(new Error(`${this.name}: ${this._text(this._call("error_text", status))}`), { status });
  }

  /** Gives the memory back; the predictor cannot be used after it. */
  dispose() {
    this._keepWeights();
    this._threads.forEach((worker) => worker.terminate());
    this._gpu?.dispose();
    this._memory = this._gpu = null;
    this._call = this._open = () => {
      throw new Error(`${this.name} is disposed of; load it again`);
    };
  }
}

/** Which of the builds to run and on how many threads. */
function chosenBuild(manifest, { build, threads }, builds) {
  const there = Object.entries(builds).filter(([, given]) => given);
  const known = Object.fromEntries(there.map(([name, given]) => [name, manifest.wasm?.[name] ?? given]));
  const wanted = (build ?? supportedBuild(known) ?? "simd").replace("_threads", "");
  const several = `${wanted}_threads`;
  const count = builds[several] ? threadCount(manifest, threads) : 1;
  return count > 1 ? { build: several, threads: count } : { build: builds[wanted] ? wanted : "simd", threads: 1 };
}

function elements(t) {
  return t.shape.reduce((n, d) => n * d, 1);
}

function byteLength(t) {
  return elements(t) * TYPES[t.dtype].BYTES_PER_ELEMENT;
}

function isAddress(source) {
  return typeof source === "string" || source instanceof URL;
}

async function fetched(url, { fetch = globalThis.fetch, signal }) {
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new Error(`${url} cannot be loaded: ${e.message}`, { cause: e });
  }
  if (!response.ok) throw new Error(`${url} cannot be loaded: HTTP ${response.status} ${response.statusText}`.trim());
  return response;
}

/** The parts of the bundle at an address: the manifest now, the rest on its way. */
async function partsAt(source, options) {
  const page = globalThis.document?.baseURI ?? globalThis.location?.href;
  const url = new URL(String(source), page);
  if (!url.pathname.endsWith(".json")) url.pathname = `${url.pathname.replace(/\/*$/, "")}/page.json`;
  const opening = options.cache === false ? null : globalThis.caches?.open("dlpack").catch(() => null);
  const manifest = options.manifest ?? (await (await fetched(url, options)).json().catch(() => null));
  if (manifest?.format !== 1 || !manifest.wasm) throw new Error(`${url} is not the manifest of a bundle for wasm`);
  const parts = { manifest, wasm: {} };
  const { build } = chosenBuild(manifest, options, manifest.wasm);
  parts.wasm[build] = quiet(fetched(new URL(manifest.wasm[build].file, url), options));
  parts.webgpu = (file) => fetched(new URL(file, url), options).then((response) => response.text());
  if (!manifest.weights) return parts;
  const from = new URL(manifest.weights.file, url);
  const key = new URL(from);
  key.search = `sha256=${manifest.weights.sha256}`;
  const cache = await opening;
  const hit = await cache?.match(key.href);
  parts.weights = hit ?? quiet(fetched(from, options));
  parts.forget = () => cache?.delete(key.href);
  if (!cache || hit) return parts;
  parts.keep = async (bytes) => {
    const response = new Response(bytes, { headers: { "content-length": String(bytes.length) } });
    try {
      for (const old of await cache.keys()) {
        if (new URL(old.url).pathname === key.pathname) await cache.delete(old);
      }
      await cache.put(key.href, response);
    } catch {
      // no room for it: it is loaded again the next time
    }
  };
  return parts;
}

/** What takes a predictor to WebGPU, or {note}: why nothing does. */
async function webGpu({ name, webgpu }, parts, { backend, gpu = globalThis.navigator?.gpu }) {
  if (backend === "wasm") return { note: "asked for" };
  if (!webgpu?.plan || !parts.webgpu) return { note: webgpu?.unsupported ?? "there are no shaders" };
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (!adapter) return { note: "there is no WebGPU adapter" };
  try {
    return (await import("./webgpu.js")).open(name, adapter, webgpu, parts.webgpu, backend);
  } catch (e) {
    return { note: `WebGPU cannot be used: ${e.message}` };
  }
}

/** A promise that is awaited later: its failure is reported then. */
function quiet(promise) {
  promise.catch(() => {});
  return promise;
}

async function compile(wasm, name) {
  if (wasm instanceof WebAssembly.Module) return wasm;
  try {
    if (!(typeof Response === "function" && wasm instanceof Response)) return await WebAssembly.compile(wasm);
    const typed = wasm.headers.get("content-type") === "application/wasm"; // parameters are refused, a charset even
    return await (typed && WebAssembly.compileStreaming
      ? WebAssembly.compileStreaming(wasm)
      : WebAssembly.compile(await wasm.arrayBuffer()));
  } catch (cause) {
    const hint = /CSP|Content Security/.test(cause.message) ? "; script-src needs 'wasm-unsafe-eval'" : "";
    throw new Error(`${name} cannot be compiled: ${cause.message}${hint}`, { cause });
  }
}

/** Checks the weights chunk by chunk while the rest is on its way. */
function checked(to, { sha256: whole, chunk_bytes: size = to.length, chunk_sha256: wanted = [whole] }) {
  const checks = [];
  return {
    upTo(loaded) {
      for (let k = checks.length; k < wanted.length && loaded >= Math.min((k + 1) * size, to.length); k++) {
        checks.push(quiet(sha256(owned(to.subarray(k * size, (k + 1) * size))).then((digest) => digest === wanted[k])));
      }
    },
    good: async () => (await Promise.all(checks)).every(Boolean) && checks.length === wanted.length,
  };
}

/** Bytes that no other thread can write: digests refuse shared memory. */
function owned(bytes) {
  return bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice();
}

/** Reads the weights into memory as they arrive. */
async function read(from, to, { file, bytes: total }, arrived, signal) {
  const wrong = (loaded) => new Error(`${file} is damaged: it has ${loaded} bytes of ${total}; load it again`);
  if (!(typeof Response === "function" && from instanceof Response)) {
    const bytes = from instanceof ArrayBuffer ? new Uint8Array(from) : from;
    if (bytes.byteLength !== total) throw wrong(bytes.byteLength);
    to.set(new Uint8Array(bytes.buffer, bytes.byteOffset, total));
    arrived(total);
    return;
  }
  const reader = from.body.getReader();
  let loaded = 0;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { done, value } = await reader.read().catch((cause) => {
        throw new Error(`${file} cannot be loaded to its end: ${cause.message}; load it again`, { cause });
      });
      if (done) break;
      if (loaded + value.length > total) throw wrong(`more than ${total}`);
      to.set(value, loaded);
      loaded += value.length;
      arrived(loaded);
    }
  } catch (e) {
    reader.cancel().catch(() => {});
    throw e;
  }
  if (loaded !== total) throw wrong(loaded);
}
