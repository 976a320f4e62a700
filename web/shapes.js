// A bundle's sets of input shapes: which of them inputs ask for, and inputs of a length between two buckets.

/** The sets: at least one, each with `inputs` and `outputs`, and `preprocess` where a picture goes in. */
export function shapeSets(manifest) {
  return manifest.shapes ?? [manifest];
}

/** The number of the set for a picture: `now` where that takes one, else the first that does; undefined without one. */
export function pictureSet(sets, now) {
  return [now, ...sets.keys()].find((k) => sets[k].preprocess);
}

/** The number of the set in which the inputs have as many elements as these, `now` before the others; -1 without one. */
export function fittingSet(sets, now, inputs) {
  const fits = (set) => set.inputs.every((t) => inputs[t.name]?.length === product(t.shape));
  return fits(sets[now]) ? now : (sets.fitting?.(inputs) ?? sets.findIndex(fits));
}

/** The inputs padded with zeros to the next bucket, and their length; 0 where they fill one, or fit none. */
export function padded({ buckets, inputs: tensors }, inputs) {
  const lengths = new Set();
  const shapes = {};
  for (const { name, shape } of tensors) {
    const dims = buckets.inputs[name];
    if (!dims || !(inputs[name]?.length >= 0)) continue;
    const rest = product(shape.filter((_, d) => !dims.includes(d)));
    const length = Math.round((inputs[name].length / rest) ** (1 / dims.length));
    shapes[name] = resized(shape, dims, length);
    lengths.add(product(shapes[name]) === inputs[name].length ? length : NaN);
  }
  const [length] = lengths;
  const size = buckets.sizes.find((n) => n >= length);
  if (lengths.size !== 1 || size === undefined || !length || size === length) return [inputs, 0];
  const longer = Object.entries(shapes).map(([name, shape]) => {
    const whole = resized(shape, buckets.inputs[name], size);
    const from = inputs[name];
    const to = Array.isArray(from) ? new Array(product(whole)).fill(0) : new from.constructor(product(whole));
    return [name, copied(from, shape, to, whole)];
  });
  return [{ ...inputs, ...Object.fromEntries(longer) }, length];
}

/** An output, of which only the first `length` along some dimensions are kept. */
export function cut(data, shape, dims, length) {
  return trueSize(data, shape, resized(shape, dims, length));
}

/** The outputs without those that hold the true shape of another, or say that a maximum was exceeded. */
export function ownOutputs(outputs) {
  const shapes = new Set(outputs.map((t) => t.true_shape));
  return outputs.filter((t) => !shapes.has(t.name) && !t.limits);
}

/** The part of an output that counts, where only a run knows its size. */
export function trueSize(data, shape, part) {
  return copied(data, shape, new data.constructor(product(part)), part);
}

/** The shape with other sizes in some dimensions. */
export function resized(shape, dims, size) {
  return shape.map((n, d) => (dims.includes(d) ? size : n));
}

/** Copies what two row-major tensors of the same rank have in common. */
function copied(from, fromShape, to, toShape) {
  const walk = (d, a, b) => {
    if (d === fromShape.length) to[b] = from[a];
    else {
      for (let i = 0; i < Math.min(fromShape[d], toShape[d]); i++) walk(d + 1, a * fromShape[d] + i, b * toShape[d] + i);
    }
  };
  walk(0, 0, 0);
  return to;
}

function product(shape) {
  return shape.reduce((n, d) => n * d, 1);
}
