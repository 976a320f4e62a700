// What the pages of `python -m bench.web.first` share: an input, and the moment when an answer is on the screen.

const TYPES = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array };

/** Values of an input that need no request: fractions, or small whole numbers. `narrow`: int64 becomes int32. */
export function values({ dtype: known, shape, narrow }) {
  const dtype = narrow && known === "int64" ? "int32" : known;
  const count = shape.reduce((n, d) => n * d, 1);
  const at =
    dtype === "int64" ? (i) => BigInt((i * 7) % 99) : dtype === "int32" ? (i) => (i * 7) % 99 : (i) => ((i * 37) % 101) / 101;
  return TYPES[dtype].from({ length: count }, (_, i) => at(i));
}

/** Writes the number of the largest value, and resolves globalThis.first when the browser has drawn it. */
export function show(scores) {
  const computed = performance.now();
  const largest = scores.reduce((best, value, i) => (value > scores[best] ? i : best), 0);
  document.querySelector("output").textContent = `class ${largest}`;
  requestAnimationFrame(() => setTimeout(() => shown({ largest, computed, shown: performance.now(), ...globalThis.marks })));
}

let shown;
globalThis.first = new Promise((resolve) => (shown = resolve));
