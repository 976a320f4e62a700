// Unpacks a zlib stream (RFC 1950 and 1951): the images of GPU kernels are stored as one each. The grammar of sections is
// told at the top of vectors.h.

//@ section inflate
// Reads bits, the lowest of each byte first. Behind the end it reads zeros and sets `ended`.
struct bit_reader {
  const uint8_t* data;
  size_t bytes, at;
  uint32_t bits;  // read from `data` but not yet taken
  uint32_t count;  // how many these are
  bool ended;
};

inline uint32_t take_bits(bit_reader& in, uint32_t count) {  // at most 16
  while (in.count < count) {
    in.ended = in.ended || in.at == in.bytes;
    in.bits |= (in.ended ? 0u : uint32_t{in.data[in.at++]}) << in.count;
    in.count += 8;
  }
  const uint32_t taken = in.bits & ((1u << count) - 1);
  in.bits >>= count;
  in.count -= count;
  return taken;
}

// A canonical Huffman code: how many symbols have codes of each length, and the symbols in the order of their codes.
struct huffman_code {
  uint16_t lengths[16];
  uint16_t symbols[288];
};

// Makes the code in which symbol k has lengths[k] bits, or none where that is 0. False if these are more codes than fit,
// or too few; where `may_be_partial` a single one of one bit, or none, will do.
inline bool make_code(huffman_code& code, const uint8_t* lengths, int32_t count,
                      bool may_be_partial) {
  for (uint16_t& n : code.lengths) n = 0;
  for (int32_t k = 0; k < count; ++k) ++code.lengths[lengths[k]];
  const int32_t used = count - code.lengths[0];
  int32_t left = 1;
  uint16_t first[17] = {};
  for (int32_t n = 1; n < 16; ++n) {
    left = 2 * left - code.lengths[n];
    if (left < 0) return false;
    first[n + 1] = static_cast<uint16_t>(first[n] + code.lengths[n]);
  }
  const bool single = used == code.lengths[1] && used <= 1;
  if (left > 0 && !(may_be_partial && single)) return false;
  for (int32_t k = 0; k < count; ++k) {
    if (lengths[k] != 0) code.symbols[first[lengths[k]]++] = static_cast<uint16_t>(k);
  }
  return true;
}

// The next symbol, or -1 if the bits are no code.
inline int32_t take_symbol(bit_reader& in, const huffman_code& code) {
  int32_t bits = 0, first = 0,
          before = 0;  // the first code of this length; the symbols with shorter ones
  for (int32_t n = 1; n < 16; ++n) {
    bits |= static_cast<int32_t>(take_bits(in, 1));
    const int32_t count = code.lengths[n];
    if (bits - first < count) return code.symbols[before + bits - first];
    before += count;
    first = 2 * (first + count);
    bits *= 2;
  }
  return -1;
}

struct unpacked {
  uint8_t* data;
  size_t bytes, at;
};

