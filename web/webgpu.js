// Runs a model's shaders on WebGPU, by the plan in NAME.webgpu.json (targets/gpu/webgpu.py). Fetched only where there is
// an adapter.

const [MAP_READ, COPY_SRC, COPY_DST, UNIFORM, STORAGE] = [0x1, 0x4, 0x8, 0x40, 0x80]; // GPUBufferUsage
const SLOT = 256; // bytes of the uniform buffer for a dispatch: where its operands begin

/** The runner of a plan, its shaders compiled; rejects with what stands in its way. */
export async function startRunner(adapter, plan, shaders) {
  const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
  const largest = Math.max(...plan.sets.map((set) => set.arena), ...plan.weights.map(({ bytes }) => bytes));
  const limit = Math.min(maxStorageBufferBindingSize, maxBufferSize);
  if (largest > limit) throw new Error(`the model needs a buffer of ${largest} bytes; this device has up to ${limit}`);
  const usual = { maxStorageBufferBindingSize: 128 << 20, maxBufferSize: 256 << 20 };
  const requiredLimits = Object.fromEntries(Object.entries(usual).filter(([, bytes]) => largest > bytes));
  for (const name of Object.keys(requiredLimits)) requiredLimits[name] = largest;
  const device = await adapter.requestDevice({ requiredLimits });
  const runner = new Runner(device, plan);
  try {
    await runner.compile(shaders);
    await runner.attempt(() => runner.allocate());
    return runner;
  } catch (e) {
    device.destroy();
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
    let result;
    try {
      result = await something();
    } finally {
      const errors = await Promise.all([device.popErrorScope(), device.popErrorScope()]).catch(() => []);
      for (const error of errors) if (error) throw new Error(error.message || "there is not enough memory");
    }
    return result;
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
        else queue.writeBuffer(to, at, Uint8Array.from({ length: size }, (_, i) => bytes[from + i] ?? 0));
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
    const copies = set.inputs.map(([, bytes]) => ({ shader: plan.copy, at: [0, 0, bytes / 4], weights: 0, groups: rows(bytes / 4) }));
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
    all.forEach((d, i) => Object.assign(d, { offset: [i * SLOT], group: groups[d.weights], pipeline: this._pipelines[d.shader] }));
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

/** A weight of 4-byte elements in the layout of the shaders. */
function repacked(bytes, { from, read, written, extents, places }) {
  const source = new Uint32Array(bytes.slice(from, from + read).buffer);
  const target = new Uint32Array(written / 4);
  const offsets = extents.map((extent, d) =>
    places[d].map(([size, outer, inner]) => Array.from({ length: extent }, (_, i) => Math.floor(i / size) * outer + (i % size) * inner)),
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
