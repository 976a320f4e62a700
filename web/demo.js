// The demo page: a picture, a drawing, a text or random numbers in; classes, boxes, a picture, text or a table out.
import { $, attempt, say, setRunner, show } from "./demo_common.js";
import { digits } from "./demo_digits.js";
import { keep } from "./demo_offline.js";
import { pictures } from "./demo_pictures.js";
import { sample } from "./demo_sample.js";
import { featuresOf, table } from "./demo_table.js";
import { text } from "./demo_text.js";
import * as kinds from "./index.js";

/** By the task: what runs the model, and what shows it. */
const VIEWS = {
  classify: ["Classifier", pictures],
  detect: ["Detector", pictures],
  style: ["Stylizer", pictures],
  digits: ["Predictor", digits],
  text: ["Writer", text],
};

/** What runs a model, and what shows it; a form that few models need is loaded with those. */
async function viewOf(manifest) {
  const { tokenizer, decoder, embedding, speech, task } = manifest;
  if (tokenizer && speech) return ["Transcriber", (await import("./demo_hear.js")).hear];
  if (tokenizer && decoder) return ["TextWriter", (await import("./demo_write.js")).write];
  if (tokenizer && embedding) return ["TextModel", (await import("./demo_similar.js")).similar];
  return VIEWS[task?.kind] ?? ["Predictor", featuresOf(manifest) ? table : sample];
}

const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

/** The bundle inside this page, where it is a single file. */
function inlined() {
  const text = (id) => $(id)?.textContent;
  const bytes = (id) => {
    const binary = text(id) === undefined ? null : atob(text(id));
    return binary && Uint8Array.from(binary, (c) => c.charCodeAt(0));
  };
  if (!text("bundle-manifest")) return null;
  const wasm = Object.fromEntries(["simd", "relaxed", "dots"].map((build) => [build, bytes(`bundle-${build}`)]));
  const webgpu = async (file) => JSON.parse(text("bundle-webgpu"))[file];
  return { manifest: JSON.parse(text("bundle-manifest")), wasm, weights: bytes("bundle-weights") ?? undefined, webgpu };
}

/** What computes, and why that, where it could be another. */
function what({ build, backend, backendNote }, { webgpu }) {
  const name = backend === "webgpu" ? "WebGPU" : `WebAssembly ${/^simd/.test(build) ? "SIMD" : "relaxed SIMD"}`;
  return webgpu?.plan ? `${name} (${backendNote})` : name;
}

async function main() {
  const parts = inlined();
  const began = performance.now();
  const onProgress = ({ loaded, total }) => {
    $("progress").value = loaded / total;
    say(`Loading ${size(loaded)} of ${size(total)}`);
  };
  let manifest = parts?.manifest;
  const address = new URL(".", document.baseURI);
  if (!parts) {
    const answer = await fetch(new URL("page.json", address)).catch((e) => ({ status: e.message }));
    if (!answer.ok) throw new Error(`page.json cannot be loaded: ${answer.status}`);
    manifest = await answer.json();
  }
  document.title = $("name").textContent = manifest.name;

  const [kind, view] = await viewOf(manifest);
  const Kind = kinds[kind];
  const load = Kind.inWorker && !parts ? Kind.inWorker : Kind.load;
  const backend = new URLSearchParams(location.search).get("backend") ?? undefined; // ?backend=webgpu: even if slower
  const model = await load.call(Kind, parts ?? address, { onProgress, backend, manifest });
  show("progress", false);
  say(`Ready in ${Math.round(performance.now() - began)} ms`);
  const runner = model.predictor ?? model; // a Predictor, or a model in a worker, knows it itself
  const { build } = runner;
  setRunner(runner);
  const code = manifest.wasm[build].bytes + (manifest.script_bytes ?? 0);
  const macs = manifest.macs < 1e5 ? manifest.macs : `${(manifest.macs / 1e6).toFixed(1)} million`;
  const work = manifest.macs ? `; ${macs} multiply-adds per run` : ""; // trees have none
  $("bytes").textContent =
    `${size(code)} of code, ${size(manifest.weights?.bytes ?? 0)} of weights. ${what(runner, manifest)}${work}.`;
  show("work");
  view(model, manifest);
  if (!parts && (await keep(address, manifest, build))) $("bytes").textContent += " It works without a network now.";
}

attempt(main)();
