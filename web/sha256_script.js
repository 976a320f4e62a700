// SHA-256 (FIPS 180-4) for places whose platform offers none: origins that are neither https nor localhost.

/** The first 32 bits of the fractional parts of the square or cube roots of the first primes. */
function fractions(count, power) {
  const out = new Uint32Array(count);
  for (let candidate = 2, n = 0; n < count; candidate++) {
    let prime = true;
    for (let d = 2; d * d <= candidate; d++) prime &&= candidate % d !== 0;
    if (!prime) continue;
    const root = candidate ** power;
    out[n++] = (root - Math.floor(root)) * 4294967296;
  }
  return out;
}

/** @param {Uint8Array} bytes @returns {Uint8Array} */
export function sha256InScript(bytes) {
  const k = fractions(64, 1 / 3);
  const state = fractions(8, 1 / 2);
  const w = new Int32Array(64);
  const block = (data, at) => {
    for (let i = 0; i < 16; i++, at += 4) w[i] = (data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3];
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t = (h + s1 + (g ^ (e & (f ^ g))) + k[i] + w[i]) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t) | 0;
      d = c;
      const u = (t + s0 + ((a & b) ^ (c & (a ^ b)))) | 0;
      c = b;
      b = a;
      a = u;
    }
    [a, b, c, d, e, f, g, h].forEach((v, i) => (state[i] += v));
  };
  const whole = bytes.length - (bytes.length % 64);
  for (let at = 0; at < whole; at += 64) block(bytes, at);
  const rest = bytes.length - whole;
  const last = new Uint8Array(rest < 56 ? 64 : 128); // the rest, a one bit, zeros, the length in bits
  last.set(bytes.subarray(whole));
  last[rest] = 0x80;
  const bits = new DataView(last.buffer);
  bits.setUint32(last.length - 8, Math.floor(bytes.length / 0x20000000));
  bits.setUint32(last.length - 4, (bytes.length * 8) >>> 0);
  for (let at = 0; at < last.length; at += 64) block(last, at);
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((v, i) => out.setUint32(4 * i, v));
  return new Uint8Array(out.buffer);
}
