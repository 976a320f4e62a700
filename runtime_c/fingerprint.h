// A fingerprint by which a file of weights is recognised, as fast as memory is read. The top of
// vectors.h explains the sections.

//@ section fingerprint
// Takes x into a state, as XXH64 does: for a given state each x gives another result, and for a
// given x each state does.
template <class T> INLINE T absorbed(T state, T x) {
  state += x * 0xc2b2ae3d27d4eb4fu;
  return (state << 31 | state >> 33) * 0x9e3779b185ebca87u;
}

// Elsewhere than in AVX-512, vectors cannot multiply 64 bits, and are slower than scalars.
#if defined(__AVX512DQ__)
typedef uint64_t fingerprint_part __attribute__((vector_size(64)));
#else
typedef uint64_t fingerprint_part;
#endif

constexpr size_t kFingerprintRow = 256, kFingerprintPiece = 65536;

// Takes rows of 32 words into a state of as many.
[[maybe_unused]] inline void absorb_rows(uint64_t (&state)[32], const uint8_t* data, size_t rows) {
  constexpr size_t kParts = kFingerprintRow / sizeof(fingerprint_part);
  fingerprint_part parts[kParts];
  __builtin_memcpy(parts, state, sizeof parts);
  for (; rows > 0; --rows, data += kFingerprintRow) {
#pragma GCC unroll 4
    for (size_t i = 0; i < kParts; ++i) {
      fingerprint_part x;
      __builtin_memcpy(&x, data + i * sizeof x, sizeof x);
      parts[i] = absorbed(parts[i], x);
    }
  }
  __builtin_memcpy(state, parts, sizeof parts);
}

// The fingerprint of the n bytes at data: pieces of 64 KiB are taken in row by row, the last row
// filled up with zeros, each into states of its own; word k of the result takes in n and, piece by
// piece, the states whose number is k modulo 4. amalgamate/fingerprint.py does the same.
[[maybe_unused]] inline void fingerprint(const uint8_t* data, size_t n, uint8_t out[32]) {
  uint64_t words[4];
  for (size_t k = 0; k < 4; ++k) words[k] = static_cast<uint64_t>(n) + k;
  while (n > 0) {
    const size_t piece = n < kFingerprintPiece ? n : kFingerprintPiece,
                 whole = piece / kFingerprintRow, left = piece % kFingerprintRow;
    uint64_t state[32];
    for (size_t i = 0; i < 32; ++i) state[i] = i;
    absorb_rows(state, data, whole);
    if (left > 0) {
      uint8_t last[kFingerprintRow] = {};
      for (size_t i = 0; i < left; ++i) last[i] = data[whole * kFingerprintRow + i];
      absorb_rows(state, last, 1);
    }
    for (size_t i = 0; i < 32; ++i) words[i % 4] = absorbed(words[i % 4], state[i]);
    data += piece;
    n -= piece;
  }
  __builtin_memcpy(out, words, sizeof words);
}

// Whether the n bytes at data have this fingerprint.
[[maybe_unused]] inline bool has_fingerprint(const uint8_t* data, size_t n,
                                             const uint8_t (&wanted)[32]) {
  uint8_t own[32];
  fingerprint(data, n, own);
  bool same = true;
  for (size_t i = 0; i < 32; ++i) same = same && own[i] == wanted[i];
  return same;
}
