const TOO_LONG = 9;
const REFUSED = {
  [TOO_LONG]: '@too_long@',
//@ if decodes
  1: '@refused@',
  10: '@full@',
//@ end
};

function utf8(text) {
  if (text instanceof Uint8Array) return text;
  if (typeof text !== 'string') throw new TypeError(`a text is a string or its UTF-8, not ${typeof text}`);
  return new TextEncoder().encode(text);
}

/** What the addon gives; statuses that are errors are thrown, with what was written `before`. */
function checked(given, before = {}) {
  if (given in REFUSED) throw Object.assign(new RangeError(REFUSED[given]), before);
  if (Number.isInteger(given) && given !== 0) throw new Error(addon.errorText(given));
  return given;
}
//@ if decodes

const integers = (tokens) => BigInt64Array.from(tokens, BigInt);

/** The arguments that say how a text is written, as the addon takes them. */
function chosen({ maxTokens = 128, temperature = 0, topK = 0, topP = 1, seed = 0, stop }) {
  if (!Number.isInteger(maxTokens) || maxTokens < 0) throw new RangeError(`maxTokens is ${maxTokens}`);
  const sampler = new DataView(new ArrayBuffer(24)); // NAME_sampler of NAME.h
  sampler.setFloat32(0, temperature, true);
  sampler.setInt32(4, topK, true);
  sampler.setFloat32(8, topP, true);
  sampler.setBigUint64(16, BigInt.asUintN(64, BigInt(seed)), true);
  const most = Math.min(maxTokens, 2 ** 31 - 1);
  return [most, new Uint8Array(sampler.buffer), stop === undefined ? undefined : integers(stop)];
}
//@ end

