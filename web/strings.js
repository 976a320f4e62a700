// Strings at a predictor's borders: JavaScript's outside; in the memory rows of UTF-8, each with a zero at its end.

/** Enters what reads and writes each type of strings of the manifest, "S64", beside the typed arrays. */
export function addTypes(types, { shapes, ...manifest }) {
  const tensors = (shapes ?? [manifest]).flatMap((set) => [...set.inputs, ...set.outputs]);
  for (const { dtype } of tensors) {
    if (dtype.startsWith("S")) types[dtype] ??= rows(Number(dtype.slice(1)));
  }
}

function rows(width) {
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  return class Strings {
    static BYTES_PER_ELEMENT = width;

    constructor(buffer, at, count) {
      this._rows = Array.from({ length: count }, (_, i) => new Uint8Array(buffer, at + i * width, width));
    }

    /** @param {string[]} values */
    set(values) {
      const texts = values.map((value) => encoder.encode(value || "")); // a bucket's padding is 0
      values.forEach((value, i) => {
        if (value && typeof value !== "string") throw new TypeError(`the model takes strings, and ${value} is none`);
        if (texts[i].length >= width || texts[i].includes(0))
          throw new RangeError(`"${value}" has ${texts[i].length} bytes; ${width - 1} without a zero are possible`);
      });
      this._rows.forEach((row, i) => row.fill(0).set(texts[i]));
    }

    /** @returns {string[]} */
    slice() {
      return this._rows.map((row) => decoder.decode(row.slice(0, row.indexOf(0))));
    }
  };
}
