// node run.mjs BUNDLE BUILD IN OUT SET: runs a bundle's build on the inputs in IN/0, IN/1 ..., writes OUT/0, OUT/1 ...
// (raw bytes), in the set of shapes of that number. What a build asks of an engine and this one has not, is emulated. With a number as sixth argument it also times that many runs: {runs, cpu: ms of each, steps: [[name, ms]]}.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [bundle, build, from, to, set, rounds] = process.argv.slice(2);
const { Predictor, openBundle, supportedBuild } = await import(pathToFileURL(`${bundle}/node.js`));
const parts = await openBundle(bundle);
const known = supportedBuild({ dots: parts.manifest.wasm[build] });
if (build.startsWith("dots") && !known) parts.wasm[build] = withProducts(parts.wasm[build]);
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

/**
 * The module with a function of its own in place of i32x4.relaxed_dot_i8x16_i7x16_add_s, which takes all 8 bits of the
 * second factor as unsigned: what the build asks of an engine, here computed as the specification says.
 */
function withProducts(module) {
  const from = { at: 8 };
  const number = () => {
    for (let [value, shift] = [0, 0]; ; shift += 7) {
      const byte = module[from.at++];
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const leb = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
  const evenOf = (local) => [0x20, local, 0x41, 8, 0xfd, 0x8b, 1]; // i16x8.shl by 8
  const shifted = (code) => [0x41, 8, 0xfd, code, 1]; // i16x8.shr_s, shr_u by 8
  const dot = [0xfd, 0xba, 1]; // i32x4.dot_i16x8_s
  const add = [0xfd, 0xae, 1];
  const even = [...evenOf(0), ...shifted(0x8c), ...evenOf(1), ...shifted(0x8d), ...dot];
  const odd = [0x20, 0, ...shifted(0x8c), 0x20, 1, ...shifted(0x8d), ...dot];
  const body = [0, ...even, ...odd, ...add, 0x20, 2, ...add, 0x0b];
  const v128 = 0x7b;
  const instruction = Buffer.from([0xfd, 0x93, 2]);
  const sections = [];
  let [type, index] = [0, 0];
  while (from.at < module.length) {
    const id = module[from.at++];
    const end = number() + from.at;
    let content = module.subarray(from.at, end);
    if (id === 1 || id === 3 || id === 10) {
      const count = number();
      const entries = Buffer.from(module.subarray(from.at, end));
      if (id === 1) type = count;
      if (id === 3) index = count; // no function is imported
      for (let i = 0; id === 10 && (i = entries.indexOf(instruction, i)) >= 0; i += instruction.length) {
        entries.set([0x10, (index & 127) | 128, index >> 7], i); // a call that is as long
      }
      const added = { 1: [0x60, 3, v128, v128, v128, 1, v128], 3: leb(type), 10: [...leb(body.length), ...body] }[id];
      content = Uint8Array.from([...leb(count + 1), ...entries, ...added]);
    }
    sections.push(Uint8Array.from([id, ...leb(content.length)]), content);
    from.at = end;
  }
  return Buffer.concat([module.subarray(0, 8), ...sections]);
}

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
