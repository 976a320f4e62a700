//@ section float16
// float16 and bfloat16 as numbers, rounded to the nearest, ties to even.
struct bfloat16 {
  uint16_t bits;
  bfloat16() = default;
  explicit bfloat16(double x) {
    const uint32_t all = bits_as<uint32_t>(static_cast<float>(x));
    bits = static_cast<uint16_t>(x != x ? 0x7fc0 : (all + 0x7fffu + (all >> 16 & 1u)) >> 16);
  }
  operator double() const {
    return static_cast<double>(bits_as<float>(static_cast<uint32_t>(bits) << 16));
  }
};

struct float16 {
  uint16_t bits;
  float16() = default;
  explicit float16(double x) {
    const uint32_t all = bits_as<uint32_t>(static_cast<float>(x)), size = all & 0x7fffffffu;
    uint32_t half = (size - (112u << 23) + 0xfffu + (size >> 13 & 1u)) >> 13;
    if (size < 113u << 23) half = bits_as<uint32_t>(bits_as<float>(size) + 0.5f) - 0x3f000000u;
    if (size >= 143u << 23) half = size > 0x7f800000u ? 0x7e00u : 0x7c00u;
    bits = static_cast<uint16_t>(half | (all >> 16 & 0x8000u));
  }
  operator double() const {
    const uint32_t rest = (bits & 0x7fffu) << 13, sign = (bits & 0x8000u) << 16;
    const uint32_t finite = bits_as<uint32_t>(bits_as<float>(rest) * 0x1p112f);
    return static_cast<double>(
        bits_as<float>((rest >= 0x7c00u << 13 ? rest | 0x7f800000u : finite) | sign));
  }
};
