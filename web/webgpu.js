// Takes a predictor to WebGPU: runs the model's shaders by the plan in NAME.webgpu.json (targets/gpu/webgpu.py). Fetched
// only where there is an adapter.

const [MAP_READ, COPY_SRC, COPY_DST, UNIFORM, STORAGE] = [0x1, 0x4, 0x8, 0x40, 0x80]; // GPUBufferUsage
const SLOT = 256; // bytes of the uniform buffer for a dispatch: where its operands begin
const AGREE = 1e-3; // of an output's range: how far the outputs may be from WebAssembly's

/**
 * Compiles the shaders. `read(file)` promises the text of one of the `files` {plan, shaders}; `backend` is "webgpu" or
 * "auto".
 * @returns {Promise<{take, dispose} | {note}>} take(predictor) says where it runs from then on, and tells why
 */
export async function open(name, adapter, files, read, backend) {
  try {
    const [plan, shaders] = await Promise.all([files.plan, files.shaders].map(({ file }) => read(file)));
    const runner = await started(adapter, JSON.parse(plan), shaders);
    return { take: (predictor) => new OnGpu(runner).take(predictor, backend), dispose: () => runner.dispose() };
  } catch (e) {
    return { note: failed(name, `WebGPU cannot be used: ${e.message}`) };
  }
}

function failed(name, note) {
  console.warn(`${name} runs in WebAssembly: ${note}`);
  return note;
}

/** A predictor's runs on the GPU. */
class OnGpu {
  constructor(runner) {
    this._runner = runner;
  }

  /** Lets a predictor run here if this gives what WebAssembly does, and is faster or asked for; returns the reason. */
  async take(predictor, backend) {
    const { name } = predictor;
    const runner = this._runner;
    try {
      runner.upload(predictor._place("weights"));
      const { note, use } = await runner.attempt(() => this._compare(predictor, backend === "webgpu"));
      if (!use) {
        runner.dispose();
        return note;
      }
      predictor._gpu = this;
      predictor.backend = "webgpu";
      runner.lost.then((why) => predictor._gpu && this._leave(predictor, `the WebGPU device is lost: ${why}`));
      return note;
    } catch (e) {
      runner.dispose();
      return failed(name, `WebGPU cannot be used: ${e.message}`);
    }
  }

  async _compare(predictor, asked) {
    predictor.inputs.forEach((t, i) => {
      const { at, bytes } = predictor._at[`input ${i}`];
      if (t.dtype !== "float32") new Uint8Array(predictor._memory.buffer, at, bytes).fill(0);
      else new Float32Array(predictor._memory.buffer, at, bytes / 4).forEach((_, k, all) => (all[k] = (k * 0.618034) % 1));
    });
    const wasm = () => predictor._check(predictor._call("run", predictor._handle));
    const webgpu = () => this._run(predictor);
    const [, cold] = await timed(wasm);
    const expected = predictor.outputValues();
    const [got] = await timed(webgpu);
    const apart = Math.max(0, ...Object.keys(expected).map((output) => distance(expected[output], got[output])));
    if (!(apart <= AGREE)) throw new Error(`it computes something else, by ${apart.toPrecision(2)} of the range`);
    if (asked) return { use: true, note: "asked for" };
    const slow = cold > 250 ? cold : Math.min(cold, (await timed(wasm))[1]); // the second time it is compiled well
    const [, fast] = await timed(webgpu);
    return { use: fast < slow, note: `WebAssembly takes ${slow.toFixed(1)} ms, WebGPU ${fast.toFixed(1)}` };
  }

  /** The outputs of the inputs that are in the predictor's memory; null where the shaders cannot compute with these. */
  async _run(predictor, kept, stay) {
    const runner = this._runner;
    runner.use(predictor.shape);
    const inputs = runner.sizes.map((bytes, i) => {
      const { at } = predictor._at[`input ${i}`];
      return kept?.has(i) ? null : new Uint8Array(predictor._memory.buffer, at, Math.ceil(bytes / 4) * 4);
    });
    if (!runner.takes(inputs)) return null;
    const got = await runner.run(inputs, kept, stay);
    const exceeded = predictor._sets[predictor.shape].outputs.findIndex((t) => t.limits);
    if (got[exceeded] && new Int32Array(got[exceeded])[0]) return null; // WebAssembly says so
    return predictor.outputValues((i) => [got[i] ?? new ArrayBuffer(runner.largest), 0]);
  }

