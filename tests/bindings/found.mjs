// Uses the package found; what it prints is read by test_bindings_sets.py.
import { readFileSync } from "node:fs";
import { Predictor } from "found";

const picture = new Uint8Array(readFileSync(process.argv[2]));
const first = new Float32Array(192).fill(1.5);
const p = new Predictor();

function fails(name, action) {
  try {
    action();
    console.log(`${name}: no error`);
  } catch (e) {
    console.log(`${name}: ${e.constructor.name} ${e.message}`);
  }
}

p.setThreads(2);
p.reshape("image", [1, 3, 8, 8]);
let { twice } = p.run({ image: first });
console.log("set", p.shape, twice.length, twice[191]);
p.shape = 0;
({ twice } = p.run({ image: new Float32Array(108).fill(2.5) }));
console.log("set", p.shape, twice.length, twice[107]);
for (const d of p.detect(picture, 7, 5)) {
  console.log("found", d.index, d.label, d.score, d.x, d.y, d.width, d.height);
}
console.log("sure", p.detect(picture, 7, 5, 2).length);
const small = new Predictor({ largest: { image: [1, 3, 8, 8] } });
small.reshape("image", [1, 3, 8, 8]);
console.log("small", small.run({ image: first }).twice[191]);
fails("memory", () => small.reshape("image", [1, 3, 206, 206]));
fails("memory", () => (small.shape = 10200));
fails("largest", () => new Predictor({ largest: { image: [1, 3, 8, 7] } }));
fails("input", () => new Predictor({ largest: { picture: [1, 3, 8, 8] } }));
fails("bounds", () => p.reshape("image", [1, 3, 8, 208]));
fails("step", () => p.reshape("image", [1, 3, 8, 7]));
fails("name", () => p.reshape("picture", [1, 3, 8, 8]));
fails("length", () => p.run({ image: first }));
fails("picture", () => p.detect(picture, 8, 5));
fails("shape", () => (p.shape = 10201));
fails("shape", () => (p.shape = 0.5));
fails("threads", () => p.setThreads(3));
p.close();
fails("closed", () => (p.shape = 0));
fails("closed", () => p.reshape("image", [1, 3, 8, 8]));
fails("closed", () => p.setThreads(1));
fails("closed", () => p.detect(picture, 7, 5));
