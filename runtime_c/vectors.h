// Vectors: GCC/Clang vector types and the few operations on them that kernels are written with.
//
// This file is cut into sections, and a generated file receives only the sections it uses. The
// grammar, for every file in this folder that has sections:
//
//   //@ section NAME     starts the section NAME, which ends at the next one or with the file
//   //@ needs A B ...    (a line directly below) sections that must be pasted before this one
//   //@ scope file       (a line directly below) the section is pasted outside the namespace
//
// The lines that start with //@ and the text before a file's first section are not pasted. Section
// names are unique in the folder. A section needs only sections before it, in its file or in an
// earlier file of the order vectors.h, maths.h, values.h, winograd.h, classifier.h, cpu.h,
// sha256.h, fingerprint.h, files.h, inflate.h, cuda_driver.h: a document pastes the closure of what it
// uses in that order (amalgamate/runtime.py). All of vectors.h and maths.h needs the section `vectors`, which is not
// named in `needs`.
//
// Everything is generic: V is a vector type or its element type, so that the same kernel text
// serves one lane and thirty-two. The names of types are element, bits, x, lanes: f32x16, i64x8,
// u8x16. A vector wider than the machine's registers works, but GCC makes slow code of it and warns
// (-Wpsabi): choose a native width.

//@ section compiler
//@ scope file
#if !defined(__GNUC__) && !defined(__clang__)
#error "compile this file with GCC or Clang: it uses their vector types"
#endif
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error \
    "compile this file without -ffast-math, -Ofast and -ffinite-math-only: they break its results"
#endif
#if defined(__clang__) && __clang_major__ >= 12
// Clang defines no macro for -funsafe-math-optimizations and its parts: they are taken back here.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wignored-pragmas"
#pragma clang fp reassociate(off)
#if __clang_major__ >= 18
#pragma clang fp reciprocal(off)
#endif
#pragma float_control(precise, on)  // not on every machine
#pragma clang diagnostic pop
#elif defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__)
#error \
    "compile this file without -funsafe-math-optimizations, -fassociative-math, -freciprocal-math and -fno-signed-zeros: it relies on exact rounding"
#endif
#if defined(__arm__) && defined(__ARM_NEON) && !defined(__clang__)
// GCC computes vectors of floats lane by lane on 32-bit Arm, where NEON takes denormals for zeros,
// unless unsafe optimisations are allowed; those that would change a result are not.
#pragma GCC optimize("unsafe-math-optimizations", "no-associative-math", "no-reciprocal-math", \
                     "signed-zeros", "trapping-math")
#endif
#if defined(__ARM_FEATURE_MVE) && !defined(__clang__)
#error "GCC 12 confuses the predicates of MVE: compile with Clang, or for -mcpu=cortex-m55+nomve"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "compile this file for a little-endian machine: its weights are stored in that byte order"
#endif

//@ section vectors
//@ needs compiler
#if !defined(__has_builtin)
#define __has_builtin(x) 0
#endif
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross file boundaries
#define INLINE [[maybe_unused, gnu::always_inline]] inline

