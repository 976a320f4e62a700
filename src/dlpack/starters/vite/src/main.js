//@ if boxes
import { Detector as Model } from "@package@";
//@ else
//@ if pictures
import { Classifier as Model } from "@package@";
//@ else
import { Predictor as Model } from "@package@";
//@ end
//@ end

const show = (id, text) => (document.getElementById(id).textContent = text);

// The model's data lies in public/model, which Vite copies; its code is imported and bundled.
const address = new URL("model/", document.baseURI);
const onProgress = ({ loaded, total }) => show("status", `Loading ${Math.round((100 * loaded) / total)} %`);

async function main() {
  const model = await Model.load(address, { onProgress });
  show("status", "Ready");
//@ if pictures
  document.getElementById("file").onchange = async ({ target }) => {
    const picture = await createImageBitmap(target.files[0]);
//@ if boxes
    const found = await model.detect(picture);
    show("result", found.map((f) => `${f.label} ${(100 * f.score).toFixed(0)} %: ${Math.round(f.x)}, ${Math.round(f.y)}`).join("\n"));
//@ else
    const classes = await model.classify(picture, { topK: 5 });
    show("result", classes.map((c) => `${(100 * c.probability).toFixed(1)} % ${c.label}`).join("\n"));
//@ end
  };
//@ else
  // Zeros: put your data here. 64-bit integers are BigInts, in arrays of these.
  const size = (shape) => shape.reduce((a, b) => a * b, 1);
  const zero = (dtype) => (dtype.endsWith("int64") ? 0n : 0);
  const inputs = Object.fromEntries(
    model.inputs.map(({ name, dtype, shape }) => [name, new Array(size(shape)).fill(zero(dtype))]),
  );
  const began = performance.now();
  const outputs = await model.run(inputs);
  show("status", `Ran in ${(performance.now() - began).toFixed(2)} ms`);
  show("result", Object.entries(outputs).map(([name, y]) => `${name}: ${Array.from(y.slice(0, 5)).join(", ")} …`).join("\n"));
//@ end
}

main().catch((e) => show("status", e.message));
