// The sets of shapes of a bundle with open dimensions, by the rule in its manifest (`open`): nothing lists them.

/**
 * Gives a manifest with open dimensions its sets, as `shapes`; a copy, as a worker gets, goes without them. Where inputs
 * have a `largest` shape, {name: [1, 3, 480, 640]}, the sets end there.
 */
export function addSets(manifest, largest) {
  const sets = new OpenSizes(manifest);
  if (largest) sets.end(sets.numberOf(largest));
  const at = (of, key) => (typeof key === "string" && /^\d+$/.test(key) ? of.at(Number(key)) : of[key]);
  Object.defineProperty(manifest, "shapes", { value: new Proxy(sets, { get: at }), configurable: true });
}

/** In the order of their numbers, each made when it is asked for; the last open dimension changes first. */
class OpenSizes {
  constructor(manifest) {
    this.manifest = manifest;
    this.rule = manifest.open;
    this.counts = this.rule.dimensions.map((d) => (d.largest - d.smallest) / d.step + 1);
    this.length = this.counts.reduce((n, count) => n * count, 1);
    this.largest = this.rule.dimensions.map((d) => d.largest);
  }

  /** Leaves out the sets with a larger size than the one of that number has. */
  end(number) {
    this.largest = this._sizes(number);
    this.length = number + 1;
  }

  /** Bytes of a predictor for the sets; its C functions can use the memory behind `free`. */
  bytes({ _call, _memory }, free) {
    const { name } = this._told();
    const input = this.manifest.inputs.findIndex((t) => t.name === name);
    const { shape } = this.at(this.length - 1).inputs[input];
    const at = Math.ceil(free / 8) * 8;
    if (at + 8 * shape.length > _memory.buffer.byteLength) _memory.grow(1);
    new BigInt64Array(_memory.buffer, at, shape.length).set(shape.map(BigInt));
    return _call("memory_size_for", input, at, shape.length);
  }

  _sizes(number) {
    const sizes = [];
    for (let axis = this.counts.length - 1; axis >= 0; axis--) {
      const { smallest, step } = this.rule.dimensions[axis];
      sizes[axis] = smallest + step * (number % this.counts[axis]);
      number = Math.floor(number / this.counts[axis]);
    }
    return sizes;
  }

  /** The set of that number. */
  at(number) {
    if (!(number >= 0 && number < this.length)) return undefined;
    const sizes = this._sizes(number);
    if (sizes.some((size, axis) => size > this.largest[axis])) return undefined;
    const sized = (kind) => this.manifest[kind].map((t) => ({ ...t, shape: this._shape(t, this.rule[kind][t.name], sizes) }));
    const set = { inputs: sized("inputs"), outputs: sized("outputs") };
    const preprocess = this._picture(set);
    return preprocess ? { ...set, preprocess } : set;
  }

  /** Of the first and the last, whose tensors are the smallest and the largest. */
  map(of) {
    return [0, this.length - 1].map((number) => of(this.at(number)));
  }

  /** Those of which one takes pictures if any does. */
  keys() {
    return [0];
  }

  /** The number of the set in which inputs have these shapes, {name: [1, 3, 480, 640]}; a number stands for itself. */
  numberOf(shapes) {
    if (typeof shapes === "number") return shapes;
    const sizes = [];
    for (const [name, rules] of Object.entries(this.rule.inputs)) {
      for (const [d, { dimension }] of Object.entries(rules)) sizes[dimension] ??= shapes[name]?.[d];
    }
    const number = this._number(sizes);
    const fits = (t) => shapes[t.name] === undefined || String(shapes[t.name]) === String(t.shape);
    if (number < 0 || !this.at(number).inputs.every(fits)) {
      const [first, last] = this.map((set) => set.inputs.map((t) => `${t.name} ${t.shape.join("x")}`).join(", "));
      const wrong = this._wrong(shapes);
      const told = `${this.manifest.name} takes ${first} to ${last}, not ${JSON.stringify(shapes)}`;
      throw new RangeError(wrong ? `${told}: ${wrong}` : told);
    }
    return number;
  }