// vec<float, 16> is a vector of 16 floats, vec<float, 1> is float.
template <class T, int N> struct vector_of {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T> struct vector_of<T, 1> { typedef T type; };
template <class T, int N> using vec = typename vector_of<T, N>::type;

// elem<f32x16> and elem<float> are float; lanes<f32x16> is 16, lanes<float> is 1.
template <class T> struct referred { typedef T type; };
template <class T> struct referred<T&> { typedef T type; };
template <class V> auto first_lane(V& v, int) -> decltype(v[0]);
template <class V> auto first_lane(V& v, long) -> V&;
template <class V>
using elem = typename referred<decltype(first_lane(*static_cast<V*>(nullptr), 0))>::type;
template <class V>
[[maybe_unused]] constexpr int lanes = static_cast<int>(sizeof(V) / sizeof(elem<V>));

// ints<V>, uints<V>: integers of the same width in the same number of lanes. mask<V>: the result of
// comparing two V; all bits of a true lane are 1.
template <size_t BYTES> struct integer_of;
template <> struct integer_of<1> {
  typedef int8_t i;
  typedef uint8_t u;
};
template <> struct integer_of<2> {
  typedef int16_t i;
  typedef uint16_t u;
};
template <> struct integer_of<4> {
  typedef int32_t i;
  typedef uint32_t u;
};
template <> struct integer_of<8> {
  typedef int64_t i;
  typedef uint64_t u;
};
template <class V> using ints = vec<typename integer_of<sizeof(elem<V>)>::i, lanes<V>>;
template <class V> using uints = vec<typename integer_of<sizeof(elem<V>)>::u, lanes<V>>;
template <class V> using mask = decltype(V{} < V{});

// The same bits as another type of the same size.
template <class To, class From> INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same size");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// All lanes x. x - 0 is x, also for x = -0, so this is one broadcast; x + 0 would be an addition.
template <class V> INLINE V splat(elem<V> x) {
  if constexpr (lanes<V> == 1) return x;
  else return x - V{};
}

// mask ? a : b, lane by lane if mask is a vector.
template <class M, class V> INLINE V select(M mask, V a, V b) { return mask ? a : b; }

//@ section f16
// float16 as the machine computes with it.
typedef _Float16 f16;
//@ section f16x2
//@ needs f16
typedef f16 f16x2 __attribute__((vector_size(4)));
//@ section f16x4
//@ needs f16
typedef f16 f16x4 __attribute__((vector_size(8)));
//@ section f16x8
//@ needs f16
typedef f16 f16x8 __attribute__((vector_size(16)));
//@ section f16x16
//@ needs f16
typedef f16 f16x16 __attribute__((vector_size(32)));
//@ section f32x2
typedef float f32x2 __attribute__((vector_size(8)));
//@ section f32x4
//@ one_machine
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'A' && __ARM_ARCH < 8 && \
    !defined(__ARM_NEON)
#error \
    "compile this file with -mfpu=neon-vfpv4 (-mfpu=neon on a Cortex-A8 or A9), or build it for a processor without vectors (--target source --machine scalar)"
#endif
//@ end
typedef float f32x4 __attribute__((vector_size(16)));
//@ section f32x8
typedef float f32x8 __attribute__((vector_size(32)));
//@ section f32x16
typedef float f32x16 __attribute__((vector_size(64)));
//@ section f32x32
typedef float f32x32 __attribute__((vector_size(128)));
//@ section f64x2
typedef double f64x2 __attribute__((vector_size(16)));
//@ section f64x4
typedef double f64x4 __attribute__((vector_size(32)));
//@ section f64x8
typedef double f64x8 __attribute__((vector_size(64)));
//@ section f64x16
typedef double f64x16 __attribute__((vector_size(128)));
//@ section i32x2
typedef int32_t i32x2 __attribute__((vector_size(8)));
//@ section i32x4
typedef int32_t i32x4 __attribute__((vector_size(16)));
//@ section i32x8
typedef int32_t i32x8 __attribute__((vector_size(32)));
//@ section i32x16
typedef int32_t i32x16 __attribute__((vector_size(64)));
//@ section i32x32
typedef int32_t i32x32 __attribute__((vector_size(128)));
//@ section u32x2
typedef uint32_t u32x2 __attribute__((vector_size(8)));
//@ section u32x4
typedef uint32_t u32x4 __attribute__((vector_size(16)));
//@ section u32x8
typedef uint32_t u32x8 __attribute__((vector_size(32)));
//@ section u32x16
typedef uint32_t u32x16 __attribute__((vector_size(64)));
//@ section i64x2
typedef int64_t i64x2 __attribute__((vector_size(16)));
//@ section i64x4
typedef int64_t i64x4 __attribute__((vector_size(32)));
//@ section i64x8
typedef int64_t i64x8 __attribute__((vector_size(64)));
//@ section i64x16
typedef int64_t i64x16 __attribute__((vector_size(128)));
//@ section u64x2
typedef uint64_t u64x2 __attribute__((vector_size(16)));
//@ section u64x4
typedef uint64_t u64x4 __attribute__((vector_size(32)));
//@ section u64x8
typedef uint64_t u64x8 __attribute__((vector_size(64)));
//@ section u64x16
typedef uint64_t u64x16 __attribute__((vector_size(128)));
//@ section i16x2
typedef int16_t i16x2 __attribute__((vector_size(4)));
//@ section i16x4
typedef int16_t i16x4 __attribute__((vector_size(8)));
//@ section i16x8
typedef int16_t i16x8 __attribute__((vector_size(16)));
//@ section i16x16
typedef int16_t i16x16 __attribute__((vector_size(32)));
//@ section i16x32
typedef int16_t i16x32 __attribute__((vector_size(64)));
//@ section u16x2
typedef uint16_t u16x2 __attribute__((vector_size(4)));
//@ section u16x4
typedef uint16_t u16x4 __attribute__((vector_size(8)));
//@ section u16x8
typedef uint16_t u16x8 __attribute__((vector_size(16)));
//@ section u16x16
typedef uint16_t u16x16 __attribute__((vector_size(32)));
//@ section i8x2
typedef int8_t i8x2 __attribute__((vector_size(2)));
//@ section i8x4
typedef int8_t i8x4 __attribute__((vector_size(4)));
//@ section i8x8
typedef int8_t i8x8 __attribute__((vector_size(8)));
//@ section i8x16
typedef int8_t i8x16 __attribute__((vector_size(16)));
//@ section i8x32
typedef int8_t i8x32 __attribute__((vector_size(32)));
//@ section i8x64
typedef int8_t i8x64 __attribute__((vector_size(64)));
//@ section u8x2
typedef uint8_t u8x2 __attribute__((vector_size(2)));
//@ section u8x4
typedef uint8_t u8x4 __attribute__((vector_size(4)));
//@ section u8x8
typedef uint8_t u8x8 __attribute__((vector_size(8)));
//@ section u8x16
typedef uint8_t u8x16 __attribute__((vector_size(16)));
//@ section u8x32
typedef uint8_t u8x32 __attribute__((vector_size(32)));
//@ section u8x64
typedef uint8_t u8x64 __attribute__((vector_size(64)));

//@ section scalar_loop
// Precedes loops whose addresses contain a remainder of the loop variable: clang 22's vectoriser
// miscompiles some of these.
#if defined(__clang__)
#define SCALAR_LOOP _Pragma("clang loop vectorize(disable)")
#else
#define SCALAR_LOOP
#endif

//@ section together
// Before a loop over a product's steps: several trips at a time save the loop's own instructions.
#if defined(__clang__)
#define PRAGMA(text) _Pragma(#text)
#define TOGETHER(trips) PRAGMA(clang loop unroll_count(trips))
#else
#define TOGETHER(trips)
#endif

//@ section load
// Reads a V from p, which needs only the alignment of an element.
template <class V> INLINE V load(const elem<V>* p) {
  typedef V unaligned __attribute__((aligned(alignof(elem<V>)), may_alias));
  return *reinterpret_cast<const unaligned*>(p);
}

//@ section load_two
//@ needs f32x4 load
// The two vectors at p, which then points behind them. Clang would compute the addresses of several
// rows from one, from which most are too far away for one instruction, or add to each by another.
struct f32x4_pair { f32x4 first, second; };
INLINE f32x4_pair load_two(const float*& p) {
  f32x4_pair at;
#if defined(__aarch64__)
  typedef float eight[8];
  asm("ldp %q0, %q1, [%2], #32"
      : "=w"(at.first), "=w"(at.second), "+r"(p)
      : "m"(*reinterpret_cast<const eight*>(p)));
#else
  at = {load<f32x4>(p), load<f32x4>(p + 4)};
  p += 8;
#endif
  return at;
}

//@ section kept
// Keeps a vector in a register: GCC would reload it from memory for each use.
template <class V> INLINE V kept(V v) {
#if defined(__clang__)
#elif defined(__AVX512F__)
  if constexpr (sizeof(V) <= 64) asm("" : "+v"(v));
#elif defined(__AVX__)
  if constexpr (sizeof(V) <= 32) asm("" : "+x"(v));
#endif
  return v;
}

//@ section store
// Writes v to p, which needs only the alignment of an element.
template <class V> INLINE void store(elem<V>* p, V v) {
  typedef V unaligned __attribute__((aligned(alignof(elem<V>)), may_alias));
  *reinterpret_cast<unaligned*>(p) = v;
}

//@ section convert
// static_cast of each lane. Conversion to integers truncates; the value must fit.
template <class V, class From> INLINE V convert(From x) {
  static_assert(lanes<V> == lanes<From>, "the same number of lanes");
  constexpr bool to_float = elem<V>(0.5) != 0, from_float = elem<From>(0.5) != 0;
  if constexpr (lanes<V> == 1) return static_cast<V>(x);
#if !defined(__clang__)
  // GCC would convert lane by lane.
  else if constexpr (sizeof(elem<From>) == 1 && sizeof(elem<V>) > 2)
    return convert<V>(__builtin_convertvector(x, vec<int16_t, lanes<V>>));
#endif
  else if constexpr (to_float && !from_float && sizeof(V) > sizeof(From))
    return convert<V>(convert<ints<V>>(x));  // GCC needs two steps
  else if constexpr (from_float && !to_float && sizeof(From) > sizeof(V))
    return convert<V>(convert<ints<From>>(x));
  else return __builtin_convertvector(x, V);
}

//@ section looked_up
//@ needs load convert
// table[at], lane by lane, of 256 elements of 8 bits.
template <class V, class I> INLINE V looked_up(const elem<V>* table, I at) {
#if defined(__AVX512F__)
  if constexpr (sizeof(I) == 64) {  // two vectors of words at a time, then a byte of each word
    const auto words = [table](int k) { return bits_as<I>(load<vec<elem<V>, 64>>(table + k)); };
    I first = at >> 2, second = first;
    asm("vpermi2d %2, %1, %0" : "+v"(first) : "v"(words(0)), "v"(words(64)));
    asm("vpermi2d %2, %1, %0" : "+v"(second) : "v"(words(128)), "v"(words(192)));
    return convert<V>(select(at < 128, first, second) >> ((at & 3) * 8));
  }
#endif
  V y = {};
  for (int i = 0; i < lanes<V>; ++i) y[i] = table[at[i]];
  return y;
}

//@ section look_up_16
#if defined(__AVX512F__)
// table[at & 15], lane by lane.
INLINE vec<float, 16> look_up_16(vec<float, 16> table, vec<int32_t, 16> at) {
#if defined(__clang__)
  return __builtin_ia32_permvarsf512(table, at);
#else
  return __builtin_ia32_permvarsf512_mask(table, at, table, static_cast<uint16_t>(-1));
#endif
}
#endif

//@ section nibbles
//@ needs convert look_up_16
// The numbers from -8 to 7 in four bits of each byte, from bit FROM on.
template <int FROM, class U> INLINE vec<float, lanes<U>> nibbles(U bytes) {
  typedef vec<float, lanes<U>> V;
#if defined(__AVX512F__)
  if constexpr (lanes<U> == 16) {  // a look-up heeds only the low four bits of each lane
    const V numbers = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
#if defined(__clang__)
    return look_up_16(numbers, convert<ints<V>>(bytes) >> FROM);
#else  // GCC 12 converts in halves
    const auto all = static_cast<uint16_t>(-1);
    const ints<V> x =
        __builtin_ia32_pmovzxbd512_mask(bits_as<vec<char, 16>>(bytes), ints<V>{}, all);
    return look_up_16(numbers, x >> FROM);
#endif
  }
#endif
  return convert<V>(((convert<ints<V>>(bytes) >> FROM & 15) ^ 8) - 8);
}

//@ section low_nibbles
//@ needs nibbles
// The numbers in the low, or high, four bits of each byte.
template <class U> INLINE vec<float, lanes<U>> low_nibbles_(U bytes) { return nibbles<0>(bytes); }

//@ section high_nibbles
//@ needs nibbles
template <class U> INLINE vec<float, lanes<U>> high_nibbles_(U bytes) { return nibbles<4>(bytes); }

//@ section as_is
// How weights are read that are stored as kernels use them.
struct as_is {
  template <class X> INLINE X operator()(X x) const { return x; }
};

//@ section halves
// low(v) and high(v) are the halves of a vector; join(low(v), high(v)) is v.
template <class V> using half = vec<elem<V>, lanes<V> / 2>;
#if __has_builtin(__builtin_shufflevector)
template <int... I> struct indices {};
template <int N, int... I> struct count_to : count_to<N - 1, N - 1, I...> {};
template <int... I> struct count_to<0, I...> { typedef indices<I...> type; };
template <class R, int FIRST, class V, int... I> INLINE R shuffled(V a, V b, indices<I...>) {
  return __builtin_shufflevector(a, b, FIRST + I...);
}
template <class V> INLINE half<V> low(V v) {
  if constexpr (lanes<V> == 2) return v[0];
  else return shuffled<half<V>, 0>(v, v, typename count_to<lanes<V> / 2>::type());
}
template <class V> INLINE half<V> high(V v) {
  if constexpr (lanes<V> == 2) return v[1];
  else return shuffled<half<V>, lanes<V> / 2>(v, v, typename count_to<lanes<V> / 2>::type());
}
template <class H> INLINE vec<elem<H>, 2 * lanes<H>> join(H low, H high) {
  if constexpr (lanes<H> == 1) return vec<H, 2>{low, high};
  else
    return shuffled<vec<elem<H>, 2 * lanes<H>>, 0>(low, high,
                                                   typename count_to<2 * lanes<H>>::type());
}
#else  // GCC before 12
template <class V> struct two { V low, high; };
template <class V> INLINE half<V> low(V v) { return bits_as<two<half<V>>>(v).low; }
template <class V> INLINE half<V> high(V v) { return bits_as<two<half<V>>>(v).high; }
template <class H> INLINE vec<elem<H>, 2 * lanes<H>> join(H low, H high) {
  return bits_as<vec<elem<H>, 2 * lanes<H>>>(two<H>{low, high});
}
#endif

//@ section either_nan
// Whether vmin and vmax of V give NaN when either is NaN: the instructions of arm do.
template <class V>
[[maybe_unused]] constexpr bool either_nan = elem<V>(0.5) != 0 &&
#if (defined(__aarch64__) || defined(__ARM_NEON)) && __has_builtin(__builtin_elementwise_minimum)
    (sizeof(void*) == 8 || (sizeof(elem<V>) == 4 && lanes<V> > 1));
#elif defined(__aarch64__)
    sizeof(V) == 16 && sizeof(elem<V>) == 4;
#else
    false;
#endif

//@ section vmin
//@ needs halves either_nan
// The smaller: a < b ? a : b, in one instruction. If a is NaN the result is b, if b is NaN it is
// NaN; but vectors on Arm, and single lanes on wasm and 64-bit Arm, return NaN for either. For -0
// and +0 it may be either.
template <class V> INLINE V vmin(V a, V b) {
  [[maybe_unused]] constexpr bool is_float = elem<V>(0.5) != 0;
#if (defined(__aarch64__) || defined(__ARM_NEON)) && __has_builtin(__builtin_elementwise_minimum)
  if constexpr (either_nan<V>) return __builtin_elementwise_minimum(a, b);
#elif defined(__aarch64__)  // GCC, and Clang before 15
  if constexpr (either_nan<V>) {
    asm("fmin %0.4s, %1.4s, %2.4s" : "=w"(a) : "w"(a), "w"(b));
    return a;
  }
#elif defined(__wasm_simd128__) && __has_builtin(__builtin_elementwise_minimum)
  // From the plain expression clang would make relaxed_min, which may lose a NaN.
  if constexpr (is_float && sizeof(V) > 16)
    return join(vmin(low(a), low(b)), vmin(high(a), high(b)));
  else if constexpr (is_float && sizeof(V) == 16 && sizeof(elem<V>) == 4)
    return __builtin_wasm_pmin_f32x4(b, a);
  else if constexpr (is_float && sizeof(V) == 16) return __builtin_wasm_pmin_f64x2(b, a);
  else if constexpr (is_float) return __builtin_elementwise_minimum(a, b);
#else
  // GCC compiles the expression to a comparison and a masked move.
#if defined(__AVX512F__) && !defined(__clang__)
  if constexpr (is_float && sizeof(elem<V>) == 4 && sizeof(V) == 64)
    return __builtin_ia32_minps512_mask(a, b, a, static_cast<uint16_t>(-1), 4);
#endif
#if defined(__AVX__) && !defined(__clang__)
  if constexpr (is_float && sizeof(elem<V>) == 4 && sizeof(V) == 32)
    return __builtin_ia32_minps256(a, b);
#endif
#endif
  return a < b ? a : b;
}

//@ section vmax
//@ needs halves either_nan
// The larger: a > b ? a : b, in one instruction. NaN as in vmin, so vmax(0, x) propagates NaN.
template <class V> INLINE V vmax(V a, V b) {
  [[maybe_unused]] constexpr bool is_float = elem<V>(0.5) != 0;
#if (defined(__aarch64__) || defined(__ARM_NEON)) && __has_builtin(__builtin_elementwise_maximum)
  if constexpr (either_nan<V>) return __builtin_elementwise_maximum(a, b);
#elif defined(__aarch64__)  // GCC, and Clang before 15
  if constexpr (either_nan<V>) {
    asm("fmax %0.4s, %1.4s, %2.4s" : "=w"(a) : "w"(a), "w"(b));
    return a;
  }
#elif defined(__wasm_simd128__) && __has_builtin(__builtin_elementwise_maximum)
  if constexpr (is_float && sizeof(V) > 16)
    return join(vmax(low(a), low(b)), vmax(high(a), high(b)));
  else if constexpr (is_float && sizeof(V) == 16 && sizeof(elem<V>) == 4)
    return __builtin_wasm_pmax_f32x4(b, a);
  else if constexpr (is_float && sizeof(V) == 16) return __builtin_wasm_pmax_f64x2(b, a);
  else if constexpr (is_float) return __builtin_elementwise_maximum(a, b);
#else
  // GCC compiles the expression to a comparison and a masked move.
#if defined(__AVX512F__) && !defined(__clang__)
  if constexpr (is_float && sizeof(elem<V>) == 4 && sizeof(V) == 64)
    return __builtin_ia32_maxps512_mask(a, b, a, static_cast<uint16_t>(-1), 4);
#endif
#if defined(__AVX__) && !defined(__clang__)
  if constexpr (is_float && sizeof(elem<V>) == 4 && sizeof(V) == 32)
    return __builtin_ia32_maxps256(a, b);
#endif
#endif
  return a > b ? a : b;
}

//@ section load_partial
//@ needs load halves
// Loads the first n elements at p, followed by zeros; reads nothing beyond. All zeros for n <= 0, a
// full vector for n >= lanes<V>.
template <class V> INLINE V load_partial(const elem<V>* p, ptrdiff_t n) {
  constexpr int H = lanes<V> / 2;
  if (n >= lanes<V>) return load<V>(p);
  if (H == 0 || n <= 0) return V{};
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64 && sizeof(elem<V>) == 4) {
    typedef vec<float, 16> F;
    const F zero = {};
    return bits_as<V>(static_cast<F>(__builtin_ia32_loadups512_mask(
        reinterpret_cast<const float*>(p), zero, static_cast<uint16_t>((1u << n) - 1))));
  }
#endif
  if constexpr (H > 0) {
    const bool full = n >= H;  // the low half
    const half<V> part = load_partial<half<V>>(full ? p + H : p, full ? n - H : n);
    return full ? join(load<half<V>>(p), part) : join(part, half<V>{});
  } else {
    return V{};
  }
}