  /** As `Predictor.run`. Where the device is lost the predictor goes on in WebAssembly, with this run too. */
  async compute(predictor, inputs, states = {}) {
    const [kept, stay] = [new Map(), new Set()];
    for (const [to, from] of Object.entries(states)) {
      const i = predictor.inputs.findIndex((t) => t.name === to);
      const o = predictor.outputs.findIndex((t) => t.name === from);
      const [a, b] = [predictor.inputs[i], predictor.outputs[o]];
      if (!a || !b || a.dtype !== b.dtype || String(a.shape) !== String(b.shape)) {
        throw new TypeError(`input "${to}" cannot take on output "${from}": one is missing, or they differ in type or shape`);
      }
      stay.add(o);
      if (inputs[to] === undefined) kept.set(i, o);
    }
    predictor.setInputs(inputs, kept);
    let outputs;
    try {
      outputs = await this._run(predictor, kept, stay);
    } catch (e) {
      await Promise.race([this._runner.lost, new Promise((done) => setTimeout(done, 100))]); // which may be told later
      if (predictor._gpu) this._leave(predictor, `a run failed: ${e.message}`);
    }
    if (!outputs && (kept.size || (stay.size && predictor._gpu))) {
      throw new Error(
        `${predictor.name}: the states are on the WebGPU device, which is lost or cannot compute with these inputs`,
      );
    }
    if (outputs) predictor._left = this;
    outputs ??= predictor.runSync(inputs);
    for (const from of Object.values(states)) delete outputs[from];
    return outputs;
  }

  _leave(predictor, why) {
    this.dispose();
    predictor._gpu = null;
    predictor.backend = "wasm";
    predictor.backendNote = failed(predictor.name, why);
  }

  dispose() {
    this._runner.dispose();
  }
}

async function timed(run) {
  const began = performance.now();
  const outputs = await run();
  return [outputs, performance.now() - began];
}

/** How far two arrays of floats are apart at most, as a part of the range; 0 for others. */
function distance(want, got) {
  if (!(want instanceof Float32Array)) return 0;
  let [most, range] = [0, 1e-6];
  for (let i = 0; i < want.length; i++) {
    if (!Number.isFinite(want[i])) continue;
    range = Math.max(range, Math.abs(want[i]));
    const d = Math.abs(want[i] - got[i]);
    most = d <= most ? most : d; // NaN too
  }
  return most / range;
}

/** The runner of a plan, its shaders compiled; rejects with what stands in its way. */
async function started(adapter, plan, shaders) {
  const largest = Math.max(...plan.sets.map((set) => set.arena), ...plan.weights.map(({ bytes }) => bytes));
  const usual = { maxStorageBufferBindingSize: 128 << 20, maxBufferSize: 256 << 20 };
  const requiredLimits = {};
  for (const [name, bytes] of Object.entries(usual)) {
    if (largest <= bytes) continue;
    if (largest > adapter.limits[name]) {
      throw new Error(`the model needs a buffer of ${largest} bytes; this device has up to ${adapter.limits[name]}`);
    }
    requiredLimits[name] = largest;
  }
  const runner = new Runner(await adapter.requestDevice({ requiredLimits }), plan);
  try {
    await runner.compile(shaders);
    await runner.attempt(async () => runner.allocate());
    return runner;
  } catch (e) {
    runner.dispose();
    throw e;
  }
}

class Runner {
  constructor(device, plan) {
    this.device = device;
    this.plan = plan;
    this.set = null;
    this._sets = [];
    this._free = []; // buffers that outputs are read from
    this.gone = false;
    /** Resolves with the reason once the device is lost. */
    this.lost = device.lost.then(({ reason, message }) => {
      this.gone = true;
      return message || reason;
    });
  }

  /** Does something, and rejects with what WebGPU finds wrong with it. */
  async attempt(something) {
    const { device } = this;
    for (const kind of ["validation", "out-of-memory"]) device.pushErrorScope(kind);
    const [{ value, reason }] = await Promise.allSettled([something()]);
    const scopes = await Promise.allSettled([device.popErrorScope(), device.popErrorScope()]);
    const error = scopes.map((scope) => scope.value).find(Boolean);
    if (error) throw new Error(error.message || "there is not enough memory");
    if (reason) throw reason;
    return value;
  }

