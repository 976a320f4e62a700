// SHA-256 (FIPS 180-4), of bytes that are all in memory. The top of vectors.h explains the sections.

//@ section sha256
//@ needs cpuid
// The constants of the 64 rounds: the first 32 bits of the fractional parts of the cube roots of
// the first 64 primes.
alignas(16) constexpr uint32_t kSha256Rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// SHA instructions of x86 are chosen at run time, so that a build for any x86-64 uses them if
// present.
#if (defined(__x86_64__) || defined(__i386__)) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHA256_X86 1
#endif
#endif

#if defined(SHA256_X86)
typedef int sha256_lanes __attribute__((vector_size(16)));
typedef unsigned sha256_words __attribute__((vector_size(16)));
typedef char sha256_bytes __attribute__((vector_size(16)));

// Whether the CPU has the SHA extensions and SSE4.1.
[[maybe_unused]] inline bool sha256_instructions() {
  if (cpuid(0, 0).a < 7) return false;
  return (cpuid(1, 0).c >> 19 & 1) != 0 && (cpuid(7, 0).b >> 29 & 1) != 0;
}

// Sums of four words modulo 2^32: in unsigned lanes, since signed ones may not overflow.
[[maybe_unused]] inline sha256_lanes sha256_sum(sha256_lanes x, sha256_lanes y) {
  return reinterpret_cast<sha256_lanes>(reinterpret_cast<sha256_words>(x) +
                                        reinterpret_cast<sha256_words>(y));
}

// Adds blocks of 64 bytes to the hash state, four rounds at a time on the state as (f e b a) and (h
// g d c), low lanes first.
[[maybe_unused]] __attribute__((noinline, target("sha,sse4.1"))) inline void sha256_blocks_x86(
    uint32_t state[8], const uint8_t* data, size_t blocks) {
#if defined(__AVX__)
  // SHA instructions have no VEX encoding: while upper register halves are in use, Intel CPUs run
  // each of them 20 times slower.
  __builtin_ia32_vzeroupper();
#endif
  sha256_lanes dcba, hgfe;
  __builtin_memcpy(&dcba, state, 16);
  __builtin_memcpy(&hgfe, state + 4, 16);
  sha256_lanes feba = __builtin_shufflevector(dcba, hgfe, 5, 4, 1, 0),
               hgdc = __builtin_shufflevector(dcba, hgfe, 7, 6, 3, 2);
  for (; blocks > 0; blocks--, data += 64) {
    const sha256_lanes feba_before = feba, hgdc_before = hgdc;
    sha256_lanes w[4];  // the schedule's next 16 words, w[0] the next four
    for (int i = 0; i < 4; i++) {
      sha256_bytes bytes;
      __builtin_memcpy(&bytes, data + 16 * i, 16);
      w[i] = reinterpret_cast<sha256_lanes>(__builtin_shufflevector(
          bytes, bytes, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
    }
    for (int round = 0; round < 64; round += 4) {
      sha256_lanes k;
      __builtin_memcpy(&k, kSha256Rounds + round, 16);
      const sha256_lanes t = sha256_sum(w[0], k);
      hgdc = __builtin_ia32_sha256rnds2(hgdc, feba, t);
      feba = __builtin_ia32_sha256rnds2(feba, hgdc, __builtin_shufflevector(t, t, 2, 3, 2, 3));
      const sha256_lanes seven_ago = __builtin_shufflevector(w[2], w[3], 1, 2, 3, 4);
      const sha256_lanes next = __builtin_ia32_sha256msg2(
          sha256_sum(__builtin_ia32_sha256msg1(w[0], w[1]), seven_ago), w[3]);
      w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = next;  // the last four results are unused
    }
    feba = sha256_sum(feba, feba_before);
    hgdc = sha256_sum(hgdc, hgdc_before);
  }
  dcba = __builtin_shufflevector(feba, hgdc, 3, 2, 7, 6);
  hgfe = __builtin_shufflevector(feba, hgdc, 1, 0, 5, 4);
  __builtin_memcpy(state, &dcba, 16);
  __builtin_memcpy(state + 4, &hgfe, 16);
}
#endif

// Adds blocks of 64 bytes to the hash state, on any CPU.
[[maybe_unused]] inline void sha256_blocks_portable(uint32_t state[8], const uint8_t* data,
                                                    size_t blocks) {
  const auto rotated = [](uint32_t x, int n) { return x >> n | x << (32 - n); };
  for (; blocks > 0; blocks--, data += 64) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
      const uint8_t* p = data + 4 * i;
      w[i] = static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 |
          static_cast<uint32_t>(p[2]) << 8 | p[3];
    }
    for (int i = 16; i < 64; i++) {
      const uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[i - 7] +
          (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
    uint32_t s[8];  // a, b, ... h; instead of rotating them each round, a is s[-i mod 8]
    for (int i = 0; i < 8; i++) s[i] = state[i];
    for (int i = 0; i < 64; i += 8) {
      for (int j = 0; j < 8; j++) {
        const uint32_t a = s[-j & 7], b = s[(1 - j) & 7], c = s[(2 - j) & 7], e = s[(4 - j) & 7],
                       f = s[(5 - j) & 7], g = s[(6 - j) & 7];
        const uint32_t t = s[(7 - j) & 7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
            (g ^ (e & (f ^ g))) + kSha256Rounds[i + j] + w[i + j];
        s[(3 - j) & 7] += t;
        s[(7 - j) & 7] =
            t + (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (c & (a ^ b)));
      }
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
  }
}

// Adds blocks of 64 bytes to the hash state.
[[maybe_unused]] inline void sha256_blocks(uint32_t state[8], const uint8_t* data, size_t blocks) {
#if defined(SHA256_X86)
  if (sha256_instructions()) return sha256_blocks_x86(state, data, blocks);
#endif
  sha256_blocks_portable(state, data, blocks);
}
#undef SHA256_X86

// The SHA-256 of the n bytes at data.
[[maybe_unused]] inline void sha256(const uint8_t* data, size_t n, uint8_t out[32]) {
  uint32_t state[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                       0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
  const size_t whole = n / 64, left = n % 64;
  sha256_blocks(state, data, whole);
  uint8_t last[128] = {};  // remaining bytes, a one bit, zeros, length in bits
  const size_t size = left < 56 ? 64 : 128;
  for (size_t i = 0; i < left; i++) last[i] = data[64 * whole + i];
  last[left] = 0x80;
  for (size_t i = 0; i < 8; i++)
    last[size - 1 - i] = static_cast<uint8_t>(static_cast<uint64_t>(n) << 3 >> (8 * i));
  sha256_blocks(state, last, size / 64);
  for (size_t i = 0; i < 32; i++) out[i] = static_cast<uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
}
