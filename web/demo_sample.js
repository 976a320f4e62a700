// The demo page for a model with an unknown task: random numbers in, a table out.
import { $, attempt, milliseconds, onWhat, say, show } from "./demo_common.js";
import { dequantized } from "./index.js";

export function sample(predictor, manifest) {
  show("sample");
  $("try").onclick = attempt(async () => {
    const inputs = Object.fromEntries(
      manifest.inputs.map(({ name, dtype, shape }, i) => {
        const [low, high] = manifest.ranges?.[i] ?? [0, 1];
        const count = shape.reduce((n, d) => n * d, 1);
        const value = () => low + Math.random() * (high - low);
        if (dtype.startsWith("S")) return [name, new Array(count).fill("")];
        const integer = !dtype.startsWith("float");
        const values = Array.from({ length: count }, () => (integer ? Math.floor(value()) : value()));
        return [name, dtype.endsWith("int64") ? values : new TYPES[dtype](values)];
      }),
    );
    const began = performance.now();
    const outputs = await predictor.run(inputs);
    $("timing").textContent = `${milliseconds(performance.now() - began)} for the network${onWhat()}`;
    const cell = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    const row = (tag, texts) => {
      const line = document.createElement("tr");
      line.append(...texts.map((t) => cell(tag, t)));
      return line;
    };
    const rows = manifest.outputs.map((t) => {
      const { name, shape } = t;
      if (t.dtype.startsWith("S")) return row("td", [name, shape.join(" x "), ...outputs[name].slice(0, 2)]);
      const values = Array.from(dequantized(t, outputs[name]), Number);
      const smallest = values.reduce((a, b) => Math.min(a, b), Infinity);
      const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
      return row("td", [name, shape.join(" x "), smallest.toPrecision(4), largest.toPrecision(4)]);
    });
    $("values").replaceChildren(row("th", ["output", "shape", "smallest", "largest"]), ...rows);
    show("values");
    say("");
  });
}

const TYPES = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
  int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array }; // prettier-ignore
