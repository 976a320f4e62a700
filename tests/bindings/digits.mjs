// Uses the package digits; what it prints is read by test_bindings.py.
import { readFileSync } from "node:fs";
import { Predictor } from "digits";

const [imageFile, pictureFile] = process.argv.slice(2);
const image = new Float32Array(new Uint8Array(readFileSync(imageFile)).buffer);
const picture = new Uint8Array(readFileSync(pictureFile));
const predictor = new Predictor();

function fails(name, action) {
  try {
    action();
    console.log(`${name}: no error`);
  } catch (e) {
    console.log(`${name}: ${e.constructor.name} ${e.message}`);
  }
}

predictor.run({ image }).probability.forEach((p) => console.log("run", p));
for (const c of predictor.classify(picture, 8, 8, 3)) console.log("class", c.index, c.label, c.probability);
fails("length", () => predictor.run({ image: image.subarray(1) }));
fails("missing", () => predictor.run({}));
fails("type", () => predictor.run({ image: new Float64Array(64) }));
fails("unknown", () => predictor.run({ image, toString: image }));
fails("picture", () => predictor.classify(picture, 9, 8));
fails("count", () => predictor.classify(picture, 8, 8, 0));
predictor.close();
predictor.close();
fails("closed", () => predictor.run({ image }));
fails("closed", () => predictor.classify(picture, 8, 8));
for (let i = 0; i < 1000; ++i) new Predictor();