// A block whose literals, lengths and distances are in these codes.
inline bool inflate_codes(bit_reader& in, unpacked& out, const huffman_code& literals,
                          const huffman_code& distances) {
  constexpr uint16_t kLengths[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                   31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
  constexpr uint8_t kLengthBits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                     2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
  constexpr uint16_t kDistances[] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                     33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                     1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  for (;;) {
    const int32_t symbol = take_symbol(in, literals);
    if (symbol < 0 || symbol > 285 || in.ended) return false;
    if (symbol == 256) return true;
    if (symbol < 256) {
      if (out.at == out.bytes) return false;
      out.data[out.at++] = static_cast<uint8_t>(symbol);
      continue;
    }
    const size_t length = kLengths[symbol - 257] + take_bits(in, kLengthBits[symbol - 257]);
    const int32_t far = take_symbol(in, distances);
    if (far < 0 || far > 29) return false;
    const size_t distance =
        kDistances[far] + take_bits(in, far < 4 ? 0 : static_cast<uint32_t>(far / 2 - 1));
    if (in.ended || distance > out.at || length > out.bytes - out.at) return false;
    for (size_t k = 0; k < length; ++k, ++out.at) out.data[out.at] = out.data[out.at - distance];
  }
}

inline bool inflate_stored(bit_reader& in, unpacked& out) {
  in.bits = in.count = 0;  // the block begins with the next byte
  const uint32_t length = take_bits(in, 16), inverse = take_bits(in, 16);
  if (in.ended || (length ^ inverse) != 0xffff || length > in.bytes - in.at ||
      length > out.bytes - out.at)
    return false;
  for (uint32_t k = 0; k < length; ++k) out.data[out.at++] = in.data[in.at++];
  return true;
}

inline bool inflate_fixed(bit_reader& in, unpacked& out) {
  uint8_t lengths[288];
  huffman_code literals, distances;
  for (int32_t k = 0; k < 288; ++k) lengths[k] = k < 144 ? 8 : k < 256 ? 9 : k < 280 ? 7 : 8;
  make_code(literals, lengths, 288, false);
  for (int32_t k = 0; k < 32; ++k) lengths[k] = 5;
  make_code(distances, lengths, 32, false);
  return inflate_codes(in, out, literals, distances);
}

// A block that begins with its codes.
inline bool inflate_dynamic(bit_reader& in, unpacked& out) {
  constexpr uint8_t kOrder[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  uint8_t lengths[286 + 30] = {};
  huffman_code literals, distances;
  const int32_t literal_count = 257 + static_cast<int32_t>(take_bits(in, 5)),
                distance_count = 1 + static_cast<int32_t>(take_bits(in, 5));
  const int32_t order_count = 4 + static_cast<int32_t>(take_bits(in, 4)),
                total = literal_count + distance_count;
  if (literal_count > 286 || distance_count > 30) return false;
  for (int32_t k = 0; k < order_count; ++k)
    lengths[kOrder[k]] = static_cast<uint8_t>(take_bits(in, 3));
  if (in.ended || !make_code(literals, lengths, 19, false))
    return false;  // for now the code of the lengths
  for (int32_t k = 0; k < total;) {
    const int32_t symbol = take_symbol(in, literals);
    if (symbol < 0 || in.ended) return false;
    if (symbol < 16) {
      lengths[k++] = static_cast<uint8_t>(symbol);
      continue;
    }
    if (symbol == 16 && k == 0) return false;
    const uint8_t repeated = symbol == 16 ? lengths[k - 1] : uint8_t{0};
    const uint32_t times = symbol == 16 ? 3 + take_bits(in, 2)
        : symbol == 17                  ? 3 + take_bits(in, 3)
                                        : 11 + take_bits(in, 7);
    if (times > static_cast<uint32_t>(total - k)) return false;
    for (uint32_t n = 0; n < times; ++n) lengths[k++] = repeated;
  }
  if (lengths[256] == 0) return false;  // no end
  return make_code(distances, lengths + literal_count, distance_count, true) &&
      make_code(literals, lengths, literal_count, true) &&
      inflate_codes(in, out, literals, distances);
}

// Unpacks `packed` into exactly `bytes` bytes. False if it is damaged: then `data` may hold anything, but nothing outside
// of it has been written, and nothing outside of `packed` read.
[[maybe_unused]] inline bool inflate(uint8_t* data, size_t bytes, const uint8_t* packed,
                                     size_t packed_bytes) {
  if (packed_bytes < 6) return false;
  const uint32_t head = uint32_t{packed[0]} << 8 | packed[1];
  if ((head >> 8 & 0xf) != 8 || head >> 12 > 7 || (head & 0x20) != 0 || head % 31 != 0)
    return false;
  bit_reader in = {packed + 2, packed_bytes - 6, 0, 0, 0, false};
  unpacked out = {data, bytes, 0};
  for (bool last = false; !last;) {
    last = take_bits(in, 1) != 0;
    const uint32_t kind = take_bits(in, 2);
    if (in.ended || kind == 3) return false;
    if (!(kind == 0       ? inflate_stored(in, out)
              : kind == 1 ? inflate_fixed(in, out)
                          : inflate_dynamic(in, out)))
      return false;
  }
  if (out.at != bytes || in.at != in.bytes) return false;
  uint32_t low = 1, high = 0;  // Adler-32
  for (size_t k = 0; k < bytes; ++k) {
    low += data[k];
    high += low;
    if (k % 4096 == 4095 || k + 1 == bytes) low %= 65521, high %= 65521;
  }
  const uint8_t* const sum = packed + packed_bytes - 4;
  return (high << 16 | low) ==
      (uint32_t{sum[0]} << 24 | uint32_t{sum[1]} << 16 | uint32_t{sum[2]} << 8 | sum[3]);
}