  async compile(code) {
    const { device, plan } = this;
    device.pushErrorScope("validation"); // the module's errors are told with their lines
    const module = device.createShaderModule({ code });
    device.popErrorScope().catch(() => {});
    const { messages } = await module.getCompilationInfo();
    const error = messages.find(({ type }) => type === "error");
    if (error) throw new Error(`a shader does not compile: line ${error.lineNum}: ${error.message}`);
    const kinds = [{ type: "storage" }, { type: "read-only-storage" }, { type: "uniform", hasDynamicOffset: true }];
    const entries = kinds.map((buffer, binding) => ({ binding, visibility: 4, buffer })); // GPUShaderStage.COMPUTE
    this._layout = device.createBindGroupLayout({ entries });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [this._layout] });
    const compiled = plan.shaders.map(({ name: entryPoint }) =>
      device.createComputePipelineAsync({ layout, compute: { module, entryPoint } }).catch((e) => {
        throw new Error(`the shader ${entryPoint} does not compile: ${e.message}`, { cause: e });
      }),
    );
    this._pipelines = await Promise.all(compiled);
  }

  /** The bytes of the inputs in the present set of shapes, and of the largest output. */
  get sizes() {
    return this.plan.sets[this.set].inputs.map(([, bytes]) => bytes);
  }

  get largest() {
    return Math.max(...this.plan.sets[this.set].outputs.map(([, bytes]) => bytes));
  }

  _buffer(size, usage) {
    return this.device.createBuffer({ size: Math.max(SLOT, Math.ceil(size / SLOT) * SLOT), usage });
  }

  allocate() {
    const { plan } = this;
    this._arena = this._buffer(Math.max(...plan.sets.map((set) => set.arena)), STORAGE | COPY_SRC | COPY_DST);
    this._weights = plan.weights.map(({ bytes }) => this._buffer(bytes, STORAGE | COPY_DST));
  }

  /** Uploads the weights, `bytes` of NAME.weights, in the layouts that the shaders read. */
  upload(bytes) {
    const { queue } = this.device;
    this.plan.weights.forEach(({ copies, repacks }, k) => {
      const to = this._weights[k];
      for (const [from, at, size] of copies) {
        const there = Math.min(size, bytes.length - from);
        if (there % 4 === 0) queue.writeBuffer(to, at, bytes, from, there);
        else
          queue.writeBuffer(
            to,
            at,
            Uint8Array.from({ length: size }, (_, i) => bytes[from + i] ?? 0),
          );
      }
      for (const r of repacks) queue.writeBuffer(to, r.at, repacked(bytes, r));
    });
  }

  /** Takes the set of shapes of that number: its dispatches, and the borders of its padded buffers. */
  use(number) {
    if (this.set === number) return;
    const { device, plan } = this;
    const set = plan.sets[number];
    for (const [at, length, fill] of set.borders) {
      device.queue.writeBuffer(this._arena, at * 4, new Uint32Array(length).fill(fill));
    }
    this.set = number;
    if (this._sets[number]) return;
    const dispatches = flat(set.steps, []).map(({ shader = plan.copy, at, weights = 0, groups }) => {
      return { shader, at, weights, groups: groups ?? plan.shaders[shader].groups };
    });
    // from an output to an input, for the next run: `run` says from where
    const copies = set.inputs.map(([, bytes]) => ({
      shader: plan.copy,
      at: [0, 0, bytes / 4],
      weights: 0,
      groups: rows(bytes / 4),
    }));
    const all = [...dispatches, ...copies];
    const slots = new Int32Array((all.length * SLOT) / 4);
    all.forEach(({ at }, i) => slots.set(at, (i * SLOT) / 4));
    const uniforms = this._buffer(slots.byteLength, UNIFORM | COPY_DST);
    device.queue.writeBuffer(uniforms, 0, slots);
    const groups = this._weights.map((weights) => {
      const buffers = [{ buffer: this._arena }, { buffer: weights }, { buffer: uniforms, size: SLOT }];
      const entries = buffers.map((resource, binding) => ({ binding, resource }));
      return device.createBindGroup({ layout: this._layout, entries });
    });
    all.forEach((d, i) =>
      Object.assign(d, { offset: [i * SLOT], group: groups[d.weights], pipeline: this._pipelines[d.shader] }),
    );
    this._sets[number] = { dispatches, copies, uniforms };
  }

  /** Whether the inputs, as bytes, are such as the shaders can compute with: 64-bit integers of 32 bits. */
  takes(inputs) {
    return this.plan.sets[this.set].wide.every((i) => {
      if (!inputs[i]) return true;
      const words = new Int32Array(inputs[i].buffer, inputs[i].byteOffset, inputs[i].length / 4);
      return words.every((word, k) => k % 2 === 0 || word === words[k - 1] >> 31);
    });
  }

  /**
   * Computes the outputs, each an ArrayBuffer. `inputs` are bytes, padded to multiples of 4; for null the input is what
   * the last run left in the output that `kept` has for its number. The outputs numbered in `stay` are not read: null.
   */
  async run(inputs, kept = new Map(), stay = new Set()) {
    const { device, plan } = this;
    const set = plan.sets[this.set];
    const { dispatches, copies, uniforms } = this._sets[this.set];
    const all = [];
    set.inputs.forEach(([at], i) => {
      if (inputs[i]) return device.queue.writeBuffer(this._arena, at, inputs[i]);
      const from = set.outputs[kept.get(i)][0];
      device.queue.writeBuffer(uniforms, copies[i].offset[0], new Int32Array([from / 4, at / 4]));
      all.push(copies[i]);
    });
    all.push(...dispatches);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    let current;
    for (const { pipeline, group, offset, groups } of all) {
      if (pipeline !== current) pass.setPipeline((current = pipeline));
      pass.setBindGroup(0, group, offset);
      pass.dispatchWorkgroups(...groups);
    }
    pass.end();
    const staging = this._free.pop() ?? this._buffer(Math.max(...plan.sets.map(sizeOfOutputs)), MAP_READ | COPY_DST);
    let end = 0;
    const places = set.outputs.map(([at, bytes], i) => {
      if (stay.has(i)) return null;
      const size = Math.ceil(bytes / 4) * 4;
      if (size) encoder.copyBufferToBuffer(this._arena, at, staging, end, size);
      end += size;
      return [end - size, end - size + bytes];
    });
    device.queue.submit([encoder.finish()]);
    if (!end) await device.queue.onSubmittedWorkDone();
    else await staging.mapAsync(1); // GPUMapMode.READ
    if (this.gone) throw new Error("the device is lost");
    const values = end ? staging.getMappedRange(0, Math.ceil(end / 8) * 8) : new ArrayBuffer(0);
    const outputs = places.map((place) => place && values.slice(...place));
    if (end) staging.unmap();
    this._free.push(staging);
    return outputs;
  }

  dispose() {
    this.device.destroy();
  }
}