//@ section store_partial
//@ needs store halves
// Stores the first n lanes of v to p and nothing beyond: none for n <= 0, all for n >= lanes<V>.
template <class V> INLINE void store_partial(elem<V>* p, V v, ptrdiff_t n) {
  constexpr int H = lanes<V> / 2;
  if (n >= lanes<V>) return store(p, v);
  if constexpr (H > 0) {
    const bool full = n >= H;  // the low half
    if (full) store(p, low(v));
    store_partial(full ? p + H : p, full ? high(v) : low(v), full ? n - H : n);
  }
}

//@ section reduce
//@ needs halves
// op(lane, op(lane, ...)) over all lanes, by halves.
template <class Op, class V> INLINE elem<V> reduce(V v, Op op) {
  if constexpr (lanes<V> == 1) return v;
  else return reduce(op(low(v), high(v)), op);
}

//@ section hsum
//@ needs reduce
// The sum of the lanes.
template <class V> INLINE elem<V> hsum(V v) {
  return reduce(v, [](auto a, auto b) { return static_cast<decltype(a)>(a + b); });
}

//@ section hprod
//@ needs reduce
// The product of the lanes.
template <class V> INLINE elem<V> hprod(V v) {
  return reduce(v, [](auto a, auto b) { return static_cast<decltype(a)>(a * b); });
}

