// Where a predictor runs: WebAssembly, or WebGPU where there is an adapter, the model has shaders, and they are faster.

const WAYS = ["auto", "wasm", "webgpu"];
const AGREE = 1e-3; // of an output's range: how far the two may be apart

/** A runner of the model's shaders, compiled, or why there is none: {runner} or {note}. */
export async function openWebGpu(manifest, parts, { backend = "auto", gpu = globalThis.navigator?.gpu }) {
  if (!WAYS.includes(backend)) throw new TypeError(`backend is "${backend}"; it may be ${WAYS.join(", ")}`);
  if (backend === "wasm") return { note: "asked for" };
  if (!manifest.webgpu) return { note: "the bundle was built without --webgpu" };
  if (manifest.webgpu.unsupported) return { note: manifest.webgpu.unsupported };
  if (!gpu) return { note: "there is no WebGPU here" };
  if (!parts.webgpu) return { note: "the shaders are not among the parts" };
  try {
    const adapter = await gpu.requestAdapter();
    if (!adapter) return { note: "there is no WebGPU adapter" };
    const { startRunner } = (await import("./webgpu.js"));
    const [plan, shaders] = await parts.webgpu();
    return { runner: await startRunner(adapter, plan, shaders) };
  } catch (e) {
    return { note: `WebGPU cannot be used: ${e.message}`, failed: true };
  }
}

/**
 * Whether the runner computes what WebAssembly does, and, unless it is asked for, is the faster: {use, note}.
 * `wasm` runs once and gives the outputs, `webgpu` promises them.
 */
export async function compared(asked, wasm, webgpu) {
  const [expected, cold] = await timed(wasm);
  const [got] = await timed(webgpu);
  const apart = got ? Math.max(0, ...expected.map((want, i) => distance(want, got[i]))) : 0;
  if (!(apart <= AGREE)) return { use: false, failed: true, note: `WebGPU computes something else, by ${apart.toPrecision(2)}` };
  if (asked) return { use: true, note: "asked for" };
  const slow = cold > 250 ? cold : Math.min(cold, (await timed(wasm))[1]); // by the second time it is compiled well
  const [, fast] = await timed(webgpu);
  return { use: fast < slow, note: `WebAssembly takes ${slow.toFixed(1)} ms, WebGPU ${fast.toFixed(1)}` };
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