function sizeOfOutputs({ outputs }) {
  return outputs.reduce((sum, [, bytes]) => sum + Math.ceil(bytes / 4) * 4, 8);
}

/** The groups of threads that copy so many words. */
function rows(words) {
  const groups = Math.ceil(words / 256);
  return [Math.min(groups, 65535), Math.ceil(groups / 65535), 1];
}

/** A set's steps with loops written out: of each trip, operands begin `by` further on. */
function flat(steps, trips) {
  return steps.flatMap((step) => {
    if (step.body) return Array.from({ length: step.count }, (_, k) => flat(step.body, [...trips, k])).flat();
    if (!step.by) return [step];
    return [{ ...step, at: step.at.map((at, i) => trips.reduce((sum, k, d) => sum + k * (step.by[i][d] ?? 0), at)) }];
  });
}

/** The bits of a float32 that a float16 stands for. */
function widened(half) {
  const [sign, exponent, mantissa] = [(half & 0x8000) << 16, (half >> 10) & 31, half & 1023];
  if (exponent === 31) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  return sign | new Int32Array(new Float32Array([mantissa * 2 ** -24]).buffer)[0];
}

/** Float32s, row-major, of codes of few bits: (number of the code - number of its zero point) * scale. */
function numbers(bytes, { from, extents, codes: { bits, table, scales, zeros, count, blocks, steps } }) {
  const floats = (at, length) => new Float32Array(bytes.slice(at, at + 4 * length).buffer);
  const [meaning, scale] = [floats(table, 1 << bits), floats(scales, count)];
  const zero = Float32Array.from(scale, (_, i) => (zeros === null ? 0 : meaning[bytes[zeros + i]]));
  const out = new Float32Array(extents.reduce((n, d) => n * d, 1));
  let i = 0;
  const walk = (d, first) => {
    for (let k = 0; k < extents[d]; k++) {
      const group = first + Math.floor(k / blocks[d]) * steps[d];
      if (d < extents.length - 1) walk(d + 1, group);
      else {
        const code = bytes[from + Math.floor((i * bits) / 8)] >> ((i * bits) % 8);
        out[i++] = (meaning[code & (meaning.length - 1)] - zero[group]) * scale[group];
      }
    }
  };
  walk(0, 0);
  return out;
}

/** A weight of 4 bytes an element in the layout of the shaders, from codes, floats of 16 bits or one of the same type. */
function repacked(bytes, weight) {
  const { from, read, of, written, extents, places } = weight;
  const own = bytes.slice(from, from + read).buffer;
  const sources = {
    codes: () => new Uint32Array(numbers(bytes, weight).buffer),
    bfloat16: () => Uint32Array.from(new Uint16Array(own), (half) => half << 16),
    float16: () => Uint32Array.from(new Uint16Array(own), widened),
  };
  const source = sources[of]?.() ?? new Uint32Array(own);
  const target = new Uint32Array(written / 4);
  const offsets = extents.map((extent, d) =>
    places[d].map(([size, outer, inner]) =>
      Array.from({ length: extent }, (_, i) => Math.floor(i / size) * outer + (i % size) * inner),
    ),
  );
  const walk = (d, a, b) => {
    const [here, there] = offsets[d];
    const last = d === extents.length - 1;
    for (let i = 0; i < here.length; i++) {
      if (last) target[b + there[i]] = source[a + here[i]];
      else walk(d + 1, a + here[i], b + there[i]);
    }
  };
  if (extents.length) walk(0, 0, 0);
  else target[0] = source[0];
  return target;
}