//@ section hmax
//@ needs reduce vmax
// The largest lane; NaN where one is NaN.
struct larger {  // no lambda: clang-cl forgets the machine's instructions in it
  template <class V> INLINE V operator()(V a, V b) const { return select(a == a, vmax(a, b), a); }
};
template <class V> INLINE elem<V> hmax(V v) { return reduce(v, larger()); }

//@ section hmin
//@ needs reduce vmin
// The smallest lane; NaN where one is NaN.
struct smaller {  // no lambda: clang-cl forgets the machine's instructions in it
  template <class V> INLINE V operator()(V a, V b) const { return select(a == a, vmin(a, b), a); }
};
template <class V> INLINE elem<V> hmin(V v) { return reduce(v, smaller()); }

//@ section madd
//@ needs halves
// a * b + c, fused if the machine supports it (compilers contract the expression; wasm needs
// relaxed SIMD).
template <class V> INLINE V madd(V a, V b, V c) {
#if defined(__wasm_relaxed_simd__)
  if constexpr (sizeof(V) > 16)
    return join(madd(low(a), low(b), low(c)), madd(high(a), high(b), high(c)));
  else if constexpr (sizeof(V) == 16 && sizeof(elem<V>) == 4 && elem<V>(0.5) != 0)
    return __builtin_wasm_relaxed_madd_f32x4(a, b, c);
  else if constexpr (sizeof(V) == 16 && sizeof(elem<V>) == 8 && elem<V>(0.5) != 0)
    return __builtin_wasm_relaxed_madd_f64x2(a, b, c);
#endif
  return a * b + c;
}

