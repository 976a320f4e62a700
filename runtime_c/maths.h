// Maths: the elementary functions, without a libm, for float and for any vector of floats; and for
// double, one at a time.
//
// The top of vectors.h explains the sections. The section f defines f_(x) for one
// float and for any vector of floats, the section f_f64 adds the overload for one double. All are
// in this one long file because it is a list to choose from, not a text to read: a document
// receives what it uses.
//
// "2 ulp" means: the result is at most 2 units in the last place away from the true value, for
// every float, denormals included, with or without fused multiply-add; NaN gives NaN, and zeros and
// infinities give what C99's Annex F says. The bounds are the errors measured, rounded up: with
// fused multiply-add at every 17th of the 2^32 floats, without it at every 37th, for double at
// 600,000 numbers; tests/test_runtime_c.py repeats it at fewer. The float functions are branch-free
// where their comment does not say otherwise. The machine must round to nearest; where it flushes
// denormals to zero (vectors on 32-bit arm) they do too.
//
// Coefficients without a source are minimax polynomials of our own: least relative error on the
// interval, found by linear programs over Chebyshev nodes, rounding one coefficient to float at a
// time and refitting the others.

//@ section constants
template <class T> struct constants {
  static constexpr T inf = static_cast<T>(__builtin_inff());
  static constexpr T nan = static_cast<T>(__builtin_nanf(""));
};

//@ section horner
//@ needs madd
// c0 + c1 x + c2 x^2 + ...
template <class V> INLINE V horner(V, elem<V> c0) { return splat<V>(c0); }
template <class V, class... C> INLINE V horner(V x, elem<V> c0, C... rest) {
  return madd(horner(x, rest...), x, splat<V>(c0));
}

//@ section sign
// sign_bit: the sign bit. with_sign: the non-negative magnitude with the sign of `sign`.
template <class V> INLINE uints<V> sign_bit(V x) {
  return bits_as<uints<V>>(x) & bits_as<uints<V>>(splat<V>(elem<V>(-0.0)));
}
template <class V> INLINE V with_sign(V magnitude, V sign) {
  return bits_as<V>(bits_as<uints<V>>(magnitude) | sign_bit(sign));
}

//@ section abs
//@ needs sign
// |x|, exact. The least integer stays the least integer, as in NumPy.
template <class V> INLINE V abs_(V x) {
  if constexpr (elem<V>(0.5) != 0) return bits_as<V>(bits_as<uints<V>>(x) ^ sign_bit(x));
  else
    return select(x < V{}, bits_as<V>(static_cast<uints<V>>(uints<V>{} - bits_as<uints<V>>(x))), x);
}

//@ section min
//@ needs vmin
// The smaller; NaN when either is NaN.
template <class V> INLINE V min_(V a, V b) {
  if constexpr (either_nan<V>) return vmin(a, b);
  else if constexpr (lanes<V> == 1)
    return __builtin_constant_p(b) && b == b ? (a > b ? b : a) : select(a == a, vmin(a, b), a);
  else return select(a == a, vmin(a, b), a);
}

//@ section max
//@ needs vmax
// The larger; NaN when either is NaN.
template <class V> INLINE V max_(V a, V b) {
  if constexpr (either_nan<V>) return vmax(a, b);
  else if constexpr (lanes<V> == 1)
    return __builtin_constant_p(b) && b == b ? (a < b ? b : a) : select(a == a, vmax(a, b), a);
  else return select(a == a, vmax(a, b), a);
}

//@ section within
//@ needs vmin vmax
// x, which is not NaN, clamped to low and high.
template <class V> INLINE V within_(V x, V low, V high) { return vmin(vmax(x, low), high); }

//@ section rounding
//@ needs halves abs
// Rounds to an integer in one of four ways (the numbers are those of x86), exactly for every x; the
// sign of a zero is that of x. Uses the machine's instruction if there is one. Otherwise adding and
// subtracting 2^23 rounds |x| < 2^23 to even, and a step of one corrects the direction.
enum rounding { to_even = 0, to_floor = 1, to_ceil = 2, to_zero = 3 };

