// SHA-256 (FIPS 180-4) in hexadecimal: the platform's where there is one, which insecure origins do not have.

/** @param {Uint8Array} bytes @returns {Promise<string>} */
export async function sha256(bytes) {
  const subtle = globalThis.crypto?.subtle;
  const digest = subtle
    ? new Uint8Array(await subtle.digest("SHA-256", bytes))
    : (await import("./sha256_script.js")).sha256InScript(bytes);
  return Array.from(digest, (b) => b.toString(16).padStart(2, "0")).join("");
}
