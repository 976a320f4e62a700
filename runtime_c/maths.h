// Maths: the elementary functions, without a libm, for float and for any vector of floats; and for double, one at a time.
//
// The grammar of sections is told at the top of vectors.h. A function f(x) of float is the section f and is called f_(x), for one float or for any
// vector of floats; the section f_f64 adds the overload for double. The float functions have no branches and no tables unless their comment says so.
//
// "2 ulp" means: the result differs from the true value by at most 2 units in the last place of the result, with or without fused multiply-add, for every
// float, denormals included; NaN gives NaN, and infinities and zeros give what C99's Annex F says. The bounds are those the tests measured, rounded up.
// The machine must round to nearest, and must not flush denormals to zero: where it does (NEON on 32-bit arm), denormal results are zero.
//
// Coefficients without a source are minimax polynomials of our own: the interval's least relative error, found by linear programs on a grid of
// Chebyshev nodes, rounding one coefficient to float at a time and refitting the others.

//@ section constants
template <class T> struct constants {
  static constexpr T inf = static_cast<T>(__builtin_inff());
  static constexpr T nan = static_cast<T>(__builtin_nanf(""));
};

//@ section horner
//@ needs madd
// c0 + c1 x + c2 x^2 + ...
template <class V> INLINE V horner(V, elem<V> c0) { return splat<V>(c0); }
template <class V, class... C> INLINE V horner(V x, elem<V> c0, C... rest) { return madd(horner(x, rest...), x, splat<V>(c0)); }

//@ section sign
// The bits of a floating point number's sign; and magnitude, which is not negative, with the sign of sign.
template <class V> INLINE uints<V> sign_bit(V x) { return bits_as<uints<V>>(x) & bits_as<uints<V>>(splat<V>(elem<V>(-0.0))); }
template <class V> INLINE V with_sign(V magnitude, V sign) { return bits_as<V>(bits_as<uints<V>>(magnitude) | sign_bit(sign)); }

//@ section abs
//@ needs sign
// |x|, exact. Of the least integer it is the least integer, as in numpy.
template <class V> INLINE V abs_(V x) {
  if constexpr (elem<V>(0.5) != 0) return bits_as<V>(bits_as<uints<V>>(x) ^ sign_bit(x));
  else return select(x < V{}, bits_as<V>(static_cast<uints<V>>(uints<V>{} - bits_as<uints<V>>(x))), x);
}

//@ section min
// The smaller; NaN when either is NaN.
template <class V> INLINE V min_(V a, V b) { return select(a == a, vmin(a, b), a); }

//@ section max
// The larger; NaN when either is NaN.
template <class V> INLINE V max_(V a, V b) { return select(a == a, vmax(a, b), a); }

//@ section rounding
//@ needs halves abs
// Rounds to an integer in one of four ways (the numbers are those of x86), exactly for every x; the sign of a zero is that of x. The machine's own
// instruction where there is one, else: adding 2^23 and taking it off again rounds |x| < 2^23 to even, and a step of one mends the direction.
enum rounding { to_even = 0, to_floor = 1, to_ceil = 2, to_zero = 3 };

template <rounding R, class V> INLINE V rounded(V x) {
#if __has_builtin(__builtin_elementwise_roundeven) && (defined(__SSE4_1__) || defined(__aarch64__) || defined(__wasm__))
  if constexpr (R == to_even) return __builtin_elementwise_roundeven(x);
  else if constexpr (R == to_floor) return __builtin_elementwise_floor(x);
  else if constexpr (R == to_ceil) return __builtin_elementwise_ceil(x);
  else return __builtin_elementwise_trunc(x);
#elif defined(__SSE4_1__) && !defined(__clang__)
  constexpr bool is_float = sizeof(elem<V>) == 4;
  if constexpr (sizeof(V) < 16) return low(rounded<R>(join(x, x)));
  else if constexpr (sizeof(V) == 16 && is_float) return __builtin_ia32_roundps(x, R);
  else if constexpr (sizeof(V) == 16) return __builtin_ia32_roundpd(x, R);
#if defined(__AVX__)
  else if constexpr (sizeof(V) == 32 && is_float) return __builtin_ia32_roundps256(x, R);
  else if constexpr (sizeof(V) == 32) return __builtin_ia32_roundpd256(x, R);
#endif
#if defined(__AVX512F__)
  else if constexpr (sizeof(V) == 64 && is_float) return __builtin_ia32_rndscaleps_mask(x, R, x, static_cast<uint16_t>(-1), 4);
  else if constexpr (sizeof(V) == 64) return __builtin_ia32_rndscalepd_mask(x, R, x, static_cast<uint8_t>(-1), 4);
#endif
  else return join(rounded<R>(low(x)), rounded<R>(high(x)));
#else
  const V one = splat<V>(1), integers = splat<V>(sizeof(elem<V>) == 4 ? elem<V>(0x1p23) : elem<V>(0x1p52));
  const V a = abs_(x), even = (a + integers) - integers;
  const V down = even - select(even > a, one, V{}), up = even + select(even < a, one, V{});
  V magnitude = even;
  if (R == to_floor) magnitude = select(x < V{}, up, down);
  if (R == to_ceil) magnitude = select(x < V{}, down, up);
  if (R == to_zero) magnitude = down;
  return select(a < integers, with_sign(magnitude, x), x);
#endif
}

