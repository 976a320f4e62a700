// From a picture to the model's input. src/dlpack/meaning/preprocess.py defines the steps, and web/README.md
// describes them; both implementations give the same numbers.

import { limits, toInteger } from "./quantization.js";

const TYPES = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
  uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, float16: globalThis.Float16Array }; // prettier-ignore

/** The size of anything that can be drawn, in its own pixels. */
export function sizeOf(image) {
  const width = image?.naturalWidth || image?.videoWidth || image?.displayWidth || image?.width;
  const height = image?.naturalHeight || image?.videoHeight || image?.displayHeight || image?.height;
  if (!width || !height) throw new TypeError("not a picture, or not loaded yet: it has no width or height");
  return { width, height };
}

const BAND = 4096 * 4096; // pixels; larger canvases come out empty in some browsers

/** The pixels of anything that can be drawn: {data (RGBA, RGB or gray), width, height}. */
export function pixelsOf(image) {
  if (image?.data && image.width && image.height) return image; // ImageData, or the like
  const { width, height } = sizeOf(image);
  return bandReader(image, width, height)(0);
}

/** Gives the pixels of `height` rows of a drawable from any row on, as ImageData. */
function bandReader(image, width, height) {
  const size = sizeOf(image);
  const canvas = typeof OffscreenCanvas === "function" ? new OffscreenCanvas(width, height)
    : Object.assign(document.createElement("canvas"), { width, height }); // prettier-ignore
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("the picture cannot be drawn: a 2D canvas of this size is not available");
  context.globalCompositeOperation = "copy"; // over the band before
  return (top) => {
    context.drawImage(image, 0, -top, size.width, size.height);
    try {
      return context.getImageData(0, 0, width, height);
    } catch (e) {
      throw e.name === "SecurityError" ? notReadable(e) : e;
    }
  };
}

/** A picture's size, bytes per pixel, and `row(y)`: bytes, and where among them that row begins. */
function rowsOf(image) {
  if (image?.data && image.width && image.height) {
    const { data, width, height } = image;
    const perPixel = data.length / (width * height);
    if (![1, 3, 4].includes(perPixel)) throw new TypeError(`a picture of ${width} x ${height} cannot have ${data.length} values`);
    return { width, height, perPixel, row: (y) => [data, y * width * perPixel] };
  }
  const { width, height } = sizeOf(image);
  const count = Math.max(1, Math.min(height, Math.floor(BAND / width)));
  const band = bandReader(image, width, count);
  let [data, first] = [null, 0];
  const row = (y) => {
    if (!data || y < first || y >= first + count) [{ data }, first] = [band(y), y];
    return [data, (y - first) * width * 4];
  };
  return { width, height, perPixel: 4, row };
}

/** The error for a picture whose pixels the browser does not give to the page. */
export function notReadable(cause) {
  const text = 'the picture is of another origin: load it with crossOrigin = "anonymous", from a server that allows that';
  return new Error(text, { cause });
}

/** For each of `count` outputs from `first` on: where its input pixels begin, and their weights, `taps` apiece. */
function resampling(nIn, nOut, first, count) {
  const ratio = nIn / nOut;
  const s = Math.max(1, ratio);
  const taps = Math.ceil(2 * s) + 1;
  const begin = new Int32Array(count);
  const weights = new Float64Array(count * taps);
  for (let i = 0; i < count; i++) {
    const c = (first + i + 0.5) * ratio;
    const low = Math.max(0, Math.floor(c - s + 0.5));
    const high = Math.min(nIn, Math.floor(c + s + 0.5));
    let sum = 0;
    for (let j = low; j < high; j++) sum += weights[i * taps + j - low] = Math.max(0, 1 - Math.abs(j + 0.5 - c) / s);
    for (let j = 0; j < taps; j++) weights[i * taps + j] /= sum;
    begin[i] = Math.max(0, Math.min(low, nIn - taps));
    const shift = low - begin[i]; // at the border the taps begin earlier, so that all of them are inside
    if (shift > 0) weights.copyWithin(i * taps + shift, i * taps, (i + 1) * taps - shift).fill(0, i * taps, i * taps + shift);
  }
  return { begin, weights, taps: Math.min(taps, nIn), stride: taps };
}

