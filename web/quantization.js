// Quantised inputs and outputs: their integers q represent the real numbers (q - zero_point) * scale. What has no
// `quantization` in the manifest stays as it is. src/dlpack/quantization.py does the same.

const INTEGERS = { int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array };

/** The number that the 16 bits of a float16 are. */
function ofHalf(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, (bits & 1023) / 1024];
  const infinite = fraction ? NaN : Infinity;
  const size = exponent === 31 ? infinite : exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
  return bits >> 15 ? -size : size;
}

/** Of an input or output ({dtype, quantization}): the real numbers of its integers, or of a float16's bits, as a
 * Float32Array. */
export function dequantized({ quantization: q, dtype }, values) {
  if (dtype === "float16" && values instanceof Uint16Array) return Float32Array.from(values, ofHalf);
  if (!q || !(values instanceof INTEGERS[dtype])) return values;
  return Float32Array.from(values, (v) => (v - q.zero_point) * q.scale);
}

/** Real numbers as the nearest integers that represent them. */
export function quantized({ quantization: q, dtype }, values) {
  if (!q) return values;
  const nearest = toInteger(q, dtype);
  return INTEGERS[dtype].from(values, nearest);
}

/** The function from a real number to its integer: halves go to the even one, what the type cannot hold is clamped. */
export function toInteger({ scale, zero_point: zero }, dtype) {
  const [lowest, largest] = limits(dtype);
  return (value) => {
    const x = value / scale;
    const down = Math.floor(x);
    const rest = x - down;
    const whole = rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
    return Number.isNaN(x) ? zero : Math.min(largest, Math.max(lowest, whole + zero));
  };
}

/** The least and the largest integer of a type. */
export function limits(dtype) {
  const unsigned = dtype.startsWith("u");
  const largest = 2 ** (Number(dtype.replace(/\D/g, "")) - (unsigned ? 0 : 1)) - 1;
  return [unsigned ? 0 : -largest - 1, largest];
}

/** Whether an input or output holds real numbers, as floats or quantised. */
export function isReal({ dtype, quantization }) {
  return dtype.startsWith("float") || Boolean(quantization);
}