//@ section madd_of_lane
// acc + x[LANE] * w of float16. Clang's own choice of registers for that spills a third of a tile:
// x has to be in one of the first 16.
template <int LANE, class V, class X> INLINE V madd_of_lane(V acc, X x, V w) {
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
  if constexpr (sizeof(V) == 16 && sizeof(X) == 16) {
    asm("fmla %0.8h, %1.8h, %2.h[%3]" : "+w"(acc) : "w"(w), "x"(x), "i"(LANE));
    return acc;
  }
#endif
  return acc + x[LANE] * w;
}

//@ section pairs
// In each lane the sum of two products of 16-bit integers.
template <class V> using shorts_of = vec<int16_t, 2 * lanes<V>>;
template <class V> using bytes_of = vec<int8_t, 4 * lanes<V>>;
template <class V> INLINE V pairs(shorts_of<V> a, shorts_of<V> b) {
#if defined(__AVX512BW__)
  if constexpr (sizeof(V) == 64) {
    V sum;
    asm("vpmaddwd %2, %1, %0" : "=v"(sum) : "v"(a), "v"(b));
    return sum;
  }
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(V) == 32) {
    V sum;
    asm("vpmaddwd %2, %1, %0" : "=x"(sum) : "x"(a), "x"(b));
    return sum;
  }