  /** The first dimension of shapes of inputs that is none of theirs, in words; undefined where there is none. */
  _wrong(shapes) {
    const sizes = {};
    for (const { name, shape: own } of this.manifest.inputs) {
      const shape = shapes[name];
      if (!shape) continue;
      if (shape.length !== own.length) return `${name} has ${own.length} dimensions, not ${shape.length}`;
      for (const [d, n] of shape.entries()) {
        const axis = this.rule.inputs[name]?.[d]?.dimension;
        const told = `dimension ${d} of ${name}`;
        if (axis === undefined) {
          if (n !== own[d]) return `${told} is ${own[d]}, not ${n}`;
          continue;
        }
        const { smallest, step } = this.rule.dimensions[axis];
        const bounds = `${smallest} to ${this.largest[axis]}${step > 1 ? ` in steps of ${step}` : ""}`;
        if (!(n >= smallest && n <= this.largest[axis] && (n - smallest) % step === 0)) return `${told} is ${bounds}, not ${n}`;
        const [first, before] = (sizes[axis] ??= [n, told]);
        if (n !== first) return `${told} is ${n}, and ${before} ${first}: they are equal`;
      }
    }
    return undefined;
  }

  /** The number of the set in which the inputs have as many elements as these; -1 without one. */
  fitting(inputs) {
    const found = [...this._fitting(inputs, [])];
    if (found.length > 1) {
      const { name } = this._told();
      const told = found.slice(0, 2).map((k) => this.at(k).inputs.find((t) => t.name === name).shape.join("x"));
      const shown = `${told.join(" or ")}${found.length > 2 ? " or others" : ""}`;
      throw new TypeError(`input "${name}" is ${shown}: say which with setShape({ ${name}: [...] })`);
    }
    return found.length ? found[0] : -1;
  }

  /** The input with the most open dimensions, and their rules. */
  _told() {
    const [name, rules] = Object.entries(this.rule.inputs).sort((a, b) => Object.keys(b[1]).length - Object.keys(a[1]).length)[0];
    return { name, rules };
  }

  /** The numbers of the sets in which the inputs have as many elements as these, given the first `sizes`. */
  *_fitting(inputs, sizes) {
    const axis = sizes.length;
    const { name, rules } = this._told();
    if (axis < this.counts.length - 1) {
      const { smallest, step } = this.rule.dimensions[axis];
      for (let n = smallest; n <= this.largest[axis]; n += step) yield* this._fitting(inputs, [...sizes, n]);
      return;
    }
    const { shape } = this.manifest.inputs.find((t) => t.name === name);
    const one = this._shape({ shape }, rules, [...sizes, 1]);
    const number = this._number([...sizes, inputs[name]?.length / one.reduce((n, extent) => n * extent, 1)]);
    const fits = (t) => inputs[t.name]?.length === t.shape.reduce((n, extent) => n * extent, 1);
    if (number >= 0 && this.at(number)?.inputs.every(fits)) yield number;
  }

  /** The number of the set with these sizes; -1 without one. */
  _number(sizes) {
    let number = 0;
    for (const [axis, { smallest, step }] of this.rule.dimensions.entries()) {
      const k = (sizes[axis] - smallest) / step;
      if (!Number.isInteger(k) || k < 0 || sizes[axis] > this.largest[axis]) return -1;
      number = number * this.counts[axis] + k;
    }
    return number;
  }

  _shape({ shape }, rules = {}, sizes) {
    return shape.map((extent, d) => (rules[d] ? extentOf(rules[d], sizes) : extent));
  }

  /** How a picture becomes the input, in a set that takes one. */
  _picture({ inputs }) {
    const spec = this.manifest.preprocess;
    if (!spec) return undefined;
    const sides = (tensors) => {
      const { shape } = tensors.find((t) => t.name === spec.input);
      return [shape[0], ...(spec.layout === "NCHW" ? shape.slice(2) : shape.slice(1, 3))];
    };
    const [batch, height, width] = sides(inputs);
    if (batch !== 1) return undefined;
    const shorter = Math.min(height, width);
    let { resize } = spec;
    if (this.rule.resize === "8/7") resize = Math.max(Math.floor((shorter * 8) / 7), height, width);
    else if (resize) resize = Math.floor((resize * shorter) / Math.min(...sides(this.manifest.inputs).slice(1)));
    return { ...spec, height, width, resize };
  }
}

/** What follows from the size of an open dimension; of rows that are one dimension with their columns, all pixels. */
function extentOf({ dimension, plus = 0, by = 1, times = 1, then = 0, columns }, sizes) {
  const own = times * Math.floor((sizes[dimension] + plus) / by) + then;
  return columns ? own * extentOf(columns, sizes) : own;
}
