// The page of one contestant: its functions in globalThis.bench are called through driver.mjs.
import { contestants } from "./contestants.mjs";

const TYPES = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
  int16: Int16Array, uint16: Uint16Array, int32: Int32Array, int64: BigInt64Array }; // prettier-ignore
const now = () => performance.now();

let call; // a prediction: typed arrays in, typed arrays out; ours has its predictor as a property
let outputs;

async function bytesOf(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
  return response.arrayBuffer();
}

globalThis.bench = {
  /** Keeps the page's process busy for some milliseconds. */
  async burn(duration) {
    const end = now() + duration;
    while (now() < end);
  },

  /** GFLOP/s of fused multiply-adds: the best of many short runs of ceiling.c. */
  async ceiling(url) {
    const { instance } = await WebAssembly.instantiate(await bytesOf(url), {});
    const steps = 100_000;
    const flops = steps * instance.exports.flops_per_step();
    let best = 0;
    for (let sample = 0; sample < 200; sample++) {
      const began = now();
      instance.exports.multiply_adds(steps);
      best = Math.max(best, flops / (now() - began) / 1e6);
    }
    return best;
  },

  /**
   * Starts a contestant and predicts once.
   * @param {object} setup {contestant, model: URL, threads, inputs: [{name, dtype, shape, url}]}
   * @returns milliseconds: `instantiate`, from the first request for code to a runtime that can take a model; `load`,
   *   from there, where the weights are requested, to a runtime that can predict; `ready`, the part of it after the
   *   weights' last byte; `first`, the first prediction. And `files`, the addresses of what was loaded.
   */
  async start({ contestant, model, threads, inputs }) {
    performance.setResourceTimingBufferSize(1000);
    const given = [];
    for (const { url, ...tensor } of inputs) given.push({ ...tensor, data: new TYPES[tensor.dtype](await bytesOf(url)) });
    performance.clearResourceTimings();
    const marks = { began: now() };
    call = await contestants[contestant]({ model, threads, inputs: given, mark: (name) => (marks[name] = now()) });
    marks.ready = now();
    outputs = await call();
    marks.predicted = now();
    marks.instantiated ??= marks.ready;
    marks.arrived ??= marks.instantiated; // a model without weights
    return {
      instantiate: marks.instantiated - marks.began,
      load: marks.ready - marks.instantiated,
      ready: marks.ready - marks.arrived,
      first: marks.predicted - marks.ready,
      files: performance.getEntriesByType("resource").map((entry) => entry.name),
    };
  },

  /** Predicts until the engine has its best code; milliseconds per call in the second half. */
  async warmUp(duration) {
    const times = [now()];
    while (times.length <= 5 || times.at(-1) < times[0] + duration) {
      await call();
      times.push(now());
    }
    const half = times.length >> 1;
    return (times.at(-1) - times[half]) / (times.length - 1 - half);
  },

  /** Predicts so many times; milliseconds in all. */
  async round(calls) {
    const began = now();
    for (let i = 0; i < calls; i++) outputs = await call();
    return now() - began;
  },

  /** Ours: [[name, microseconds]] of each step of a run; means without the slowest quarter, which were interrupted. */
  async profile(duration) {
    const steps = call.predictor.steps.map((name) => [name, []]);
    const end = now() + duration;
    for (let round = 0; round < 8 || now() < end; round++) {
      await call();
      steps.forEach(([, times], index) => {
        const began = now();
        call.predictor.runStep(index);
        times.push(now() - began);
      });
    }
    const mean = (times) => times.reduce((sum, time) => sum + time, 0) / times.length;
    return steps.map(([name, times]) => [name, 1e3 * mean(times.sort((a, b) => a - b).slice(0, (3 * times.length) >> 2))]);
  },

  /** The last prediction: {name: {dtype, base64}}, in the model's order. */
  async outputs() {
    const types = Object.entries(TYPES);
    return Object.fromEntries(
      Object.entries(outputs).map(([name, data]) => {
        const [dtype] = types.find(([, Type]) => data instanceof Type);
        return [name, { dtype, base64: new Uint8Array(data.buffer, data.byteOffset, data.byteLength).toBase64() }];
      }),
    );
  },
};
