// The page of one engine with a decoder: its functions in globalThis.bench are called through driver.mjs.
// An engine has read(tokens), which begins a text, write(count), which returns the likeliest tokens that follow, and
// scores(), those of the token that follows what was read.
const now = () => performance.now();

const largest = (scores) => {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i] > scores[best]) best = i;
  return best;
};

const engines = {
  async ours({ model, threads, bundle = "wasm" }) {
    const { Decoder } = await import(`${model}/${bundle}/index.js`);
    const options = threads > 1 ? { threads, cache: false } : { cache: false };
    const decoder = await Decoder.load(`${model}/${bundle}/`, options);
    return {
      read: async (tokens) => {
        decoder.rewind(0);
        await decoder.append(tokens);
      },
      write: (count) => decoder.generate([], { maxTokens: count, keep: true }),
      scores: () => decoder.scores(),
    };
  },

  ours_int8: (setup) => engines.ours({ ...setup, bundle: "wasm-int8" }),

  /** The loop is ours: what a run gives as `present` is the `past` of the next. */
  async ortweb({ model, threads, sizes }) {
    const ort = await import("onnxruntime-web");
    ort.env.wasm.wasmPaths = "/npm/onnxruntime-web/dist/";
    ort.env.wasm.numThreads = threads;
    const session = await ort.InferenceSession.create(`${model}/model.onnx`, { executionProviders: ["wasm"] });
    const int64 = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    let past, length, last;
    const run = async (tokens) => {
      length += tokens.length;
      const feeds = { input_ids: int64(tokens), attention_mask: int64(Array(length).fill(1)), ...past };
      const { logits, ...present } = await session.run(feeds);
      past = Object.fromEntries(Object.entries(present).map(([name, t]) => [name.replace("present", "past_key_values"), t]));
      last = logits.data.subarray(-sizes.vocabulary);
    };
    return {
      read: (tokens) => {
        const names = session.inputNames.filter((name) => name.startsWith("past"));
        const empty = () => new ort.Tensor("float32", new Float32Array(0), [1, sizes.kv, 0, sizes.width / sizes.heads]);
        past = Object.fromEntries(names.map((name) => [name, empty()]));
        length = 0;
        return run(tokens);
      },
      write: async (count) => {
        const made = [];
        while (made.length < count) {
          made.push(largest(last));
          await run(made.slice(-1));
        }
        return made;
      },
      scores: () => last,
    };
  },

  /** Its own `generate`, which goes on from the cache of the last call. */
  async transformersjs({ model, threads }) {
    const { AutoModelForCausalLM, Tensor, env } = await import("@huggingface/transformers");
    Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, useBrowserCache: false, localModelPath: "/models/" });
    Object.assign(env.backends.onnx.wasm, { wasmPaths: "/npm/onnxruntime-web/dist/", numThreads: threads });
    const how = { dtype: "fp32", device: "wasm", subfolder: "" };
    const net = await AutoModelForCausalLM.from_pretrained(model.replace("/models/", ""), how);
    const int64 = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    let text, past;
    const go = async (count) => {
      const given = { input_ids: int64(text), attention_mask: int64(Array(text.length).fill(1)), do_sample: false };
      const options = { max_new_tokens: count, min_new_tokens: count, return_dict_in_generate: true };
      const result = await net.generate({ ...given, ...options, ...(past && { past_key_values: past }) });
      past = result.past_key_values;
      const made = Array.from(result.sequences.data, Number).slice(text.length);
      text.push(...made);
      return made;
    };
    return {
      read: async (tokens) => {
        await past?.dispose?.();
        past = undefined;
        text = [...tokens];
        await go(1);
      },
      write: go,
      scores: () => null,
    };
  },
};

let engine;
let work;

globalThis.bench = {
  /** Keeps the page's process busy for some milliseconds. */
  async burn(duration) {
    const end = now() + duration;
    while (now() < end);
  },

  /** Loads a decoder: {engine, model: URL of its folder, threads, sizes}; milliseconds. */
  async start({ engine: name, ...setup }) {
    const began = now();
    engine = await engines[name](setup);
    return now() - began;
  },

  read: (tokens) => engine.read(tokens),
  write: (count) => engine.write(count),

  /** The scores after what was read, as base64; null where an engine does not give them. */
  async scores() {
    const found = engine.scores();
    return found && new Uint8Array(found.buffer, found.byteOffset, found.byteLength).toBase64();
  },

  /** What `round` repeats: reading these tokens, or writing one. */
  async choose(tokens) {
    work = tokens ? () => engine.read(tokens) : null;
  },

  /** So many times the work that was chosen; milliseconds in all. */
  async round(calls) {
    const began = now();
    if (work) for (let i = 0; i < calls; i++) await work();
    else await engine.write(calls);
    return now() - began;
  },
};