#endif
#if defined(__wasm_simd128__)
  if constexpr (sizeof(V) == 16) return __builtin_wasm_dot_s_i32x4_i16x8(a, b);
#endif
  typedef uints<V> U;
  const V x = bits_as<V>(a), y = bits_as<V>(b);
  return bits_as<V>(bits_as<U>(x >> 16) * bits_as<U>(y >> 16) +
                    bits_as<U>(bits_as<V>(bits_as<U>(x) << 16) >> 16) *
                        bits_as<U>(bits_as<V>(bits_as<U>(y) << 16) >> 16));
}

//@ section dot
//@ needs pairs halves
// acc plus, in each lane, the sum of four products: of x[k] with the lane's w[4 lane + k]. Sums
// wrap. x: int8_t or uint8_t. With V = int32_t it may have 16 of them.
template <class X> INLINE int32_t dot_(int32_t acc, X x, vec<int8_t, lanes<X>> w) {
  [[maybe_unused]] constexpr bool is_signed = elem<X>(-1) < 0;
#if defined(__ARM_FEATURE_MVE)
  if constexpr (is_signed && lanes<X> == 16) {
    asm("vmlava.s8 %0, %q1, %q2" : "+Te"(acc) : "w"(x), "w"(w));
    return acc;
  }
#endif
#if defined(__ARM_FEATURE_SIMD32)
  if constexpr (is_signed && lanes<X> == 4) {
    const int32_t a = bits_as<int32_t>(x), b = bits_as<int32_t>(w);
    const auto odd = [](int32_t v) {
      return __builtin_arm_sxtb16(
          static_cast<int32_t>(static_cast<uint32_t>(v) >> 8 | static_cast<uint32_t>(v) << 24));
    };
    return __builtin_arm_smlad(
        odd(a), odd(b), __builtin_arm_smlad(__builtin_arm_sxtb16(a), __builtin_arm_sxtb16(b), acc));
  }
#endif
  if constexpr (lanes<X> == 1) {
    return static_cast<int32_t>(static_cast<uint32_t>(acc) + static_cast<uint32_t>(x * w));
  } else {
    return dot_(dot_(acc, low(x), low(w)), high(x), high(w));
  }
}
// The same with four of x for each lane.
template <class V, class X> INLINE V dot_of_fours(V acc, X x, bytes_of<V> w) {
  [[maybe_unused]] constexpr bool is_signed = elem<X>(-1) < 0;
#if defined(__AVX512VNNI__)
  if constexpr (!is_signed && sizeof(V) == 64) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
  }
#elif defined(__AVXVNNI__)
  if constexpr (!is_signed && sizeof(V) == 32) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
    return acc;
  }
#elif defined(__ARM_FEATURE_DOTPROD)
  if constexpr (is_signed && sizeof(V) == 16) {
    asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(x));
    return acc;
  }
#elif defined(__aarch64__)
  // Only rounded operands come here, of which none is -128: sums of two products fit 16 bits.
  if constexpr (is_signed && sizeof(V) == 16) {
    vec<int16_t, 8> first, last;
    asm("smull %0.8h, %1.8b, %2.8b" : "=w"(first) : "w"(w), "w"(x));
    asm("smull2 %0.8h, %1.16b, %2.16b" : "=w"(last) : "w"(w), "w"(x));
    asm("addp %0.8h, %0.8h, %1.8h" : "+w"(first) : "w"(last));
    asm("sadalp %0.4s, %1.8h" : "+w"(acc) : "w"(first));
    return acc;
  }
