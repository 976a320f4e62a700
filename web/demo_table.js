// The demo page for a model of tables: a field for each feature of a row; classes as bars, other outputs in a table.
import { $, attempt, lastOnly, milliseconds, onWhat, say, show, showBars } from "./demo_common.js";
import { dequantized } from "./index.js";

/** So many fields a person may fill in. */
const MOST = 64;

/** The features of a model that takes a row, or rows, of a few numbers; null for another. */
export function featuresOf({ inputs, features, ranges }) {
  const [input] = inputs;
  const columns = input?.shape[1];
  if (inputs.length !== 1 || input.shape.length !== 2 || !(columns <= MOST) || input.dtype.endsWith("64")) return null;
  const known = ranges?.[0] ?? [-1, 1];
  return Array.from({ length: columns }, (_, k) => {
    const { name = `column ${k}`, range = known } = features?.[k] ?? {};
    return { name, low: range[0], high: range[1] };
  });
}

const rounded = (value) => Number(value.toPrecision(3));

/** A labelled slider and number for a feature; gives the function that reads it and the one that sets it. */
function field({ name, low, high }, k, whole, changed) {
  const part = (tag, more) => Object.assign(document.createElement(tag), more);
  const step = whole ? 1 : 10 ** Math.floor(Math.log10((high - low) / 100));
  const number = part("input", { id: `feature-${k}`, type: "number", step: "any", required: true });
  const [min, max] = whole ? [Math.ceil(low), Math.floor(high)] : [low, high];
  const slider = part("input", { type: "range", min, max, step, tabIndex: -1, ariaHidden: "true" });
  const set = (value) => (number.value = slider.value = whole ? Math.round(value) : rounded(value));
  slider.oninput = () => {
    number.value = whole ? slider.value : rounded(Number(slider.value));
    changed();
  };
  number.oninput = () => {
    slider.value = number.value;
    changed();
  };
  const line = part("p", { className: "field" });
  line.append(part("label", { htmlFor: number.id, textContent: name }), number, slider);
  set((low + high) / 2);
  return { line, set, value: () => (number.value === "" ? NaN : Number(number.value)) };
}

/** Shows the form. Rows behind the first, of a model that takes several, repeat it. */
export async function table(predictor, manifest) {
  const [input] = manifest.inputs;
  const features = featuresOf(manifest);
  const whole = !input.dtype.includes("float");
  const run = attempt(
    lastOnly(async () => {
      const row = fields.map((f) => f.value());
      const values = Array.from({ length: input.shape[0] }, () => row).flat();
      const began = performance.now();
      const outputs = await predictor.run({ [input.name]: TYPES[input.dtype].from(values) });
      $("timing").textContent = `${milliseconds(performance.now() - began)} for the model${onWhat()}`;
      showOutputs(manifest, outputs);
      say("");
    }),
  );
  const fields = features.map((feature, k) => field(feature, k, whole, run));
  $("fields").replaceChildren(...fields.map((f) => f.line));
  $("features").onsubmit = (e) => {
    e.preventDefault();
    run();
  };
  $("random").onclick = () => {
    fields.forEach((f, k) => f.set(features[k].low + Math.random() * (features[k].high - features[k].low)));
    run();
  };
  show("features");
  run();
}

/** An output with a number for each class, as bars; others, and a class's own number, in a table. */
function showOutputs({ outputs, labels }, values) {
  const first = (t) =>
    Array.from(dequantized(t, values[t.name]), Number).slice(
      0,
      t.shape.slice(1).reduce((n, d) => n * d, 1),
    );
  const shares = outputs.find((t) => {
    const row = first(t);
    const fits = labels ? row.length === labels.length : row.length > 1;
    return fits && (t.probabilities || (row.every((v) => v >= 0) && Math.abs(row.reduce((a, b) => a + b) - 1) < 1e-3));
  });
  const label = (k) => labels?.[k] ?? `class ${k}`;
  if (shares) {
    const bars = first(shares).map((share, k) => ({ label: label(k), share }));
    showBars(bars.sort((a, b) => b.share - a.share).slice(0, 20));
  }
  const classNumber = (t) => t.dtype.includes("int") && first(t).length === 1; // that of the longest bar
  const others = outputs.filter((t) => t !== shares && !(shares && classNumber(t)));
  const text = (t) => {
    const row = first(t);
    const named = labels && classNumber(t);
    const numbers = row.map((v) => (Number.isInteger(v) ? v : v.toPrecision(4)));
    return named ? label(row[0]) : numbers.slice(0, 12).join(", ") + (row.length > 12 ? " …" : "");
  };
  const cell = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
  const rows = others.map((t) => {
    const line = document.createElement("tr");
    line.append(cell("th", t.name), cell("td", text(t)));
    return line;
  });
  $("values").replaceChildren(...rows);
  show("values", rows.length > 0);
}

const TYPES = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
  int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array }; // prettier-ignore
