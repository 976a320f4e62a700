//@ section small_floats
// Floats of 8 and 4 bits as numbers, rounded to the nearest, ties to even. LARGEST, NOT and INFINITE
// are codes; where there is no infinity or NaN, that of the other, or of the largest, stands for it.
template <int DIGITS, int BIAS, int LARGEST, int NOT, int INFINITE, int SIGN> struct small_float {
  uint8_t bits;
  small_float() = default;
  // The number of a code without sign.
  static double size_of(int code) {
    const int exponent = code >> DIGITS, digits = code & ((1 << DIGITS) - 1);
    double size = exponent ? digits + (1 << DIGITS) : digits;
    for (int k = exponent ? exponent : 1; k < BIAS + DIGITS; ++k) size /= 2;
    for (int k = BIAS + DIGITS; k < exponent; ++k) size *= 2;
    return size;
  }
  explicit small_float(double x) {
    const double size = x < 0 ? -x : x;
    int code = 0;
    while (code <= LARGEST) {
      const double middle = (size_of(code) + size_of(code + 1)) / 2;
      if (size < middle || (size == middle && code % 2 == 0)) break;
      ++code;
    }
    if (code > LARGEST) code = INFINITE;
    if (x != x) code = NOT;
    bits = static_cast<uint8_t>(x < 0 && (NOT != SIGN || (code != 0 && code != NOT)) ? code | SIGN
                                                                                     : code);
  }
  operator double() const {
    const int code = bits & (SIGN - 1);
    double size = size_of(code);
    if (NOT == SIGN ? bits == NOT : LARGEST < NOT && code >= NOT) size = __builtin_nan("");
    else if (INFINITE != LARGEST && INFINITE < NOT && code == INFINITE) size = __builtin_inf();
    return bits & SIGN ? -size : size;
  }
};
typedef small_float<3, 7, 0x7e, 0x7f, 0x7f, 0x80> float8_e4m3fn;
typedef small_float<3, 8, 0x7f, 0x80, 0x80, 0x80> float8_e4m3fnuz;
typedef small_float<2, 15, 0x7b, 0x7d, 0x7c, 0x80> float8_e5m2;
typedef small_float<2, 16, 0x7f, 0x80, 0x80, 0x80> float8_e5m2fnuz;
typedef small_float<1, 1, 7, 0, 7, 8> float4_e2m1fn;

// A power of two; its bits are the exponent.
struct float8_e8m0fnu {
  uint8_t bits;
  float8_e8m0fnu() = default;
  explicit float8_e8m0fnu(double x) {
    const uint32_t all = bits_as<uint32_t>(static_cast<float>(x));
    bits = static_cast<uint8_t>(x > 0 ? (all + 0x400000u) >> 23 : 0xff);
  }
  operator double() const {
    const uint32_t all = bits == 0 ? 0x400000u : static_cast<uint32_t>(bits) << 23;
    return static_cast<double>(bits_as<float>(bits == 0xff ? 0x7fc00000u : all));
  }
};