#elif defined(__wasm_simd128__)
  if constexpr (sizeof(V) > 16)
    return join(dot_of_fours(low(acc), low(x), low(w)), dot_of_fours(high(acc), high(x), high(w)));
#if defined(@NAME@_DOTS)
  // Only where a page has found that the engine takes all 8 bits of its second factor, unsigned.
  if constexpr (!is_signed && sizeof(V) == 16)
    return __builtin_wasm_relaxed_dot_i8x16_i7x16_add_s_i32x4(w, bits_as<bytes_of<V>>(x), acc);
#endif
#endif
  typedef shorts_of<V> S;
  typedef uints<S> U;
  const S s = bits_as<S>(w), t = bits_as<S>(x);
  const S w_odd = s >> 8, w_even = bits_as<S>(bits_as<U>(s) << 8) >> 8;
  const S x_odd = is_signed ? t >> 8 : bits_as<S>(bits_as<U>(t) >> 8);
  const S x_even = is_signed ? bits_as<S>(bits_as<U>(t) << 8) >> 8 : t & 255;
  return bits_as<V>(bits_as<uints<V>>(acc) + bits_as<uints<V>>(pairs<V>(x_even, w_even)) +
                    bits_as<uints<V>>(pairs<V>(x_odd, w_odd)));
}
template <class V, class X> INLINE V dot_(V acc, X x, bytes_of<V> w) {
  return dot_of_fours(acc, bits_as<vec<elem<X>, 4 * lanes<V>>>(splat<V>(bits_as<int32_t>(x))), w);
}

//@ section pair_dot
//@ needs pairs
// acc plus, in each lane, the sum of two products: of x[k] with the lane's w[2 lane + k]. Sums wrap.
template <class V> INLINE V pair_dot_(V acc, vec<int16_t, 2> x, shorts_of<V> w) {
  const auto two = bits_as<shorts_of<V>>(splat<V>(bits_as<int32_t>(x)));
#if defined(__AVX512VNNI__)
  if constexpr (sizeof(V) == 64) {
    asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(two), "v"(w));
    return acc;
  }
#elif defined(__AVXVNNI__)
  if constexpr (sizeof(V) == 32) {
    asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(acc) : "x"(two), "x"(w));
    return acc;
  }
#endif
  return bits_as<V>(bits_as<uints<V>>(acc) + bits_as<uints<V>>(pairs<V>(two, w)));
}

//@ section dot_each
//@ needs dot
// The same where each lane has its elements of a, b, c and d.
#if __has_builtin(__builtin_shufflevector)
template <class R, class V, int... I> INLINE R zipped(V a, V b, indices<I...>) {
  return __builtin_shufflevector(a, b, I / 2 + I % 2 * lanes<V>...);
}
template <class V> INLINE auto zipped(V a, V b) {
  return zipped<vec<elem<V>, 2 * lanes<V>>>(a, b, typename count_to<2 * lanes<V>>::type());
}
#else
template <class V> INLINE auto zipped(V a, V b) {
  vec<elem<V>, 2 * lanes<V>> v;
  for (int i = 0; i < 2 * lanes<V>; ++i) v[i] = i % 2 ? b[i / 2] : a[i / 2];
  return v;
}
#endif
template <class V, class X> INLINE V dot_each_(V acc, X a, X b, X c, X d, bytes_of<V> w) {
  typedef vec<uint16_t, lanes<V>> P;
  const auto fours = zipped(bits_as<P>(zipped(a, b)), bits_as<P>(zipped(c, d)));
  return dot_of_fours(acc, bits_as<vec<elem<X>, 4 * lanes<V>>>(fours), w);
}

//@ section unsigned_products
//@ needs pairs
// The same of the four int8_t in each lane of `four` and weights that are unsigned.
template <class V> INLINE V unsigned_products(V acc, V four, vec<uint8_t, 4 * lanes<V>> w) {
#if defined(__AVX512VNNI__)
  if constexpr (sizeof(V) == 64) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(four));
    return acc;
  }
#elif defined(__AVXVNNI__)
  if constexpr (sizeof(V) == 32) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(w), "x"(four));
    return acc;
  }
#endif
  typedef shorts_of<V> S;
  typedef uints<S> U;
  const U u = bits_as<U>(w);
  const S s = bits_as<S>(four), odd = s >> 8, even = bits_as<S>(bits_as<U>(s) << 8) >> 8;
  return bits_as<V>(bits_as<uints<V>>(acc) +
                    bits_as<uints<V>>(pairs<V>(even, bits_as<S>(u & 255))) +
                    bits_as<uints<V>>(pairs<V>(odd, bits_as<S>(u >> 8))));
}

//@ section unsigned_dot
//@ needs unsigned_products
// The same of four int8_t.
template <class V> INLINE V unsigned_dot_(V acc, vec<int8_t, 4> x, vec<uint8_t, 4 * lanes<V>> w) {
  const V four = splat<V>(bits_as<int32_t>(x));
#if defined(__wasm_relaxed_simd__)
#if defined(@NAME@_DOTS)
  if constexpr (sizeof(V) == 16)  // see dot_of_fours
    return __builtin_wasm_relaxed_dot_i8x16_i7x16_add_s_i32x4(bits_as<bytes_of<V>>(four),
                                                              bits_as<bytes_of<V>>(w), acc);
#endif
#endif
  return unsigned_products(acc, four, w);
}

