// node run.mjs BUNDLE BUILD IN OUT SET: runs a bundle's build on the inputs in IN/0, IN/1 ..., writes OUT/0, OUT/1 ...
// (raw bytes), in the set of shapes of that number. With a number as sixth argument it also times that many runs: {runs, cpu: ms of each, steps: [[name, ms]]}.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [bundle, build, from, to, set, rounds] = process.argv.slice(2);
const { Predictor, openBundle } = await import(pathToFileURL(`${bundle}/node.js`));
const parts = await openBundle(bundle);
const threads = build.endsWith("_threads") ? parts.manifest.wasm_threads.count : 1;
const predictor = await Predictor.load(parts, { build, threads });
const Types = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  float16: globalThis.Float16Array ?? Uint16Array, // the bits, as the predictor takes them
  bfloat16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
};

/** Strings of a type such as "S64": the bytes of each. */
function rows(dtype, bytes) {
  const width = Number(dtype.slice(1));
  return Array.from({ length: bytes.length / width }, (_, k) => bytes.subarray(k * width, (k + 1) * width));
}

predictor.setShape(Number(set));
const inputs = {};
predictor.inputs.forEach((t, i) => {
  const bytes = new Uint8Array(readFileSync(`${from}/${i}`));
  if (t.dtype.startsWith("S")) {
    inputs[t.name] = rows(t.dtype, bytes).map((row) => new TextDecoder().decode(row.slice(0, row.indexOf(0))));
    return;
  }
  inputs[t.name] = new (Types[t.dtype] ?? (/^int/.test(t.dtype) ? Int8Array : Uint8Array))(bytes.buffer);
});
const tooMany = 8; // the status where the data exceeds a maximum: the outputs are there all the same
const outputs = await predictor.run(inputs).catch((e) => {
  if (e.status === tooMany) return predictor.outputValues();
  throw e;
});
predictor.outputs.forEach((t, i) => {
  let bytes = outputs[t.name].buffer;
  if (t.dtype.startsWith("S")) {
    bytes = new Uint8Array(outputs[t.name].length * Number(t.dtype.slice(1)));
    rows(t.dtype, bytes).forEach((row, k) => row.set(new TextEncoder().encode(outputs[t.name][k])));
  }
  writeFileSync(`${to}/${i}`, new Uint8Array(bytes));
});
writeFileSync(`${to}/shapes`, JSON.stringify(predictor.outputs.map((t) => t.shape)));
if (rounds) {
  const [runs, cpu] = [[], []];
  const steps = predictor.steps.map((name) => [name, []]);
  for (let i = 0; i < 5; i++) predictor.runSync(inputs); // by then V8 has its best code
  for (let i = 0; i < Number(rounds); i++) {
    const used = process.cpuUsage();
    const began = performance.now();
    predictor.runSync(inputs);
    runs.push(performance.now() - began);
    const { user, system } = process.cpuUsage(used);
    cpu.push((user + system) / 1e3);
    steps.forEach(([, times], index) => {
      const start = performance.now();
      predictor.runStep(index);
      times.push(performance.now() - start);
    });
  }
  const median = (times) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
  console.log(JSON.stringify({ runs, cpu, steps: steps.map(([name, times]) => [name, median(times)]) }));
}