/** The model's input for a picture, as the manifest's `preprocess` object says. */
export function preprocess(image, spec) {
  const { width, height, perPixel, row: rowAt } = rowsOf(image);
  const short = Math.min(width, height);
  const scaled = (n) => Math.floor((2 * n * spec.resize + short) / (2 * short));
  const newWidth = spec.resize ? scaled(width) : spec.width;
  const newHeight = spec.resize ? scaled(height) : spec.height;
  const x = resampling(width, newWidth, Math.floor((newWidth - spec.width) / 2), spec.width);
  const y = resampling(height, newHeight, Math.floor((newHeight - spec.height) / 2), spec.height);
  const channels = spec.channels === "GRAY" ? 1 : 3;
  const rowLength = spec.width * channels;

  // Along rows, for the rows that the columns need.
  const top = y.begin.reduce((a, b) => Math.min(a, b), height);
  const bottom = y.begin.reduce((a, b) => Math.max(a, b), 0) + y.taps;
  const rows = new Uint8Array((bottom - top) * rowLength);
  const line = new Uint8Array(width * channels);
  for (let row = top; row < bottom; row++) {
    readLine(line, ...rowAt(row), width, perPixel, spec.channels);
    const to = (row - top) * rowLength;
    for (let i = 0; i < spec.width; i++) {
      const at = x.begin[i] * channels;
      const w = i * x.stride;
      if (channels === 1) {
        let a = 0;
        for (let j = 0; j < x.taps; j++) a += x.weights[w + j] * line[at + j];
        rows[to + i] = a + 0.5;
        continue;
      }
      let [a, b, c] = [0, 0, 0];
      for (let j = 0; j < x.taps; j++) {
        const weight = x.weights[w + j];
        a += weight * line[at + 3 * j];
        b += weight * line[at + 3 * j + 1];
        c += weight * line[at + 3 * j + 2];
      }
      rows[to + 3 * i] = a + 0.5; // stored in bytes: rounded down
      rows[to + 3 * i + 1] = b + 0.5;
      rows[to + 3 * i + 2] = c + 0.5;
    }
  }

  // Along columns; then values and order.
  const Type = TYPES[spec.dtype];
  if (!Type) throw new TypeError(`this JavaScript engine does not convert pictures to ${spec.dtype}`);
  const out = new Type(spec.height * rowLength);
  const integer = !spec.dtype.startsWith("float");
  const [lowest, limit] = integer ? limits(spec.dtype) : [];
  const quantize = spec.quantization && toInteger(spec.quantization, spec.dtype);
  const sum = new Float64Array(rowLength);
  for (let i = 0; i < spec.height; i++) {
    sum.fill(0);
    for (let j = 0; j < y.taps; j++) {
      const weight = y.weights[i * y.stride + j];
      const from = (y.begin[i] + j - top) * rowLength;
      if (weight !== 0) for (let k = 0; k < rowLength; k++) sum[k] += weight * rows[from + k];
    }
    for (let k = 0; k < rowLength; k++) {
      const channel = k % channels;
      let value = Math.floor(sum[k] + 0.5) * spec.scale - spec.mean[channel % spec.mean.length];
      value /= spec.std[channel % spec.std.length];
      if (quantize) value = quantize(value);
      else if (integer) value = Math.min(limit, Math.max(lowest, Math.floor(value + 0.5)));
      const column = (k - channel) / channels;
      const place = spec.layout === "NHWC" ? i * rowLength + k : (channel * spec.height + i) * spec.width + column;
      out[place] = value;
    }
  }
  return out;
}

/** One row of the picture in the model's channels: over white, RGB, BGR or gray. */
function readLine(line, data, at, width, perPixel, channels) {
  const [first, third] = channels === "BGR" ? [2, 0] : [0, 2];
  for (let i = 0; i < width; i++, at += perPixel) {
    let r = data[at];
    let g = perPixel === 1 ? r : data[at + 1];
    let b = perPixel === 1 ? r : data[at + 2];
    if (perPixel === 4 && data[at + 3] !== 255) {
      const alpha = data[at + 3] / 255;
      [r, g, b] = [r, g, b].map((v) => Math.floor(v * alpha + 255 * (1 - alpha) + 0.5));
    }
    if (channels === "GRAY") {
      line[i] = perPixel === 1 ? r : 0.299 * r + 0.587 * g + 0.114 * b + 0.5;
    } else {
      line[3 * i + first] = r;
      line[3 * i + 1] = g;
      line[3 * i + third] = b;
    }
  }
}