//@ section nibble_dot
//@ needs unsigned_products
// The same with weights from 0 to 15.
template <class V> INLINE V nibble_dot_(V acc, vec<int8_t, 4> x, vec<uint8_t, 4 * lanes<V>> w) {
  const V four = splat<V>(bits_as<int32_t>(x));
  // Two products of such weights fit 16 bits.
#if defined(__AVX512BW__) && !defined(__AVX512VNNI__)
  if constexpr (sizeof(V) == 64) {
    shorts_of<V> two;
    asm("vpmaddubsw %2, %1, %0" : "=v"(two) : "v"(w), "v"(four));
    return acc + pairs<V>(two, shorts_of<V>{} + 1);
  }
#elif defined(__AVX2__) && !defined(__AVX512F__) && !defined(__AVXVNNI__)
  if constexpr (sizeof(V) == 32) {
    shorts_of<V> two;
    asm("vpmaddubsw %2, %1, %0" : "=x"(two) : "x"(w), "x"(four));
    return acc + pairs<V>(two, shorts_of<V>{} + 1);
  }
#elif defined(__wasm_relaxed_simd__)
#if defined(@NAME@_DOTS_OF_7_BITS)
  // Any engine's is right that keeps to the specification.
  if constexpr (sizeof(V) == 16)
    return __builtin_wasm_relaxed_dot_i8x16_i7x16_add_s_i32x4(bits_as<bytes_of<V>>(four),
                                                              bits_as<bytes_of<V>>(w), acc);
#endif
#endif
  return unsigned_products(acc, four, w);
}

//@ section low_bits
// The low, or high, four bits of each byte.
template <class U> INLINE U low_bits_(U bytes) { return bytes & 15; }

//@ section high_bits
template <class U> INLINE U high_bits_(U bytes) { return bytes >> 4; }

//@ section low_signed
// The numbers from -8 to 7 in the low, or high, four bits of each byte.
template <class U> INLINE vec<int8_t, lanes<U>> low_signed_(U bytes) {
  typedef vec<int8_t, lanes<U>> V;
  return bits_as<V>(bytes << 4) >> 4;
}

//@ section high_signed
template <class U> INLINE vec<int8_t, lanes<U>> high_signed_(U bytes) {
  return bits_as<vec<int8_t, lanes<U>>>(bytes) >> 4;
}

//@ section dot_of_lane
//@ needs dot
// The same with four neighbours of x, the LANEth.
template <int LANE, class V, class X> INLINE V dot_(V acc, X x, bytes_of<V> w) {
#if defined(__ARM_FEATURE_DOTPROD)
  if constexpr (elem<X>(-1) < 0 && sizeof(V) == 16 && sizeof(X) == 16) {
    asm("sdot %0.4s, %1.16b, %2.4b[%3]" : "+w"(acc) : "w"(w), "w"(x), "i"(LANE));
    return acc;
  }
#endif
  return dot_(acc, bits_as<vec<elem<X>, 4>>(bits_as<vec<int32_t, lanes<X> / 4>>(x)[LANE]), w);
}

//@ section joined
//@ needs halves
template <class V> INLINE vec<elem<V>, 2 * lanes<V>> joined_(V a, V b) { return join(a, b); }

//@ section low_halves
// The first halves of two vectors of 16 bytes.
template <class V> INLINE V low_halves_(V a, V b) {
  typedef vec<int64_t, 2> H;
  return bits_as<V>(H{bits_as<H>(a)[0], bits_as<H>(b)[0]});
}

//@ section high_halves
template <class V> INLINE V high_halves_(V a, V b) {
  typedef vec<int64_t, 2> H;
  return bits_as<V>(H{bits_as<H>(a)[1], bits_as<H>(b)[1]});
}

//@ section mmla
// acc plus the product of two rows of x and two of w, of eight bytes each: in lane 2 i + j the sum of x[8 i + k] w[8 j + k].
// Sums wrap.
template <class V> INLINE V mmla_(V acc, vec<int8_t, 16> x, vec<int8_t, 16> w) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  asm("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(x), "w"(w));
#else
  for (int lane = 0; lane < 4; ++lane) {
    int32_t sum = 0;
    for (int k = 0; k < 8; ++k) sum += x[lane / 2 * 8 + k] * w[lane % 2 * 8 + k];
    acc[lane] = static_cast<int32_t>(static_cast<uint32_t>(acc[lane]) + static_cast<uint32_t>(sum));
  }
#endif
  return acc;
}

//@ section dot_of_eight
//@ needs mmla halves
// The same for one row with eight products in each lane.
template <class V> INLINE V dot_(V acc, vec<int8_t, 8> x, vec<int8_t, 32> w) {
  const vec<int8_t, 16> row = join(x, vec<int8_t, 8>{});
  const V first = mmla_(join(low(acc), half<V>{}), row, low(w)),
          last = mmla_(join(high(acc), half<V>{}), row, high(w));
  return join(low(first), low(last));
}