template <rounding R, class V> INLINE V rounded(V x) {
#if __has_builtin(__builtin_elementwise_roundeven) && \
    (defined(__SSE4_1__) || defined(__aarch64__) || defined(__wasm__))
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
  else if constexpr (sizeof(V) == 64 && is_float)
    return __builtin_ia32_rndscaleps_mask(x, R, x, static_cast<uint16_t>(-1), 4);
  else if constexpr (sizeof(V) == 64)
    return __builtin_ia32_rndscalepd_mask(x, R, x, static_cast<uint8_t>(-1), 4);
#endif
  else return join(rounded<R>(low(x)), rounded<R>(high(x)));
#else
  const V one = splat<V>(1),
          integers = splat<V>(sizeof(elem<V>) == 4 ? elem<V>(0x1p23) : elem<V>(0x1p52));
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
// The nearest integer, ties to even, exact.
template <class V> INLINE V round_(V x) { return rounded<to_even>(x); }

//@ section products
//@ needs halves
// Sums of x (high + low), computed in double: the error is at most 2^-47 of the largest. x: float
// or int32, in register-sized parts.
template <class V> INLINE vec<double, lanes<V>> doubled(V x) {
  if constexpr (lanes<V> == 1) return static_cast<double>(x);
  else return __builtin_convertvector(x, vec<double, lanes<V>>);
}
template <class X, class V> INLINE auto products(X x, V high, V low) {
  return doubled(x) * (doubled(high) + doubled(low));
}
template <class X, class V, class... R> INLINE auto products(X x, V high, V low, R... rest) {
  return products(x, high, low) + products(rest...);
}
#if defined(__AVX512F__)
constexpr int doubles_of_register = 8;
#elif defined(__AVX__)
constexpr int doubles_of_register = 4;
#else
constexpr int doubles_of_register = 2;
#endif
// The float nearest to f of such a sum.
template <class F, class X, class... R>
INLINE vec<float, lanes<X>> of_products(F f, X x, R... rest) {
  if constexpr (lanes<X> == 1) return static_cast<float>(f(products(x, rest...)));
  else if constexpr (lanes<X> > doubles_of_register)
    return join(of_products(f, low(x), low(rest)...), of_products(f, high(x), high(rest)...));
  else return __builtin_convertvector(f(products(x, rest...)), vec<float, lanes<X>>);
}

//@ section rescaled
//@ needs products
// The sum of x (high + low) over all triples, rounded once.
template <class... X> INLINE auto rescaled_(X... x) {
  return of_products([](auto sum) { return sum; }, x...);
}

//@ section requantized
//@ needs products round
// The integer nearest to that sum, ties to even.
template <class... X> INLINE auto requantized_(X... x) {
  return of_products([](auto sum) { return round_(sum); }, x...);
}
#if (defined(__arm__) && !(defined(__ARM_FP) && (__ARM_FP & 8))) || \
    (defined(__riscv) && !(defined(__riscv_flen) && __riscv_flen >= 64))
// Without instructions for double one product is computed in integers, exactly: x is one, high is above 0.
// Whether bits are lost below `cut`: they decide what looks like a tie.
INLINE bool lost(int64_t x, int32_t cut) { return (x & ((int64_t{1} << cut) - 1)) != 0; }
[[maybe_unused, gnu::noinline]] inline float nearest_product(int32_t x, float high, float low) {
  const int32_t h = bits_as<int32_t>(high), l = bits_as<int32_t>(low);
  const int32_t exponent = h >> 23, below = exponent - (l >> 23 & 255);
  const int32_t m = (h & 0x7fffff) | 0x800000,
                n = l == 0 || l == INT32_MIN ? 0 : (l & 0x7fffff) | 0x800000;
  const int64_t small = static_cast<int64_t>(x) * (l < 0 ? -n : n);
  const int32_t cut = below - 8 > 60 ? 60 : below - 8, places = 158 - exponent;
  if (places > 62) return 0.0f;
  if (places < 1 || below < 8)
    return static_cast<float>(x) * high;  // so large that the value's type cannot hold it
  const int64_t sum = static_cast<int64_t>(x) * m * 256 + (small >> cut);
  if (places > 32) {  // one register has what is rounded
    const int32_t last = static_cast<int32_t>(sum >> 32), half = int32_t{1} << (places - 33),
                  rest = last & (2 * half - 1);
    int32_t y = last >> (places - 32);
    if (rest == half) y += (y & 1) != 0 || static_cast<uint32_t>(sum) != 0 || lost(small, cut);
    else y += rest > half;
    return static_cast<float>(y);
  }
  const int64_t half = int64_t{1} << (places - 1), rest = sum & (2 * half - 1);
  int32_t y = static_cast<int32_t>(sum >> places);
  y += rest > half || (rest == half && ((y & 1) != 0 || lost(small, cut)));
  return static_cast<float>(y);
}
template <class X, class V> INLINE vec<float, lanes<X>> requantized_(X x, V high, V low) {
  if constexpr (lanes<X> == 1) return nearest_product(static_cast<int32_t>(x), high, low);
  else {
    vec<float, lanes<X>> y = {};
    for (int i = 0; i < lanes<X>; ++i)
      y[i] = nearest_product(static_cast<int32_t>(x[i]), high[i], low[i]);
    return y;
  }
}
#endif

//@ section requantized_small
//@ needs requantized abs convert
// The same where it is then clamped to at most -512 to 512, and the parts of the sum are in -1024 to
// 1024: the float32 sum is rounded unless that is near a tie. One product of up to 512 is off by
// 512 * 3 * 2^-24 at most (x and high and the product are rounded), several by 2^-11.
template <class V> INLINE V near_products(V x, V high, V) { return x * high; }
template <class V> INLINE V near_products(vec<int32_t, lanes<V>> x, V high, V) {
  return convert<V>(x) * high;
}
template <class X, class V, class... R> INLINE V near_products(X x, V high, V low, R... rest) {
  return near_products(x, high, low) + near_products(rest...);
}
template <class X, class... R> INLINE auto requantized_small_(X x, R... rest) {
  [[maybe_unused]] constexpr int n = lanes<X>;
#if (defined(__AVX__) || defined(__wasm_simd128__)) && __has_builtin(__builtin_reduce_or)
  if constexpr (n * sizeof(float) >= 16) {
    const auto sum = near_products(x, rest...);
    const auto nearest = round_(sum);
    const auto ties = abs_(sum - nearest) > (sizeof...(rest) == 2 ? 0.4999f : 0.4995f);
    if (__builtin_expect(__builtin_reduce_or(ties) == 0, 1)) return nearest;
  }
#endif
  return requantized_(x, rest...);
}

//@ section requantized_byte
//@ needs requantized within convert madd vmin vmax
// One product x (high + low) between -2^21 and 2^21 rounded to an integer, ties to even, clamped to
// first and last, plus zero, by when it is an int8_t or uint8_t. In float32 it is computed twice,
// with a factor too small and one too large by more than all rounding errors: if both round to one
// integer (in the last place of 1.5 * 2^23), the product does too, and is no tie.
#if defined(__wasm_simd128__)
// Integers as bytes of the type T, those beyond its range as its ends.
template <class T, class I> INLINE vec<T, lanes<I>> saturated(I x) {
  if constexpr (lanes<I> < 16) {
    return low(saturated<T>(join(x, x)));
  } else {
    const auto first = __builtin_wasm_narrow_s_i16x8_i32x4(low(low(x)), high(low(x))),
               last = __builtin_wasm_narrow_s_i16x8_i32x4(low(high(x)), high(high(x)));
    if constexpr (T(-1) < 0)
      return bits_as<vec<T, 16>>(__builtin_wasm_narrow_s_i8x16_i16x8(first, last));
    else return bits_as<vec<T, 16>>(__builtin_wasm_narrow_u_i8x16_i16x8(first, last));
  }
}
// The bytes that the products are rounded to, if `less` and `more` have the same ones.
template <class T, class V, class I, class SLOW>
INLINE I byte_of_both(V less, V more, I first, I last, SLOW slow) {
  typedef vec<T, lanes<V>> B;
  const I one = bits_as<I>(splat<V>(0x1.8p23f));
  const B a = saturated<T>(bits_as<I>(less) - one), b = saturated<T>(bits_as<I>(more) - one);
  if (__builtin_expect(__builtin_reduce_or(a != b) != 0, 0)) return slow();
  return convert<I>(vmin(vmax(a, saturated<T>(first)), saturated<T>(last)));
}
// Out of line: it is rarely needed, and long.
template <class X, class V>
[[gnu::noinline]] vec<int32_t, lanes<X>> requantized_byte_slowly(X x, V high, V low, V first,
                                                                 V last, V zero) {
  return convert<vec<int32_t, lanes<X>>>(within_(requantized_(x, high, low), first, last) + zero);
}
#endif
template <class X, class V>
INLINE vec<int32_t, lanes<X>> requantized_byte_(X x, V high, V low, V first, V last, V zero) {
  typedef vec<int32_t, lanes<X>> I;
#if (defined(__AVX__) || defined(__wasm_simd128__)) && __has_builtin(__builtin_reduce_or)
  if constexpr (lanes<X> * sizeof(float) >= 16) {
#if defined(__FMA__)
    const float apart = 0x1p-22f;
#else
    const float apart = 0x1p-21f;
#endif
    const V one = splat<V>(0x1.8p23f), from = one + zero;
    V value;
    if constexpr (elem<X>(0.5) != 0) value = x;
    else value = convert<V>(x);
    const V less = madd(value, high * (1 - apart), from),
            more = madd(value, high * (1 + apart), from);
#if defined(__wasm_simd128__)
    const I least = convert<I>(first + zero), most = convert<I>(last + zero);
    const auto slow = [=] { return requantized_byte_slowly(x, high, low, first, last, zero); };
    if (least[0] < 0) return byte_of_both<int8_t>(less, more, least, most, slow);
    else return byte_of_both<uint8_t>(less, more, least, most, slow);
#else
    I sum = vmin(vmax(bits_as<I>(less), bits_as<I>(from + first)), bits_as<I>(from + last));
    if (__builtin_expect(__builtin_reduce_or(less != more) != 0, 0))
      sum = bits_as<I>(within_(requantized_(x, high, low), first, last) + from);
    return sum - bits_as<I>(one);  // none of whose last bits are set
#endif
  }
#endif
  return convert<I>(within_(requantized_(x, high, low), first, last) + zero);
}

//@ section product_of
// x (high + low).
template <class X, class V> struct product {
  X x;
  V high, low;
};
template <class X, class V> INLINE product<X, V> product_of_(X x, V high, V low) {
  return {x, high, low};
}

//@ section sum_of
//@ needs product_of
// The sum of two such products, each of up to 1024.
template <class V> struct two_products { product<V, V> a, b; };
template <class V> INLINE two_products<V> sum_of_(V x, V high, V low, V y, V y_high, V y_low) {
  return {{x, high, low}, {y, y_high, y_low}};
}

//@ section sum_of_rounded
//@ needs sum_of
// The same where x is a product that is rounded, ties to even, and clamped to first and last.
template <class X, class V> struct rounded_sum {
  product<X, V> x;
  V first, last;
  product<V, V> b;
  V high, low;
};
template <class X, class V>
INLINE rounded_sum<X, V> sum_of_rounded_(X x, V x_high, V x_low, V first, V last, V high, V low,
                                         V y, V y_high, V y_low) {
  return {{x, x_high, x_low}, first, last, {y, y_high, y_low}, high, low};
}

//@ section requantized_bytes
//@ needs requantized_byte requantized_small sum_of_rounded halves
// Products, or sums, that lie side by side, rounded to integers, ties to even, clamped to first and
// last, plus zero: bytes, of int8_t as bits. There are one, two or four.
template <class X, class V> INLINE V rounded_exactly(product<X, V> p, V first, V last, V zero) {
  return within_(requantized_(p.x, p.high, p.low), first, last) + zero;
}
template <class V> INLINE V rounded_exactly(two_products<V> s, V first, V last, V zero) {
  return within_(requantized_(s.a.x, s.a.high, s.a.low, s.b.x, s.b.high, s.b.low), first, last) +
      zero;
}
template <class X, class V> INLINE V rounded_exactly(rounded_sum<X, V> s, V first, V last, V zero) {
  const V x = within_(requantized_(s.x.x, s.x.high, s.x.low), s.first, s.last);
  return within_(requantized_(x, s.high, s.low, s.b.x, s.b.high, s.b.low), first, last) + zero;
}
#if defined(__AVX2__) && __has_builtin(__builtin_reduce_or)
// The integer plus zero, not clamped; `apart` gets the bits in which two roundings differ, of what is
// too small and what is too large by more than all rounding errors. Of sums these are 5 * 2^-15: both
// factors, one product, the sum and what is taken from it are rounded, and a sum above 512 is clamped.
template <class V> INLINE ints<V> rounded_twice(V less, V more, ints<V>& apart) {
  apart |= bits_as<ints<V>>(less) ^ bits_as<ints<V>>(more);
  return bits_as<ints<V>>(less) - bits_as<ints<V>>(splat<V>(0x1.8p23f));
}
template <class X, class V> INLINE V less_of(product<X, V> p, V from, V& more) {
  V value;
  if constexpr (elem<X>(0.5) != 0) value = p.x;
  else value = convert<V>(p.x);
  more = madd(value, p.high * (1 + 0x1p-22f), from);
  return madd(value, p.high * (1 - 0x1p-22f), from);
}
template <class V> INLINE V less_of(two_products<V> s, V from, V& more) {
  const V sum = madd(s.a.x, s.a.high, s.b.x * s.b.high), error = splat<V>(0x1.8p-13f);
  more = (sum + error) + from;
  return (sum - error) + from;
}
template <class P, class V> INLINE ints<V> rounded_twice(P p, V zero, ints<V>& apart) {
  V more;
  const V less = less_of(p, splat<V>(0x1.8p23f) + zero, more);
  return rounded_twice(less, more, apart);
}
template <class X, class V>
INLINE ints<V> rounded_twice(rounded_sum<X, V> s, V zero, ints<V>& apart) {
  const V one = splat<V>(0x1.8p23f);
  V more;
  const V less = less_of(s.x, one, more);
  apart |= bits_as<ints<V>>(less) ^ bits_as<ints<V>>(more);
  const two_products<V> sum = {{within_(less - one, s.first, s.last), s.high, s.low}, s.b};
  return rounded_twice(sum, zero, apart);
}
template <class P, class V> [[gnu::noinline]] ints<V> rounded_slowly(P p, V first, V last, V zero) {
  return convert<ints<V>>(rounded_exactly(p, first, last, zero));
}
// Integers as bytes, those beyond a byte as its ends: 32 bits to 16, then 16 to 8. Either leaves four
// of each vector in 16 bytes, and a permutation puts them in order.
template <class V>
INLINE vec<uint8_t, 4 * lanes<V>> bytes_of_four(ints<V> a, ints<V> b, ints<V> c, ints<V> d, V first,
                                                V last) {
  typedef ints<V> I;
  typedef vec<int8_t, 4 * lanes<V>> S;
  typedef vec<uint8_t, 4 * lanes<V>> U;
  const int least = static_cast<int>(first[0]), most = static_cast<int>(last[0]);
  I y, order;
  if constexpr (sizeof(I) == 64) {
    order = I{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    asm("vpackssdw %1, %0, %0" : "+v"(a) : "v"(b));
    asm("vpackssdw %1, %0, %0" : "+v"(c) : "v"(d));
    if (least < 0) asm("vpacksswb %2, %1, %0" : "=v"(y) : "v"(a), "v"(c));
    else asm("vpackuswb %2, %1, %0" : "=v"(y) : "v"(a), "v"(c));
    asm("vpermd %0, %1, %0" : "+v"(y) : "v"(order));
  } else {
    order = I{0, 4, 1, 5, 2, 6, 3, 7};
    asm("vpackssdw %1, %0, %0" : "+x"(a) : "x"(b));
    asm("vpackssdw %1, %0, %0" : "+x"(c) : "x"(d));
    if (least < 0) asm("vpacksswb %2, %1, %0" : "=x"(y) : "x"(a), "x"(c));
    else asm("vpackuswb %2, %1, %0" : "=x"(y) : "x"(a), "x"(c));
    asm("vpermd %0, %1, %0" : "+x"(y) : "x"(order));
  }
  if (least < 0) {
    S bytes = bits_as<S>(y);
    if (least > -128) bytes = vmax(bytes, splat<S>(static_cast<int8_t>(least)));
    if (most < 127) bytes = vmin(bytes, splat<S>(static_cast<int8_t>(most)));
    return bits_as<U>(bytes);
  }
  U bytes = bits_as<U>(y);
  if (least > 0) bytes = vmax(bytes, splat<U>(static_cast<uint8_t>(least)));
  if (most < 255) bytes = vmin(bytes, splat<U>(static_cast<uint8_t>(most)));
  return bytes;
}
template <class I> INLINE bool any(I bits) { return __builtin_reduce_or(bits != 0) != 0; }
template <class V, class P>
INLINE vec<uint8_t, 4 * lanes<V>> requantized_bytes_(V first, V last, V zero, P a, P b, P c, P d) {
  ints<V> apart{}, w = rounded_twice(a, zero, apart), x = rounded_twice(b, zero, apart),
                   y = rounded_twice(c, zero, apart), z = rounded_twice(d, zero, apart);
  if (__builtin_expect(any(apart), 0)) {
    w = rounded_slowly(a, first, last, zero), x = rounded_slowly(b, first, last, zero);
    y = rounded_slowly(c, first, last, zero), z = rounded_slowly(d, first, last, zero);
  }
  return bytes_of_four<V>(w, x, y, z, first + zero, last + zero);
}
template <class V, class P>
INLINE vec<uint8_t, 2 * lanes<V>> requantized_bytes_(V first, V last, V zero, P a, P b) {
  ints<V> apart{}, x = rounded_twice(a, zero, apart), y = rounded_twice(b, zero, apart);
  if (__builtin_expect(any(apart), 0))
    x = rounded_slowly(a, first, last, zero), y = rounded_slowly(b, first, last, zero);
  return low(bytes_of_four<V>(x, y, x, y, first + zero, last + zero));
}
template <class V, class P>
INLINE vec<uint8_t, lanes<V>> requantized_bytes_(V first, V last, V zero, P a) {
  ints<V> apart{}, y = rounded_twice(a, zero, apart);
  if (__builtin_expect(any(apart), 0)) y = rounded_slowly(a, first, last, zero);
  const auto least = convert<ints<V>>(first + zero), most = convert<ints<V>>(last + zero);
  return convert<vec<uint8_t, lanes<V>>>(vmin(vmax(y, least), most));
}
#else
template <class V, class P>
INLINE vec<uint8_t, lanes<V>> requantized_bytes_(V first, V last, V zero, P a) {
  return convert<vec<uint8_t, lanes<V>>>(convert<ints<V>>(rounded_exactly(a, first, last, zero)));
}
template <class V, class P> INLINE auto requantized_bytes_(V first, V last, V zero, P a, P b) {
  return join(requantized_bytes_(first, last, zero, a), requantized_bytes_(first, last, zero, b));
}
template <class V, class P>
INLINE auto requantized_bytes_(V first, V last, V zero, P a, P b, P c, P d) {
  return join(requantized_bytes_(first, last, zero, a, b),
              requantized_bytes_(first, last, zero, c, d));
}
#endif

//@ section trunc
//@ needs rounding
// x rounded towards zero, exact.
template <class V> INLINE V trunc_(V x) { return rounded<to_zero>(x); }

//@ section fmod
//@ needs constants
// a - b trunc(a / b), exact, with the sign of a: long division of the mantissas, as many bits at a
// time as fit in 64-bit integers. Lane by lane.
template <class T> [[maybe_unused]] inline T fmod_of_one(T a, T b) {
  typedef uints<T> U;
  constexpr int mantissa = sizeof(T) == 4 ? 23 : 52;
  constexpr U one = U{1} << mantissa, sign = U{1} << (8 * sizeof(T) - 1), inf = sign - one;
  const U x = bits_as<U>(a) & ~sign, y = bits_as<U>(b) & ~sign;
  if (x >= inf || y > inf || y == 0) return constants<T>::nan;
  if (x < y) return a;
  U exponent = y >= one ? y >> mantissa : 1;
  U more = (x >= one ? x >> mantissa : 1) - exponent;
  const uint64_t divisor = y >= one ? y % one + one : y;
  uint64_t rest = (x >= one ? x % one + one : x) % divisor;
  while (more > 0 && rest > 0) {
    const U step = more < 63 - mantissa ? more : 63 - mantissa;
    rest = (rest << step) % divisor;
    more -= step;
  }
  if (rest == 0) exponent = 0;
  for (; rest < one && exponent > 1; exponent--) rest <<= 1;
  const U magnitude =
      rest < one ? static_cast<U>(rest) : static_cast<U>(rest) - one + exponent * one;
  return bits_as<T>(static_cast<U>(magnitude | (bits_as<U>(a) & sign)));
}
template <class V> INLINE V fmod_(V a, V b) {
  elem<V> x[lanes<V>], y[lanes<V>];
  __builtin_memcpy(x, &a, sizeof x);
  __builtin_memcpy(y, &b, sizeof y);
  for (int i = 0; i < lanes<V>; i++) x[i] = fmod_of_one(x[i], y[i]);
  __builtin_memcpy(&a, x, sizeof x);
  return a;
}

//@ section sqrt
//@ needs halves
// The square root, correctly rounded: the machine's instruction.
template <class V> INLINE V sqrt_(V x) {
#if __has_builtin(__builtin_elementwise_sqrt)
  return __builtin_elementwise_sqrt(x);
#elif defined(__SSE2__)
  constexpr bool is_float = sizeof(elem<V>) == 4;
  if constexpr (sizeof(V) < 16) return low(sqrt_(join(x, x)));
  else if constexpr (sizeof(V) == 16 && is_float) return __builtin_ia32_sqrtps(x);
  else if constexpr (sizeof(V) == 16) return __builtin_ia32_sqrtpd(x);
#if defined(__AVX__)
  else if constexpr (sizeof(V) == 32 && is_float) return __builtin_ia32_sqrtps256(x);
  else if constexpr (sizeof(V) == 32) return __builtin_ia32_sqrtpd256(x);
#endif
#if defined(__AVX512F__) && defined(__clang__)  // before clang 17
  else if constexpr (sizeof(V) == 64 && is_float) return __builtin_ia32_sqrtps512(x, 4);
  else if constexpr (sizeof(V) == 64) return __builtin_ia32_sqrtpd512(x, 4);
#elif defined(__AVX512F__)
  else if constexpr (sizeof(V) == 64 && is_float)
    return __builtin_ia32_sqrtps512_mask(x, x, static_cast<uint16_t>(-1), 4);
  else if constexpr (sizeof(V) == 64)
    return __builtin_ia32_sqrtpd512_mask(x, x, static_cast<uint8_t>(-1), 4);
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

//@ section scaled
#if defined(__AVX512F__)
// x 2^(the greatest integer not above n), rounded once.
INLINE vec<float, 16> scaled(vec<float, 16> x, vec<float, 16> n) {
  vec<float, 16> y;
  asm("vscalefps %2, %1, %0" : "=v"(y) : "v"(x), "v"(n));
  return y;
}
#endif

//@ section power_of_two
//@ needs scaled
// 2^n for normal results: -126 <= n <= 127 for float, -1022 <= n <= 1023 for double.
template <class V> INLINE V power_of_two(ints<V> n) {
  if constexpr (sizeof(elem<V>) == 4) return bits_as<V>((bits_as<uints<V>>(n) + 127u) << 23);
  else return bits_as<V>((bits_as<uints<V>>(n) + 1023u) << 52);
}
// x 2^n, exact unless the result is denormal or overflows: applied in two steps, of which only the
// last rounds.
template <class V> INLINE V times_power_of_two(V x, ints<V> n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64 && sizeof(elem<V>) == 4)
    return scaled(x, __builtin_convertvector(n, V));
#endif
  const ints<V> half_n = n >> 1;
  return x * power_of_two<V>(half_n) * power_of_two<V>(n - half_n);
}

//@ section exp_parts
//@ needs madd
// x = n ln2 + r with an integer n and |r| <= ln2 / 2, for |x| <= 2^15. Adding 1.5 * 2^23 rounds to
// an integer, which appears in the low bits.
template <class V> struct exp_parts {
  V r;
  ints<V> n;
};
template <class V> INLINE exp_parts<V> split_exp(V x) {
  static_assert(sizeof(elem<V>) == 4,
                "float only: for double paste the section with _f64 behind its name");
  const V shift = splat<V>(0x1.8p23f), shifted = madd(x, splat<V>(0x1.715476p0f), shift),
          n = shifted - shift;
  const V r = madd(n, splat<V>(-0x1.0bfbe8p-15f),
                   madd(n, splat<V>(-0x1.62ep-1f), x));  // n * 0x1.62ep-1 is exact
  return {r, bits_as<ints<V>>(shifted) - bits_as<ints<V>>(shift)};
}

//@ section exp_by_roots
//@ needs scaled madd look_up_16
#if defined(__AVX512F__)
// 2^(k/16)
constexpr vec<float, 16> kRootsOfTwo = {
    1.0f,           0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f, 0x1.306fep+0f,  0x1.3dea64p+0f,
    0x1.4bfdaep+0f, 0x1.5ab07ep+0f, 0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f,
    0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};

// e^x 2^k for -105 <= x <= 90: x is n ln2 + r with 16 n an integer, whose low bits look up a root,
// so that |r| <= ln2 / 32 needs three terms of the series.
INLINE vec<float, 16> exp_by_roots(vec<float, 16> x, int k) {
  typedef vec<float, 16> V;
  const V shift = splat<V>(0x1.8p19f), shifted = madd(x, splat<V>(0x1.715476p0f), shift),
          n = shifted - shift;
  const V r = madd(n, splat<V>(-0x1.0bfbe8p-15f), madd(n, splat<V>(-0x1.62ep-1f), x));
  const V root = look_up_16(kRootsOfTwo, bits_as<ints<V>>(shifted));
  const V power = madd(r * r, madd(r, splat<V>(0x1.555556p-3f), splat<V>(0x1.00022p-1f)), r);
  return scaled(madd(root, power, root), k == 0 ? n : n + static_cast<float>(k));
}
#endif

//@ section exp_shifted
//@ needs exp_parts power_of_two horner vmin vmax exp_by_roots
// e^x 2^k for small k.
template <class V> INLINE V exp_reduced(V r, ints<V> n) {  // e^r 2^n
  return times_power_of_two(horner(r, 1.0f, 1.0f, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558b2p-5f,
                                   0x1.12399p-7f, 0x1.6a4aa6p-10f),
                            n);
}
template <class V> INLINE V exp_shifted(V x, int k) {
  const V within = vmin(splat<V>(90), vmax(splat<V>(-105), x));
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64 && sizeof(elem<V>) == 4) return exp_by_roots(within, k);
#endif
  const exp_parts<V> p = split_exp(within);
  return exp_reduced(p.r, p.n + k);
}

//@ section exp
//@ needs exp_shifted
// e^x, 1.2 ulp: e^r 2^n.
template <class V> INLINE V exp_(V x) { return exp_shifted(x, 0); }

//@ section exp_parts_f64
//@ needs exp_parts
// x = n ln2 + r for double.
INLINE exp_parts<double> split_exp(double x) {
  const double shift = 0x1.8p52, shifted = x * 0x1.71547652b82fep0 + shift, n = shifted - shift;
  return {(x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33,
          bits_as<int64_t>(shifted) - bits_as<int64_t>(shift)};
}

//@ section exp_f64
//@ needs exp_parts exp_parts_f64 power_of_two horner vmin vmax
// e^x, 2 ulp: Taylor's series of e^r.
INLINE double exp_shifted(double x, int k) {
  const exp_parts<double> p = split_exp(vmin(712.0, vmax(-750.0, x)));
  const double q = horner(p.r, 1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720,
                          1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800,
                          1.0 / 479001600, 1.0 / 6227020800);
  return times_power_of_two(q, p.n + k);
}
INLINE double exp_(double x) { return exp_shifted(x, 0); }

//@ section exp2
//@ needs exp_shifted vmin vmax
// 2^x, 1.2 ulp: 2^n e^(ln2 (x - n)).
template <class V> INLINE V exp2_(V x) {
  const V y = vmin(splat<V>(129), vmax(splat<V>(-151), x)), shift = splat<V>(0x1.8p23f),
          shifted = y + shift;
  return exp_reduced((y - (shifted - shift)) * 0x1.62e43p-1f,
                     bits_as<ints<V>>(shifted) - bits_as<ints<V>>(shift));
}

//@ section exp2_f64
//@ needs exp_f64 round vmin vmax
// 2^x, 2 ulp: 2^n e^(ln2 (x - n)).
INLINE double exp2_(double x) {
  const double y = vmin(1026.0, vmax(-1080.0, x)), n = round_(y);
  return n == n ? times_power_of_two(exp_((y - n) * 0x1.62e42fefa39efp-1), static_cast<int64_t>(n))
                : n;
}

//@ section expm1
//@ needs exp_parts power_of_two horner abs vmin vmax
// e^x - 1, 1.5 ulp: 2 (2^(n-1) (e^r - 1) + 2^(n-1) - 1/2); the factor 2 is outside because 2^128 is
// not a float.
template <class V> INLINE V expm1_(V x) {
  const exp_parts<V> p = split_exp(vmin(splat<V>(89), vmax(splat<V>(-20), x)));
  const V q = horner(p.r, 0x1p-1f, 0x1.555554p-3f, 0x1.5554f8p-5f, 0x1.1112d6p-7f, 0x1.6d3a5ep-10f,
                     0x1.9e775cp-13f);
  const V scale = power_of_two<V>(p.n - 1), y = madd(scale, madd(p.r * p.r, q, p.r), scale - 0.5f);
  return select(abs_(x) < 0x1p-25f, x, y + y);
}

//@ section expm1_f64
//@ needs exp_f64 abs
// e^x - 1, 5 ulp: Taylor's series for |x| < 0.35, else e^x - 1.
INLINE double expm1_(double x) {
  if (!(abs_(x) < 0.35)) return exp_(x) - 1;
  const double q = horner(x, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040,
                          1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600,
                          1.0 / 6227020800, 1.0 / 87178291200);
  return x == 0 ? x : x + x * x * q;
}

//@ section sigmoid
//@ needs exp abs madd
// 1 / (1 + e^-x), 2 ulp: with e = e^-|x| and q = e / (1 + e) it is 1 - q on the right and e - e q
// on the left, where the tail keeps its precision.
template <class V> INLINE V sigmoid_(V x) {
  const V one = splat<V>(1), e = exp_(-abs_(x)), q = e / (one + e), limit = select(x < V{}, e, one);
  return madd(-limit, q, limit);
}

//@ section sigmoid_f64
//@ needs exp_f64 sigmoid
// sigmoid_ of a double: the template above, 4 ulp.

//@ section exp2_fast
//@ needs horner
// 2^x for -125 <= x <= 126, 1 ulp; garbage for NaN.
template <class V> INLINE V exp2_fast(V x) {
  const V shift = splat<V>(0x1.8p23f), shifted = x + shift, f = x - (shifted - shift);
  const V q = horner(f, 1.0f, 0x1.62e43p-1f, 0x1.ebfbdcp-3f, 0x1.c6af7ap-5f, 0x1.3b2dep-7f,
                     0x1.5f09a4p-10f, 0x1.416d1cp-13f);
  return bits_as<V>(bits_as<uints<V>>(q) + (bits_as<uints<V>>(shifted) << 23));
}

//@ section tanh
//@ needs exp2_fast abs vmin
// tanh x, 1.8 ulp: an odd polynomial for |x| < 0.6, else 1 - 2 / (e^(2|x|) + 1).
template <class V> INLINE V tanh_(V x) {
  const V a = vmin(splat<V>(9.1f), abs_(x)), u = a * a;
  const V odd = madd(
      a * u,
      horner(u, -0x1.55553ep-2f, 0x1.1109bep-3f, -0x1.b89ab4p-5f, 0x1.54c36ap-6f, -0x1.8285p-8f),
      a);
  const V rest = 2.0f / (exp2_fast(a * 0x1.715476p1f) + 1.0f);
  return with_sign(select(a >= 0.6f, 1.0f - rest, odd), x);
}

//@ section tanh_f64
//@ needs expm1_f64 vmin
// tanh x, 6 ulp: t / (t + 2) with t = e^(2|x|) - 1.
INLINE double tanh_(double x) {
  const double t = expm1_(2 * vmin(20.0, abs_(x)));
  return with_sign(t / (t + 2), x);
}

//@ section erf
//@ needs exp2_fast abs vmin
// erf x, 1.6 ulp: an odd polynomial for |x| < 1, else 1 - 2^-p(|x|). The split is that of N.
// Juffa's erff.
template <class V> INLINE V erf_(V x) {
  const V a = vmin(splat<V>(3.95f), abs_(x)), u = a * a;
  const V odd = horner(u, 0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2ce6p-4f, -0x1.b7f71ap-6f,
                       0x1.53f224p-8f, -0x1.a3515ep-11f, 0x1.4771fep-14f);
  const V rest = exp2_fast(horner(a, -0x1.f90c72p-9f, -0x1.9cb45cp0f, -0x1.e37126p-1f,
                                  -0x1.05e39p-3f, 0x1.5d5438p-6f, -0x1.b31d44p-10f));
  return with_sign(select(a >= 1.0f, 1.0f - rest, madd(a, odd, a)), x);
}

//@ section erfc_parts
//@ needs abs vmin madd look_up_16
#if defined(__AVX512F__)
// erfc |x| where |x| is k / 3.47 + t / 3.47, |t| <= 1/2: polynomials of t, the coefficients of
// each k of a power in a vector; 0 from 14.5 / 3.47 on.
constexpr vec<float, 16> kErfc0 = {
    0x1p+0f,         0x1.5e00fp-1f,   0x1.a8f86ap-2f,  0x1.c58b4p-3f,
    0x1.a61d98p-4f,  0x1.549068p-5f,  0x1.da38f6p-7f,  0x1.1bef2cp-8f,
    0x1.239d04p-10f, 0x1.00576cp-12f, 0x1.811934p-15f, 0x1.edb53p-18f,
    0x1.0dca7cp-20f, 0x1.f64caep-24f, 0x1.8dff86p-27f, 0};
constexpr vec<float, 16> kErfc1 = {
    -0x1.4cfc54p-2f,  -0x1.3272c4p-2f,  -0x1.ddbadap-3f,  -0x1.3b6292p-3f,
    -0x1.60b0a8p-4f,  -0x1.4e0c46p-5f,  -0x1.0bf894p-6f,  -0x1.6c220cp-8f,
    -0x1.a3140ap-10f, -0x1.98802cp-12f, -0x1.51400ep-14f, -0x1.d7a198p-17f,
    -0x1.174eb2p-19f, -0x1.18303cp-22f, -0x1.dc1b18p-26f, 0};
constexpr vec<float, 16> kErfc2 = {
    0x1.34380ap-31f, 0x1.973202p-6f,  0x1.3d65b6p-5f,  0x1.3a4fd2p-5f,
    0x1.d4a95cp-6f,  0x1.156f3ap-6f,  0x1.0b113p-7f,   0x1.a7611p-9f,
    0x1.166bdep-10f, 0x1.3149ap-12f,  0x1.17ffeap-14f, 0x1.aea064p-17f,
    0x1.161ebp-19f,  0x1.2e1ee8p-22f, 0x1.1448cep-25f, 0};
constexpr vec<float, 16> kErfc3 = {
    0x1.26f94cp-7f,   0x1.c4bcfap-8f,   0x1.1c08d8p-9f,   -0x1.148668p-9f,
    -0x1.02eeaep-8f,  -0x1.d26cfep-9f,  -0x1.2784a6p-9f,  -0x1.1fdcb2p-10f,
    -0x1.bef76ap-12f, -0x1.19c0f2p-13f, -0x1.239c6ep-15f, -0x1.f310d8p-18f,
    -0x1.62cd9ep-20f, -0x1.a49b98p-23f, -0x1.a0cec4p-26f, 0};
constexpr vec<float, 16> kErfc4 = {
    -0x1.986922p-29f, -0x1.fa2bccp-11f, -0x1.45ce52p-10f, -0x1.a1c15ep-11f,
    -0x1.23faaep-13f, 0x1.168c16p-12f,  0x1.5e3f06p-12f,  0x1.e1ce74p-13f,
    0x1.d942a4p-14f,  0x1.65babep-15f,  0x1.ae149ap-17f,  0x1.a299ccp-19f,
    0x1.4d76fep-21f,  0x1.b601c4p-24f,  0x1.dcbccp-27f,   0};
constexpr vec<float, 16> kErfc5 = {
    -0x1.d248d6p-13f, -0x1.215b46p-13f, 0x1.ea7eeap-16f,  0x1.12b0eep-13f,
    0x1.e377fp-14f,   0x1.6b9782p-15f,  -0x1.677b7ep-17f, -0x1.b17d92p-16f,
    -0x1.3f0454p-16f, -0x1.33b37ep-17f, -0x1.b92002p-19f, -0x1.ed2f7p-21f,
    -0x1.b89dc8p-23f, -0x1.3f1f3ap-25f, -0x1.7a410ep-28f, 0};

INLINE vec<float, 16> erfc_of_parts(vec<float, 16> x) {
  typedef vec<float, 16> V;
  const V shift = splat<V>(0x1.8p23f), inverse = splat<V>(3.47f);
  const V b = vmin(splat<V>(15 / 3.47f), abs_(x)), shifted = madd(b, inverse, shift);
  const V t = madd(b, inverse, shift - shifted);
  const ints<V> k = bits_as<ints<V>>(shifted);
  V e = look_up_16(kErfc5, k);
  e = madd(e, t, look_up_16(kErfc4, k));
  e = madd(e, t, look_up_16(kErfc3, k));
  e = madd(e, t, look_up_16(kErfc2, k));
  e = madd(e, t, look_up_16(kErfc1, k));
  return madd(e, t, look_up_16(kErfc0, k));
}
#endif

//@ section erf_plus_one
//@ needs exp2_fast abs vmin madd erfc_parts
// 1 + erf x with an error of 1.3e-7: erfc |x| serves both signs, since 1 + erf x is erfc |x| for
// x < 0 and 2 - erfc |x| else. It is 2^p(|x|), or where a register holds a table, polynomials of
// parts of the axis.
template <class V> INLINE V erf_plus_one_(V x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) {
    const V e = erfc_of_parts(x);
    return select(x < 0.0f, e, 2.0f - e);
  }
#endif
  const V a = vmin(splat<V>(4.2f), abs_(x));
  const V e =
      exp2_fast(a *
                horner(a, -0x1.a0be9ep+0f, -0x1.d63aacp-1f, -0x1.301722p-3f, 0x1.cee886p-6f,
                       -0x1.9620fep-11f, -0x1.8672cp-10f, 0x1.d32610p-12f, -0x1.7c7edcp-15f));
  const V below = select(x < -4.2f, splat<V>(0.0f), e);  // large numbers are multiplied by it
  return select(x == x, select(x < 0.0f, below, 2.0f - e), x);
}

//@ section erf_f64
//@ needs exp_f64 abs vmin
// erf x, 1e-14: for |x| < 3 the series 2 x e^(-x^2) / sqrt(pi) (1 + 2 x^2 / 3 + (2 x^2)^2 / (3 5) +
// ...), whose terms are all positive; else 1 minus the continued fraction e^(-x^2) / sqrt(pi) / (x
// + (1/2) / (x + (2/2) / (x + (3/2) / (x + ...)))). (Abramowitz and Stegun 7.1.6 and 7.1.14.)
[[maybe_unused]] inline double erf_(double x) {
  const double a = vmin(6.0, abs_(x));
  if (!(a >= 3)) {
    double term = 1, sum = 1;
    for (int i = 3; term > 0x1p-56 * sum; i += 2) {
      term *= 2 * a * a / i;
      sum += term;
    }
    return 0x1.20dd750429b6dp0 * x * exp_(-a * a) * sum;
  }
  double fraction = a;
  for (int i = 40; i > 0; i--) fraction = a + 0.5 * i / fraction;
  return with_sign(1 - exp_(-a * a) * 0x1.20dd750429b6dp-1 / fraction, x);
}

//@ section log_parts
//@ needs horner convert
// x = 2^e m with m in [3/4, 3/2), for positive normal x; log_sum is log(1 + f) + e ln2 for f in
// [-1/4, 1/2].
template <class V> struct log_parts {
  V m, e;
  uints<V> exponent_bits;
};
template <class V> INLINE log_parts<V> split_log(V x) {
  static_assert(sizeof(elem<V>) == 4,
                "float only: for double paste the section with _f64 behind its name");
  const uints<V> exponent_bits =
      (bits_as<uints<V>>(x) - 0x3f400000u) & 0xff800000u;  // 0x3f400000 is 3/4
  return {bits_as<V>(bits_as<uints<V>>(x) - exponent_bits),
          convert<V>(bits_as<ints<V>>(exponent_bits) >> 23), exponent_bits};
}
template <class V> INLINE V log_sum(V f, V e) {
  const V q = horner(f, 0x1.5555a4p-2f, -0x1.00004ap-2f, 0x1.99699ep-3f, -0x1.54ed96p-3f,
                     0x1.28807ap-3f, -0x1.0d98fp-3f, 0x1.acf4aap-4f, -0x1.71e334p-5f);
  const V y = madd(f * f, madd(f, q, splat<V>(-0.5f)), f);
  return madd(e, splat<V>(0x1.62ep-1f),
              madd(e, splat<V>(0x1.0bfbe8p-15f), y));  // ln2 in two parts; e * 0x1.62ep-1 is exact
}

//@ section log
//@ needs log_parts constants
// log x, 1 ulp.
template <class V> INLINE V log_(V x) {
  typedef constants<float> c;
  const auto denormal = x < 0x1p-126f;
  const log_parts<V> p = split_log(select(denormal, x * 0x1p24f, x));
  const V y = log_sum(p.m - 1.0f, select(denormal, p.e - 24.0f, p.e));
  const V not_positive = select(x == V{}, splat<V>(-c::inf), splat<V>(c::nan));
  return select(x > V{}, select(x < c::inf, y, x), not_positive);
}

//@ section log_f64
//@ needs horner constants
// log x, 2 ulp: e ln2 + 2 atanh((m - 1) / (m + 1)) with x = 2^e m and m in [sqrt(1/2), sqrt(2)).
INLINE double log_(double x) {
  typedef constants<double> c;
  if (!(x > 0)) return x == 0 ? -c::inf : c::nan;
  if (!(x < c::inf)) return x;
  const bool denormal = x < 0x1p-1022;
  const uint64_t bits = bits_as<uint64_t>(denormal ? x * 0x1p54 : x),
                 exponent_bits = (bits - 0x3fe6a09e00000000u) & 0xfff0000000000000u;
  const double e = static_cast<double>((bits_as<int64_t>(exponent_bits) >> 52) -
                                       (denormal ? 54 : 0)),
               f = bits_as<double>(bits - exponent_bits) - 1;
  const double s = f / (2 + f), u = s * s;
  const double q = horner(u, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13, 1.0 / 15,
                          1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23);
  return e * 0x1.62e42feep-1 + (2 * s + (2 * s * u * q + e * 0x1.a39ef35793c76p-33));
}

//@ section log2
//@ needs log_parts constants
// log2 x, 2.7 ulp: e + log(1 + f) log2(e), with log2(e) in two parts.
template <class V> INLINE V log2_(V x) {
  typedef constants<float> c;
  const auto denormal = x < 0x1p-126f;
  const log_parts<V> p = split_log(select(denormal, x * 0x1p24f, x));
  const V y = log_sum(p.m - 1.0f, V{}), e = select(denormal, p.e - 24.0f, p.e);
  const V z = madd(y, splat<V>(0x1.715p0f), e) + y * 0x1.1d94aep-14f;
  const V not_positive = select(x == V{}, splat<V>(-c::inf), splat<V>(c::nan));
  return select(x > V{}, select(x < c::inf, z, x), not_positive);
}

//@ section log2_f64
//@ needs log_f64
// log2 x, 4 ulp; exact for powers of two.
INLINE double log2_(double x) {
  if (!(x > 0) || !(x < constants<double>::inf)) return log_(x);
  const bool denormal = x < 0x1p-1022;
  const uint64_t bits = bits_as<uint64_t>(denormal ? x * 0x1p54 : x),
                 exponent_bits = (bits - 0x3fe6a09e00000000u) & 0xfff0000000000000u;
  const double e =
      static_cast<double>((bits_as<int64_t>(exponent_bits) >> 52) - (denormal ? 54 : 0));
  return e + log_(bits_as<double>(bits - exponent_bits)) * 0x1.71547652b82fep0;
}

//@ section log1p
//@ needs log_parts constants abs
// log(1 + x), 1.3 ulp: u = 1 + x chooses e; then 1 + f = 2^-e (1 + x), computed as f = 2^-e x +
// (2^-e - 1), is not affected by u's rounding. (N. Juffa.)
template <class V> INLINE V log1p_(V x) {
  typedef constants<float> c;
  const log_parts<V> p = split_log(x + 1.0f);
  const V scaled_x = bits_as<V>(bits_as<uints<V>>(x) - p.exponent_bits),
          four_scaled = bits_as<V>(0x40800000u - p.exponent_bits);
  const V y = log_sum(scaled_x + madd(four_scaled, splat<V>(0.25f), splat<V>(-1)), p.e);
  const V outside = select(x == -1.0f, splat<V>(-c::inf), splat<V>(c::nan));
  return select(abs_(x) < 0x1p-25f, x, select(x > -1.0f, select(x < c::inf, y, x), outside));
}

//@ section log1p_f64
//@ needs log_f64 abs
// log(1 + x), 4 ulp: log u + (1 + x - u) / u with u the rounded 1 + x.
INLINE double log1p_(double x) {
  const double u = 1 + x;
  if (abs_(x) < 0x1p-54 || !(u > 0) || !(u < constants<double>::inf))
    return abs_(x) < 0x1p-54 ? x : log_(u);
  return log_(u) + (x - (u - 1)) / u;
}

//@ section softplus
//@ needs exp log1p abs vmax
// log(1 + e^x), 1.9 ulp: max(x, 0) + log(1 + e^-|x|).
template <class V> INLINE V softplus_(V x) { return vmax(V{}, x) + log1p_(exp_(-abs_(x))); }

//@ section softplus_f64
//@ needs exp_f64 log1p_f64 softplus
// softplus_ of a double: the template above, 4 ulp.

//@ section angle
//@ needs horner hmax abs convert
// x = n pi/2 + r with an integer n and |r| <= pi/4, in double. For |x| <= 2^26 by Cody and Waite's
// subtraction of two parts of pi/2. Beyond, each lane on its own by Payne and Hanek's method: x
// 2/pi modulo 4 from the 96 bits of 2/pi that matter. The two lowest bits of n are correct.
template <class V> using doubles = vec<double, lanes<V>>;
template <class V> struct angle {
  doubles<V> r;
  ints<doubles<V>> n;
};

[[maybe_unused, gnu::noinline]] void reduce_large_angle(float x, double* r, int64_t* n) {
  static const uint32_t two_over_pi[] = {0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u,
                                         0xdb629599u, 0x3c439041u, 0xfe5163abu};
  const uint32_t bits = bits_as<uint32_t>(x), exponent = (bits >> 23) & 255u;
  if (exponent < 127 + 26 || exponent == 255) return;
  const uint64_t m = (bits & 0x7fffffu) | 0x800000u;  // |x| = m 2^e with e = exponent - 150
  const uint32_t first =
      exponent - 150u - 2u;  // the bits of 2/pi before this one give multiples of 4
  uint64_t w[3];
  for (uint32_t i = 0; i < 3; i++) {
    const uint32_t* const t = two_over_pi + first / 32 + i;
    w[i] = ((((static_cast<uint64_t>(t[0]) << 32) | t[1]) << first % 32) >> 32) & 0xffffffffu;
  }
  const uint64_t turns =
      (m * w[0] << 32) + m * w[1] + (m * w[2] >> 32);  // |x| 2/pi modulo 4, in units of 2^-62
  const uint64_t quarter = (turns + (uint64_t{1} << 61)) >> 62;
  const double rest =
      static_cast<double>(static_cast<int64_t>(turns - (quarter << 62))) * 0x1.921fb54442d18p-62;
  *r = x < 0 ? -rest : rest;
  *n = x < 0 ? -static_cast<int64_t>(quarter) : static_cast<int64_t>(quarter);
}

template <class V> INLINE angle<V> reduce_angle(V x) {
  typedef doubles<V> D;
  static_assert(sizeof(elem<V>) == 4,
                "float only: for double paste the section with _f64 behind its name");
  const D d = convert<D>(x), shift = splat<D>(0x1.8p52),
          shifted = madd(d, splat<D>(0x1.45f306dc9c883p-1), shift), n = shifted - shift;
  angle<V> a = {madd(n, splat<D>(-0x1.10b4611a62633p-30), madd(n, splat<D>(-0x1.921fb54p0), d)),
                bits_as<ints<D>>(shifted)};
  const V magnitude = abs_(x), finite = select(magnitude < __builtin_inff(), magnitude, V{});
  if (__builtin_expect(hmax(finite) > 0x1p26f, false)) {
    float in[lanes<V>];
    double r[lanes<V>];
    int64_t quarters[lanes<V>];
    __builtin_memcpy(in, &x, sizeof in);
    __builtin_memcpy(r, &a.r, sizeof r);
    __builtin_memcpy(quarters, &a.n, sizeof quarters);
    for (int i = 0; i < lanes<V>; i++) reduce_large_angle(in[i], &r[i], &quarters[i]);
    __builtin_memcpy(&a.r, r, sizeof r);
    __builtin_memcpy(&a.n, quarters, sizeof quarters);
  }
  return a;
}

//@ section sin_cos
//@ needs angle sign
// sin(r + quarter pi/2) for the reduced angle.
template <class V> INLINE V sin_of_angle(angle<V> a, int quarter) {
  const V r = convert<V>(a.r), u = r * r;
  const uints<V> n = bits_as<uints<V>>(convert<ints<V>>(a.n)) + static_cast<uint32_t>(quarter);
  const V sine = madd(r * u, horner(u, -0x1.555546p-3f, 0x1.110776p-7f, -0x1.9952f8p-13f), r);
  const V cosine = madd(u * u, horner(u, 0x1.55554ap-5f, -0x1.6c0c28p-10f, 0x1.99e80cp-16f),
                        madd(u, splat<V>(-0.5f), splat<V>(1)));
  const V y = select((n & 1u) == uints<V>{}, sine, cosine);
  return bits_as<V>(bits_as<uints<V>>(y) ^ ((n & 2u) << 30));
}

//@ section sin_cos_f64
//@ needs horner trunc fmod convert
// sin(x + quarter pi/2) for double, 1e-15 for |x| < 2^20, then an absolute error of |x| 2^-53, and
// finite for every finite x: x = n pi/2 + r by Cody and Waite's subtraction of three parts of pi/2;
// Taylor's series of sin r and cos r.
[[maybe_unused]] inline double sin_of(double x, int quarter) {
  const double y = abs_(x) < 0x1p30 ? x : fmod_(x, 0x1.921fb54442d18p2),
               n = trunc_(y * 0x1.45f306dc9c883p-1 + (y < 0 ? -0.5 : 0.5));
  if (!(n == n)) return n;
  const double r = ((y - n * 0x1.921fb544p0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69,
               u = r * r;
  const int64_t k = static_cast<int64_t>(n) + quarter;
  const double sine = r +
      r * u *
          horner(u, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800,
                 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000);
  const double cosine = horner(u, 1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800,
                               1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000);
  const double value = k & 1 ? cosine : sine;
  return k & 2 ? -value : value;
}

//@ section sin
//@ needs sin_cos
// sin x, 1.6 ulp for every float. Branch-free for |x| <= 2^26.
template <class V> INLINE V sin_(V x) {
  return select(x == V{}, x, sin_of_angle(reduce_angle(x), 0));
}

//@ section sin_f64
//@ needs sin_cos_f64
// sin x, as sin_of.
INLINE double sin_(double x) { return x == 0 ? x : sin_of(x, 0); }

//@ section cos
//@ needs sin_cos
// cos x, 1.6 ulp for every float. Branch-free for |x| <= 2^26.
template <class V> INLINE V cos_(V x) { return sin_of_angle(reduce_angle(x), 1); }

//@ section cos_f64
//@ needs sin_cos_f64
// cos x, as sin_of.
INLINE double cos_(double x) { return sin_of(x, 1); }

//@ section tan
//@ needs angle
// tan x, 0.6 ulp for every float, in double. Branch-free for |x| <= 2^26.
template <class V> INLINE V tan_(V x) {
  typedef doubles<V> D;
  const angle<V> a = reduce_angle(x);
  const D u = a.r * a.r;
  const D t = a.r +
      a.r * u *
          horner(u, 0x1.55556p-2, 0x1.110d9ap-3, 0x1.badadep-5, 0x1.5cb298p-6, 0x1.631faap-7,
                 0x1.612492p-14, 0x1.1f0eccp-8);
  return select(x == V{}, x, convert<V>(select((a.n & 1) == ints<D>{}, t, -1.0 / t)));
}

//@ section tan_f64
//@ needs sin_cos_f64
// tan x: the quotient.
INLINE double tan_(double x) { return x == 0 ? x : sin_of(x, 0) / sin_of(x, 1); }

//@ section asin_parts
//@ needs horner sqrt abs
// For |x| <= 1/2: asin |x|. Else: asin sqrt((1 - |x|) / 2), which is half of acos |x|.
template <class V> INLINE V asin_reduced(V x) {
  static_assert(sizeof(elem<V>) == 4,
                "float only: for double paste the section with _f64 behind its name");
  const V a = abs_(x), half_rest = 0.5f - 0.5f * a;
  const auto central = a <= 0.5f;
  const V u = select(central, a * a, half_rest), s = select(central, a, sqrt_(half_rest));
  return madd(
      s * u,
      horner(u, 0x1.5555c8p-3f, 0x1.330204p-4f, 0x1.747bbap-5f, 0x1.8c3e26p-6f, 0x1.595c96p-5f), s);
}

//@ section asin
//@ needs asin_parts
// asin x, 2.4 ulp. 0x1.921fb6p0 - 0x1.777a5cp-25 is pi/2.
template <class V> INLINE V asin_(V x) {
  const V y = asin_reduced(x);
  return with_sign(select(abs_(x) <= 0.5f, y, 0x1.921fb6p0f - (y + y + 0x1.777a5cp-25f)), x);
}

//@ section acos
//@ needs asin_parts
// acos x, 1.2 ulp.
template <class V> INLINE V acos_(V x) {
  const V y = asin_reduced(x);
  const V outer = select(x < V{}, 0x1.921fb6p1f - (y + y + 0x1.777a5cp-24f), y + y);
  return select(abs_(x) <= 0.5f, 0x1.921fb6p0f - with_sign(y, x), outer);
}

//@ section atan
//@ needs horner abs
// atan x, 1.5 ulp: of |x| > 1 it is pi/2 - atan(1 / |x|).
template <class V> INLINE V atan_(V x) {
  static_assert(sizeof(elem<V>) == 4,
                "float only: for double paste the section with _f64 behind its name");
  const V a = abs_(x);
  const auto outer = a > 1.0f;
  const V z = select(outer, 1.0f / a, a), u = z * z;
  const V q =
      horner(u, -0x1.55553ep-2f, 0x1.9991e4p-3f, -0x1.242084p-3f, 0x1.c08c1ap-4f, -0x1.580814p-4f,
             0x1.da24cap-5f, -0x1.fd6fbcp-6f, 0x1.6410e4p-7f, -0x1.d32dacp-10f);
  const V y = madd(z * u, q, z);
  return with_sign(select(outer, 0x1.921fb6p0f - (y + 0x1.777a5cp-25f), y), x);
}

//@ section atan_f64
//@ needs abs
// atan x, 4 ulp: reduced to |x| < 2 - sqrt(3) by pi/2 - atan(1/x) and pi/6 + atan((sqrt(3) x - 1) /
// (x + sqrt(3))), then the power series.
[[maybe_unused]] inline double atan_(double x) {
  const double a = abs_(x), root3 = 0x1.bb67ae8584caap0, z = a > 1 ? 1 / a : a;
  const bool turned = z > 0.267949192431122706;
  const double t = turned ? (root3 * z - 1) / (z + root3) : z, u = t * t;
  double sum = 0;
  for (int i = 31; i > 1; i -= 2) sum = 1.0 / i - u * sum;
  const double y = (turned ? 0x1.0c152382d7366p-1 : 0.0) + (t - t * u * sum);
  return with_sign(a > 1 ? 0x1.921fb54442d18p0 - y : y, x);
}

//@ section asin_f64
//@ needs atan_f64 sqrt
// asin x, 6 ulp.
INLINE double asin_(double x) { return x == 0 ? x : atan_(x / sqrt_((1 - x) * (1 + x))); }

//@ section acos_f64
//@ needs atan_f64 sqrt
// acos x, 6 ulp.
INLINE double acos_(double x) { return 2 * atan_(sqrt_((1 - x) / (1 + x))); }

//@ section sinh
//@ needs exp_shifted abs
// sinh x, 2.5 ulp: an odd polynomial for |x| < 1, else h - 1 / (4 h) with h = e^|x| / 2.
template <class V> INLINE V sinh_(V x) {
  const V a = abs_(x), u = a * a, h = exp_shifted(a, -1);
  const V odd =
      madd(a * u, horner(u, 0x1.555556p-3f, 0x1.1110ep-7f, 0x1.a022bap-13f, 0x1.756cb4p-19f), a);
  return with_sign(select(a < 1.0f, odd, h - 0.25f / h), x);
}

//@ section sinh_f64
//@ needs expm1_f64 vmin
// sinh x, 6 ulp: (t + t / (t + 1)) / 2 with t = e^|x| - 1.
INLINE double sinh_(double x) {
  const double a = abs_(x), t = expm1_(vmin(30.0, a));
  return with_sign(a < 30 ? 0.5 * (t + t / (t + 1)) : exp_shifted(a, -1), x);
}

//@ section cosh
//@ needs exp_shifted abs
// cosh x, 1.6 ulp: h + 1 / (4 h) with h = e^|x| / 2.
template <class V> INLINE V cosh_(V x) {
  const V h = exp_shifted(abs_(x), -1);
  return h + 0.25f / h;
}

//@ section cosh_f64
//@ needs exp_f64 cosh
// cosh_ of a double: the template above, 4 ulp.

//@ section asinh
//@ needs log1p sqrt
// asinh x, 2 ulp: log1p(a + a^2 / (1 + sqrt(1 + a^2))) with a = |x|, and log a + ln2 for large a.
template <class V> INLINE V asinh_(V x) {
  const V a = abs_(x), square = a * a;
  const auto large = a > (sizeof(elem<V>) == 4 ? elem<V>(0x1p25) : elem<V>(0x1p54));
  const V y = log1p_(select(large, a, a + square / (1.0f + sqrt_(1.0f + square))));
  return with_sign(select(large, y + elem<V>(0x1.62e42fefa39efp-1), y), x);
}

//@ section asinh_f64
//@ needs log1p_f64 asinh
// asinh_ of a double: the template above, 4 ulp.

//@ section acosh
//@ needs log1p sqrt
// acosh x, 2 ulp: log1p(t + sqrt(2 t + t^2)) with t = x - 1, and log x + ln2 for large x.
template <class V> INLINE V acosh_(V x) {
  const V t = x - 1.0f;
  const auto large = x > (sizeof(elem<V>) == 4 ? elem<V>(0x1p25) : elem<V>(0x1p54));
  const V y = log1p_(select(large, x, t + sqrt_(t + t + t * t)));
  return select(x < 1.0f, splat<V>(constants<elem<V>>::nan),
                select(large, y + elem<V>(0x1.62e42fefa39efp-1), y));
}

//@ section acosh_f64
//@ needs log1p_f64 acosh
// acosh_ of a double: the template above, 4 ulp.

//@ section atanh
//@ needs log1p
// atanh x, 2.1 ulp: log1p(2 a / (1 - a)) / 2 with a = |x|.
template <class V> INLINE V atanh_(V x) {
  const V a = abs_(x);
  return with_sign(0.5f * log1p_((a + a) / (1.0f - a)), x);
}

//@ section atanh_f64
//@ needs log1p_f64 atanh
// atanh_ of a double: the template above, 4 ulp.

//@ section pow
//@ needs horner trunc abs convert constants power_of_two vmin vmax
// a^b, 0.6 ulp, with the special cases of C99's pow: 2^(b log2 |a|) in double. The logarithm is the
// series of 2 atanh((m - 1) / (m + 1)), the power is Taylor's series. A negative a needs an integer
// b.
template <class V> INLINE vec<double, lanes<V>> magnitude_of_power(V a, V b) {
  typedef vec<double, lanes<V>> D;
  const D x = convert<D>(abs_(a)), one = splat<D>(1);
  const uints<D> bits = bits_as<uints<D>>(x),
                 exponent_bits = (bits - 0x3fe6a09e00000000u) &
      0xfff0000000000000u;  // m is in [sqrt(1/2), sqrt(2))
  const D m = bits_as<D>(bits - exponent_bits),
          e = convert<D>(bits_as<ints<D>>(exponent_bits) >> 52);
  const D s = (m - one) / (m + one);
  const D log_m = s * horner(s * s, 1.0, 1.0 / 3, 1.0 / 5, 1.0 / 7, 1.0 / 9, 1.0 / 11, 1.0 / 13);
  const D log_x =
      select(x < constants<double>::inf, madd(log_m, splat<D>(0x1.71547652b82fep1), e), x);
  const D log_a = select(x == D{}, splat<D>(-constants<double>::inf), log_x);
  const D y = vmin(splat<D>(160), vmax(splat<D>(-160), convert<D>(b) * log_a));
  const D shift = splat<D>(0x1.8p52), shifted = y + shift,
          t = (y - (shifted - shift)) * 0x1.62e42fefa39efp-1;
  const D q = horner(t, 1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040,
                     1.0 / 40320);
  return q * power_of_two<D>(bits_as<ints<D>>(shifted) - bits_as<ints<D>>(shift));
}
template <class V> INLINE V pow_(V a, V b) {
  static_assert(sizeof(elem<V>) == 4,
                "float only: for double paste the section with _f64 behind its name");
  typedef constants<float> c;
  const V one = splat<V>(1), nan = splat<V>(c::nan), whole = trunc_(b),
          half_whole = trunc_(0.5f * b);
  const V magnitude =
      select(b == 0.0f, one, select(abs_(a) == 1.0f, one, convert<V>(magnitude_of_power(a, b))));
  const V for_whole_b = with_sign(magnitude, select(half_whole + half_whole == b, V{}, a));
  const V for_other_b = select(a < 0.0f, select(a > -c::inf, nan, magnitude), magnitude);
  return select(whole == b, for_whole_b, for_other_b);
}

//@ section pow_f64
//@ needs exp2_f64 log2_f64 trunc abs
// a^b, 3e-13, with the special cases of C99's pow; for an integer |b| <= 64 by squaring, which
// keeps powers of integers exact.
[[maybe_unused]] inline double pow_(double a, double b) {
  const double inf = constants<double>::inf;
  if (b == 0 || a == 1 || (a == -1 && abs_(b) == inf)) return 1;
  const bool is_integer = trunc_(b) == b;
  if (a < 0 && a > -inf && !is_integer) return constants<double>::nan;
  double magnitude = 1;
  if (is_integer && abs_(b) <= 64) {
    double square = abs_(a);
    for (int n = static_cast<int>(abs_(b)); n > 0; n >>= 1, square *= square)
      magnitude *= n & 1 ? square : 1;
    if (b < 0) magnitude = 1 / magnitude;
  } else {
    magnitude = exp2_(b * log2_(abs_(a)));
  }
  return is_integer && trunc_(0.5 * b) * 2 != b ? with_sign(magnitude, a) : magnitude;
}