//@ section floor
//@ needs rounding
// The greatest integer not above x, exact.
template <class V> INLINE V floor_(V x) { return rounded<to_floor>(x); }

//@ section ceil
//@ needs rounding
// The least integer not below x, exact.
template <class V> INLINE V ceil_(V x) { return rounded<to_ceil>(x); }

//@ section round
//@ needs rounding
// The nearest integer, of two the even one, exact.
template <class V> INLINE V round_(V x) { return rounded<to_even>(x); }

//@ section trunc
//@ needs rounding
// The integer next to x towards zero, exact.
template <class V> INLINE V trunc_(V x) { return rounded<to_zero>(x); }

//@ section sqrt
//@ needs halves
// The square root, correctly rounded: the machine's instruction.
template <class V> INLINE V sqrt_(V x) {
#if __has_builtin(__builtin_elementwise_sqrt)
  return __builtin_elementwise_sqrt(x);
#elif defined(__SSE2__) && !defined(__clang__)
  constexpr bool is_float = sizeof(elem<V>) == 4;
  if constexpr (sizeof(V) < 16) return low(sqrt_(join(x, x)));
  else if constexpr (sizeof(V) == 16 && is_float) return __builtin_ia32_sqrtps(x);
  else if constexpr (sizeof(V) == 16) return __builtin_ia32_sqrtpd(x);
#if defined(__AVX__)
  else if constexpr (sizeof(V) == 32 && is_float) return __builtin_ia32_sqrtps256(x);
  else if constexpr (sizeof(V) == 32) return __builtin_ia32_sqrtpd256(x);
#endif
#if defined(__AVX512F__)
  else if constexpr (sizeof(V) == 64 && is_float) return __builtin_ia32_sqrtps512_mask(x, x, static_cast<uint16_t>(-1), 4);
  else if constexpr (sizeof(V) == 64) return __builtin_ia32_sqrtpd512_mask(x, x, static_cast<uint8_t>(-1), 4);
#endif
  else return join(sqrt_(low(x)), sqrt_(high(x)));
#elif defined(__aarch64__)
  if constexpr (sizeof(V) == 16) {
    V y;
    if constexpr (sizeof(elem<V>) == 4) __asm__("fsqrt %0.4s, %1.4s" : "=w"(y) : "w"(x));
    else __asm__("fsqrt %0.2d, %1.2d" : "=w"(y) : "w"(x));
    return y;
  } else if constexpr (sizeof(V) < 16) {
    return low(sqrt_(join(x, x)));
  } else {
    return join(sqrt_(low(x)), sqrt_(high(x)));
  }
#else  // compile with -fno-math-errno, or the compiler calls libm for the errno of a negative x
  if constexpr (lanes<V> > 1) return join(sqrt_(low(x)), sqrt_(high(x)));
  else if constexpr (sizeof(V) == 4) return __builtin_sqrtf(x);
  else return __builtin_sqrt(x);
#endif
}

//@ section rsqrt
//@ needs sqrt
// 1 / sqrt(x), 1.5 ulp.
template <class V> INLINE V rsqrt_(V x) { return splat<V>(1) / sqrt_(x); }

//@ section power_of_two
// 2^n for -126 <= n <= 127.
template <class V> INLINE V power_of_two(ints<V> n) { return bits_as<V>((bits_as<uints<V>>(n) + 127u) << 23); }

//@ section exp_parts
//@ needs madd
// x = n ln2 + r with an integer n and |r| <= ln2 / 2, for |x| <= 2^15. Adding 1.5 * 2^23 rounds to an integer, which appears in the low bits.
template <class V> struct exp_parts { V r; ints<V> n; };
template <class V> INLINE exp_parts<V> split_exp(V x) {
  static_assert(sizeof(elem<V>) == 4, "float only: for double paste the section with _f64 behind its name");
  const V shift = splat<V>(0x1.8p23f), shifted = madd(x, splat<V>(0x1.715476p0f), shift), n = shifted - shift;
  const V r = madd(n, splat<V>(-0x1.0bfbe8p-15f), madd(n, splat<V>(-0x1.62ep-1f), x));  // n * 0x1.62ep-1 is exact
  return {r, bits_as<ints<V>>(shifted) - bits_as<ints<V>>(shift)};
}

//@ section exp_shifted
//@ needs exp_parts power_of_two horner halves convert
// e^x * 2^k for -1 <= k <= 0. The scale 2^n is applied in two steps, so that the only rounding is the last one's, also when the result is denormal.
template <class V> INLINE V scaled_by_power_of_two(V x, ints<V> n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return __builtin_ia32_scalefps512_mask(x, convert<V>(n), x, static_cast<uint16_t>(-1), 4);
#endif
  const ints<V> half_n = n >> 1;
  return x * power_of_two<V>(half_n) * power_of_two<V>(n - half_n);
}
template <class V> INLINE V exp_shifted(V x, int k) {
  const exp_parts<V> p = split_exp(vmin(splat<V>(90), vmax(splat<V>(-105), x)));
  const V q = horner(p.r, 1.0f, 1.0f, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558b2p-5f, 0x1.12399p-7f, 0x1.6a4aa6p-10f);
  return scaled_by_power_of_two(q, p.n + k);
}

//@ section exp
//@ needs exp_shifted
// e^x, 1 ulp: e^r 2^n.
template <class V> INLINE V exp_(V x) { return exp_shifted(x, 0); }
