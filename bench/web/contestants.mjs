// How each runtime is started on a model's file, as its manual says, with its WebAssembly backend.
// A starter gets {model: URL, threads, inputs: [{name, dtype, shape, data}], mark}, marks "instantiated" when its runtime
// can take a model, only then fetches the weights, marks "arrived" when it has their last byte, and returns the function
// that predicts once: typed arrays in, typed arrays out, {name: data} in the model's order.

async function arrayBuffer(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
  return response.arrayBuffer();
}

/** `model` is the folder of a bundle for wasm. */
async function ours({ model, threads, inputs, mark }) {
  const { Predictor, supportedBuild } = await import(`${model}index.js`);
  const feeds = Object.fromEntries(inputs.map(({ name, data }) => [name, data]));
  if (threads > 1) {
    const predictor = await Predictor.load(model, { threads, cache: false });
    return () => predictor.run(feeds);
  }
  const manifest = await (await fetch(`${model}page.json`)).json();
  const build = supportedBuild(manifest.wasm);
  const weights = {
    /** A promise that starts when it is awaited: after the code has been instantiated. */
    then(resolve, reject) {
      mark("instantiated");
      return fetch(`${model}${manifest.weights.file}`).then(resolve, reject);
    },
  };
  const wasm = { [build]: fetch(`${model}${manifest.wasm[build].file}`) };
  const onProgress = ({ loaded, total }) => loaded === total && mark("arrived");
  const predictor = await Predictor.load({ manifest, wasm, weights }, { threads, onProgress });
  return Object.assign(() => predictor.run(feeds), { predictor });
}

/** `model` is an ONNX file. A session of one node brings the runtime up: it has no call of its own for that. */
async function onnxruntime({ model, threads, inputs, mark }) {
  const ort = await import("onnxruntime-web");
  ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
  ort.env.wasm.numThreads = threads;
  const options = { executionProviders: ["wasm"] };
  await (await ort.InferenceSession.create("/site/identity.onnx", options)).release();
  mark("instantiated");
  const bytes = await arrayBuffer(model);
  mark("arrived");
  const session = await ort.InferenceSession.create(new Uint8Array(bytes), options);
  return async () => {
    const feeds = Object.fromEntries(inputs.map((t) => [t.name, new ort.Tensor(t.dtype, t.data, t.shape)]));
    const results = await session.run(feeds);
    return Object.fromEntries(session.outputNames.map((name) => [name, results[name].data]));
  };
}

/** `model` is a TFLite file. Its inputs and outputs have a number as last part of their names; it takes no int64. */
async function litert({ model, threads, inputs, mark }) {
  const { loadLiteRt, loadAndCompile, Tensor } = await import("@litertjs/core");
  await loadLiteRt("/npm/@litertjs/core/wasm/", { threads: threads > 1 });
  mark("instantiated");
  const bytes = await arrayBuffer(model);
  mark("arrived");
  const compiled = await loadAndCompile(new Uint8Array(bytes), { accelerator: "wasm", cpuOptions: { numThreads: threads } });
  const number = ({ name }) => Number(name.match(/\d+/g)?.at(-1) ?? 0);
  const order = (details) => [...details].sort((a, b) => number(a) - number(b));
  const narrow = (data) => (data instanceof BigInt64Array ? Int32Array.from(data, Number) : data);
  const given = order(compiled.getInputDetails()).map((t, k) => ({ ...t, data: narrow(inputs[k].data) }));
  const wanted = order(compiled.getOutputDetails()).map((t) => t.name);
  return async () => {
    const feeds = Object.fromEntries(given.map((t) => [t.name, new Tensor(t.data, t.shape)]));
    const results = await compiled.run(feeds);
    const outputs = wanted.map((name) => [name, results[name].toTypedArray()]);
    for (const tensor of [...Object.values(feeds), ...Object.values(results)]) tensor.delete();
    return Object.fromEntries(outputs);
  };
}

export const contestants = { ours, "onnxruntime-web": onnxruntime, litert };
