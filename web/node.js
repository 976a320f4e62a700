// The same for node, where a bundle is also a folder on the disk.
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import * as web from "./index.js";

export * from "./index.js";

/** The parts of the bundle in a folder (a path or a file: URL), as Predictor.load takes them. */
export async function openBundle(folder) {
  const path = /^file:/.test(String(folder)) ? fileURLToPath(folder) : String(folder);
  const manifest = await readFile(`${path}/manifest.json`, "utf8")
    .then(JSON.parse)
    .catch((cause) => {
      throw new Error(`${path} is no bundle: ${cause.message}`, { cause });
    });
  if (manifest.format !== 1 || !manifest.wasm) throw new Error(`${path}/manifest.json is not the manifest of a bundle for wasm`);
  const wasm = {};
  for (const [build, { file }] of Object.entries(manifest.wasm)) wasm[build] = await readFile(`${path}/${file}`);
  const weights = manifest.weights && (await readFile(`${path}/${manifest.weights.file}`));
  return { manifest, wasm, weights, webgpu: (file) => readFile(`${path}/${file}`, "utf8") };
}

function opened(source) {
  const address = typeof source === "string" || source instanceof URL;
  return address && !/^https?:/.test(String(source)) ? openBundle(source) : source;
}

const onDisk = (Kind) =>
  class extends Kind {
    static async load(source, options) {
      return super.load(await opened(source), { threads: availableParallelism(), ...options });
    }
  };

export const Predictor = onDisk(web.Predictor);
export const Classifier = onDisk(web.Classifier);

// Of these a bundle has what its model can do.
export const Decoder = web.Decoder && onDisk(web.Decoder);
export const Detector = web.Detector && onDisk(web.Detector);
export const Stylizer = web.Stylizer && onDisk(web.Stylizer);
export const Writer = web.Writer && onDisk(web.Writer);
export const SoundModel = web.SoundModel && onDisk(web.SoundModel);
export const Transcriber = web.Transcriber && onDisk(web.Transcriber);
export const TextModel = web.TextModel && onDisk(web.TextModel);
export const TextWriter = web.TextWriter && onDisk(web.TextWriter);
