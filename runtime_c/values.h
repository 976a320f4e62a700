// Values: conversions and integer arithmetic with every case defined, and the filling of borders.

//@ section to_integer
// Rounds towards zero; clamps to the range of To; NaN becomes 0.
template <class To, class From> INLINE To to_integer(From x) {
  constexpr bool is_signed = To(-1) < To(0);
  constexpr To largest =
      static_cast<To>(is_signed ? (uint64_t{1} << (8 * sizeof(To) - 1)) - 1 : ~uint64_t{0});
  constexpr To smallest = static_cast<To>(is_signed ? -largest - 1 : 0);
  if (x != x) return 0;
  if (x >= static_cast<From>(largest)) return largest;
  if (x <= static_cast<From>(smallest)) return smallest;
  return static_cast<To>(x);
}

//@ section add
// a + b modulo 2^bits. Signed overflow is undefined in C++; unsigned arithmetic wraps.
template <class V> INLINE V add_(V a, V b) {
  return bits_as<V>(static_cast<uints<V>>(bits_as<uints<V>>(a) + bits_as<uints<V>>(b)));
}

//@ section sub
// a - b modulo 2^bits.
template <class V> INLINE V sub_(V a, V b) {
  return bits_as<V>(static_cast<uints<V>>(bits_as<uints<V>>(a) - bits_as<uints<V>>(b)));
}

//@ section mul
// a * b modulo 2^bits. The 1u prevents promotion of 16-bit integers to int, which could overflow.
template <class V> INLINE V mul_(V a, V b) {
  return bits_as<V>(static_cast<uints<V>>(1u * bits_as<uints<V>>(a) * bits_as<uints<V>>(b)));
}

//@ section integer_pow
//@ needs mul
// a^n modulo 2^bits, by squaring. For n < 0 it is 1/a^-n towards zero, so 0 unless a is 1 or -1; 0
// for a = 0 too.
template <class T, class N> INLINE T integer_pow_(T a, N n) {
  if (n < N(0)) return a == T(1) ? T(1) : a != static_cast<T>(-1) ? T(0) : n % 2 != 0 ? a : T(1);
  T power = 1;
  for (; n != 0; n = static_cast<N>(n / 2), a = mul_(a, a))
    power = n % 2 != 0 ? mul_(power, a) : power;
  return power;
}

//@ section floordiv
// a / b rounded towards minus infinity; 0 if b is 0.
template <class T> INLINE T floordiv_(T a, T b) {
  if (b == 0) return 0;
  if (T(-1) < T(0) && b == static_cast<T>(-1))
    return static_cast<T>(uint64_t{0} - static_cast<uint64_t>(a));
  const T q = static_cast<T>(a / b);
  return static_cast<T>(a % b != 0 && ((a < 0) != (b < 0)) ? q - 1 : q);
}

//@ section floormod
// a - b * floordiv_(a, b): the sign is that of b; 0 if b is 0.
template <class T> INLINE T floormod_(T a, T b) {
  if (b == 0 || (T(-1) < T(0) && b == static_cast<T>(-1))) return 0;
  const T r = static_cast<T>(a % b);
  return static_cast<T>(r != 0 && ((r < 0) != (b < 0)) ? r + b : r);
}

//@ section truncdiv
// a / b rounded towards zero; 0 if b is 0; the overflow of the least integer / -1 wraps.
template <class T> INLINE T truncdiv_(T a, T b) {
  if (b == 0) return 0;
  if (T(-1) < T(0) && b == static_cast<T>(-1))
    return static_cast<T>(uint64_t{0} - static_cast<uint64_t>(a));
  return static_cast<T>(a / b);
}

//@ section truncmod
// a - b * truncdiv_(a, b): the sign is that of a; 0 if b is 0.
template <class T> INLINE T truncmod_(T a, T b) {
  if (b == 0 || (T(-1) < T(0) && b == static_cast<T>(-1))) return 0;
  return static_cast<T>(a % b);
}

//@ section fill_halo
// Fills the border of a dense block: low[d] and high[d] elements wide in dimension d.
template <class T, class V>
void fill_halo(T* p, int rank, const int32_t* shape, const int32_t* low, const int32_t* high,
               V value) {
  while (rank > 0 && low[rank - 1] == 0 && high[rank - 1] == 0) --rank;
  if (rank == 0) return;
  ptrdiff_t stride = 1;
  for (int d = 1; shape[d] != 0; ++d) stride *= shape[d];  // shape is terminated by 0
  const ptrdiff_t first = low[0] * stride, last = (shape[0] - high[0]) * stride,
                  end = shape[0] * stride;
  for (ptrdiff_t i = 0; i < first; ++i) p[i] = static_cast<T>(value);
  for (ptrdiff_t i = last; i < end; ++i) p[i] = static_cast<T>(value);
  if (rank == 1) return;
  for (ptrdiff_t i = first; i < last; i += stride)
    fill_halo(p + i, rank - 1, shape + 1, low + 1, high + 1, value);
}

//@ section shared_rows
// How many tiles of all rows do a run's rows, and how many, one or none, of each lower height but the lowest.
struct tiled_rows { int whole, lower[3]; };

// Of n rows: a bit of `more`, `less` and each of `masks` stands for a number of rows that are left.
INLINE tiled_rows shared_rows(int n, int rows, uint32_t more, uint32_t less,
                              const int (&heights)[4] = {}, const uint32_t (&masks)[3] = {}) {
  const int rest = n % rows;
  tiled_rows r = {n / rows, {}};
  r.whole += r.whole > 0 && (less >> rest & 1) != 0 ? -1 : static_cast<int>(more >> rest & 1);
  int left = n - r.whole * rows;
  for (int k = 0; k < 3; ++k) {
    r.lower[k] = left > 0 ? static_cast<int>(masks[k] >> left & 1) : 0;
    left -= r.lower[k] * heights[k];
  }
  return r;
}

//@ section fill_behind
// The counts and strides of dimensions, the outermost first.
struct filled_rows {
  int32_t count;
  ptrdiff_t stride;
};

// Fills rows behind their `used` elements, up to a multiple of `to`.
template <class T>
void fill_behind(T* p, int rank, const filled_rows* rows, int used, int to, T value) {
  if (rank == 0) {
    for (int i = used; i % to != 0; ++i) p[i] = value;
    return;
  }
  for (int i = 0; i < rows->count; ++i)
    fill_behind(p + i * rows->stride, rank - 1, rows + 1, used, to, value);
}

//@ section fill_border
// Fills the part of a block that a run uses: low[d] + used[d] + high[d] elements in dimension d.
template <class T, class V>
void fill_used(T* p, int rank, const int32_t* shape, const int32_t* low, const int32_t* used,
               const int32_t* high, V value) {
  ptrdiff_t stride = 1;
  bool whole = true;
  for (int d = 1; d < rank; ++d)
    stride *= shape[d], whole = whole && low[d] + used[d] + high[d] == shape[d];
  const ptrdiff_t end = low[0] + used[0] + high[0];
  for (ptrdiff_t i = 0; whole && i < end * stride; ++i) p[i] = static_cast<T>(value);
  for (ptrdiff_t i = 0; !whole && i < end; ++i)
    fill_used(p + i * stride, rank - 1, shape + 1, low + 1, used + 1, high + 1, value);
}

// Fills the border around the elements that a run uses of a block: low[d] and high[d] elements wide
// in dimension d.
template <class T, class V>
void fill_border(T* p, int rank, const int32_t* shape, const int32_t* low, const int32_t* used,
                 const int32_t* high, V value) {
  bool within = false;
  ptrdiff_t stride = 1;
  for (int d = 1; d < rank; ++d) within = within || low[d] != 0 || high[d] != 0;
  for (int d = 1; d < rank; ++d) stride *= shape[d];
  const ptrdiff_t last = low[0] + used[0], end = last + high[0];
  const auto fill = [&](ptrdiff_t i) {
    if (rank == 1) p[i] = static_cast<T>(value);
    else fill_used(p + i * stride, rank - 1, shape + 1, low + 1, used + 1, high + 1, value);
  };
  for (ptrdiff_t i = 0; i < low[0]; ++i) fill(i);
  for (ptrdiff_t i = last; i < end; ++i) fill(i);
  for (ptrdiff_t i = low[0]; within && i < last; ++i)
    fill_border(p + i * stride, rank - 1, shape + 1, low + 1, used + 1, high + 1, value);
}

//@ section move_rows
// Moves the rows of a picture, of so many channels, in its memory: one behind the other, or, if
// APART, from there to their places. Pixels and rows are so many elements apart.
template <bool APART, class T>
void move_rows(T* p, int rows, int columns, int channels, ptrdiff_t pixel, ptrdiff_t row) {
  const int pixels = rows * columns;
  for (int k = 0; k < pixels; ++k) {
    const int at = APART ? pixels - 1 - k : k;
    T* const together = p + at * pixel;
    T* const place = p + at / columns * row + at % columns * pixel;
    if (together == place) continue;  // the first row
    const T* const __restrict from = APART ? together : place;
    T* const __restrict to = APART ? place : together;
    for (int c = 0; c < channels; ++c) to[c] = from[c];
  }
}

//@ section move_pixels
// The count and the strides of a dimension, in the source and in the target.
struct moved_dim {
  int32_t count;
  ptrdiff_t from, to;
};

// Copies elements, which lie apart in both places, the outermost dimension first.
template <class T> void move_pixels(T* to, const T* from, int rank, const moved_dim* dims) {
  if (rank == 1 && dims->from == 1 && dims->to == 1)
    for (int i = 0; i < dims->count; ++i) to[i] = from[i];
  else if (rank == 1)
    for (int i = 0; i < dims->count; ++i) to[i * dims->to] = from[i * dims->from];
  else
    for (int i = 0; i < dims->count; ++i)
      move_pixels(to + i * dims->to, from + i * dims->from, rank - 1, dims + 1);
}

//@ section spread
// Counts and strides of dimensions, the outermost first.
struct spread_dim {
  int32_t count;
  ptrdiff_t stride;
};

// Copies dense elements to places with gaps between them. Returns what lies behind those read.
template <class T> const T* spread(T* to, const T* from, int rank, const spread_dim* dims) {
  if (rank == 1) {
    if (dims->stride == 1)
      for (int i = 0; i < dims->count; ++i) to[i] = from[i];
    else
      for (int i = 0; i < dims->count; ++i) to[i * dims->stride] = from[i];
    return from + dims->count;
  }
  for (int i = 0; i < dims->count; ++i)
    from = spread(to + i * dims->stride, from, rank - 1, dims + 1);
  return from;
}

//@ section write_taps
// How the elements along a dimension are made of those of another: see TapsStep (plan/program.py).
struct taps_rule {
  int32_t from, to, whole;  // elements that are read, those of a run, and rows of the tables
  int32_t taps, start, low;  // elements per row, the first beside its place, and a border's width
  int32_t positions, kernel, rounding, normalise;  // numbers of names in graph/picture_rules.py
  double scale, shrink, cubic;  // scale 0: to / from
};

inline int64_t floor_of(double x) {
  const int64_t k = static_cast<int64_t>(x);
  return static_cast<double>(k) > x ? k - 1 : k;
}

// Where element i lies among those that are read.
inline double tap_position(const taps_rule& r, int64_t i, double scale) {
  const double x = static_cast<double>(i);
  switch (r.positions) {
    case 0: return x / scale;
    case 1: return r.to != 1 ? x * (r.from - 1) / (r.to - 1) : 0;
    case 3: return r.to > 1 ? (x + 0.5) / scale - 0.5 : 0;
    case 4: return r.from / 2.0 * (1 - r.to / (scale * r.from)) + (x + 0.5) / scale - 0.5;
    case 5: return (x + 0.5) / scale;
    default: return (x + 0.5) / scale - 0.5;
  }
}

// Of an element so far away.
inline double tap_weight(const taps_rule& r, double distance) {
  const double d = distance < 0 ? -distance : distance, a = r.cubic;
  if (r.kernel == 1) return d < 1 ? 1 - d : 0;
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

// The element that is nearest, or that a border repeats.
inline int64_t tap_place(const taps_rule& r, int64_t i, double scale) {
  const int64_t n = r.from, k = i - r.low;
  if (r.kernel == 4) return k;
  if (r.kernel == 5) return (k % n + n) % n;
  if (r.kernel == 3) {
    if (n == 1) return 0;
    const int64_t m = (k % (2 * n - 2) + 2 * n - 2) % (2 * n - 2);
    return m < n ? m : 2 * n - 2 - m;
  }
  const double x = static_cast<double>(floor_of(tap_position(r, i, scale) * 1e9 + 0.5)) / 1e9;
  const int64_t down = floor_of(x), up = -floor_of(-x);
  switch (r.rounding) {
    case 0: return -floor_of(-(x - 0.5));
    case 1: return floor_of(x + 0.5);
    case 2: return down;
    default: return up;
  }
}

// Writes the rows of the tables; those behind a run's repeat its last.
inline void write_taps(int32_t* places, float* weights, const taps_rule& r) {
  const double scale = r.scale != 0 ? r.scale : static_cast<double>(r.to) / r.from;
  for (int64_t row = 0; row < r.whole; ++row, places += r.taps) {
    const int64_t i = row < r.to ? row : r.to - 1;
    const double x = weights != nullptr ? tap_position(r, i, scale) : 0;
    const int64_t first = weights != nullptr ? -floor_of(-x) - 1 + r.start : tap_place(r, i, scale);
    double total = 0;
    for (int32_t t = 0; t < r.taps; ++t) {
      const int64_t k = first + t;
      places[t] = static_cast<int32_t>(k < 0 ? 0 : k < r.from ? k : r.from - 1);
      if (weights == nullptr) continue;
      const bool outside = (r.normalise & 1) != 0 && (k < 0 || k >= r.from);
      const double w = outside ? 0 : tap_weight(r, (static_cast<double>(k) - x) * r.shrink);
      weights[t] = static_cast<float>(w);
      total += w;
    }
    if (weights == nullptr) continue;
    for (int32_t t = 0; r.normalise != 0 && t < r.taps; ++t)
      weights[t] = static_cast<float>(weights[t] / (total == 0 ? 1 : total));
    weights += r.taps;
  }
}

//@ section gather
//@ needs spread
// Copies elements with gaps between them to dense ones. Returns what lies behind those written.
template <class T> T* gather(T* to, const T* from, int rank, const spread_dim* dims) {
  if (rank == 1) {
    for (int i = 0; i < dims->count; ++i) to[i] = from[i * dims->stride];
    return to + dims->count;
  }
  for (int i = 0; i < dims->count; ++i)
    to = gather(to, from + i * dims->stride, rank - 1, dims + 1);
  return to;
}

//@ section copy_bytes
// memcpy.
void copy_bytes(void* to, const void* from, size_t bytes) {
  uint8_t* t = static_cast<uint8_t*>(to);
  const uint8_t* f = static_cast<const uint8_t*>(from);
  for (size_t i = 0; i < bytes; ++i) t[i] = f[i];
}

//@ section from_float16
//@ needs convert
// Floats from float16s, lane by lane; x has their bits. The exponent's bias becomes 127 in place of
// 15 by a product, which also makes denormals normal.
struct from_float16 {
  template <class X> INLINE vec<float, lanes<X>> operator()(X x) const {
    typedef vec<float, lanes<X>> V;
    typedef uints<V> U;
    const U bits = convert<U>(x), rest = (bits & 0x7fffu) << 13,
            finite = bits_as<U>(bits_as<V>(rest) * 0x1p112f);
    const U special = rest | 0x7f800000u;
    return bits_as<V>(select(rest >= 0x7c00u << 13, special, finite) | (bits & 0x8000u) << 16);
  }
};

//@ section float_of_half
//@ needs from_float16
// Floats from the bits of float16s.
template <class S> INLINE vec<float, lanes<S>> float_of_half_(S bits) {
#if defined(__F16C__)
  if constexpr (lanes<S> == 8) {
    vec<float, 8> y;
    asm("vcvtph2ps %1, %0" : "=x"(y) : "x"(bits));
    return y;
  }
#endif
#if defined(__AVX512F__)
  if constexpr (lanes<S> == 16) {
    vec<float, 16> y;
    asm("vcvtph2ps %1, %0" : "=v"(y) : "v"(bits));
    return y;
  }
#endif
  return from_float16()(bits_as<vec<uint16_t, lanes<S>>>(bits));
}

//@ section from_bfloat16
//@ needs convert
// Floats from bfloat16s, lane by lane; x has their bits.
struct from_bfloat16 {
  template <class X> INLINE vec<float, lanes<X>> operator()(X x) const {
    typedef vec<float, lanes<X>> V;
    return bits_as<V>(convert<uints<V>>(x) << 16);
  }
};

//@ section from_f16
//@ needs convert f16
// Floats from float16s that the machine computes with, lane by lane.
struct from_f16 {
  template <class X> INLINE vec<float, lanes<X>> operator()(X x) const {
    return convert<vec<float, lanes<X>>>(x);
  }
};

//@ section to_f16
//@ needs convert f16
struct to_f16 {
  template <class X> INLINE vec<f16, lanes<X>> operator()(X x) const {
    return convert<vec<f16, lanes<X>>>(x);
  }
};

//@ section widen
//@ needs load store
// Floats from 16-bit ones in the same order.
template <class READ>
[[gnu::noinline]] void widen(float* to, const uint16_t* from, size_t elements, READ read) {
  const size_t rest = elements % 8;
  for (size_t i = 0; i < elements - rest; i += 8)
    store<vec<float, 8>>(to + i, read(load<vec<uint16_t, 8>>(from + i)));
  for (size_t k = rest; k > 0; --k) to[elements - k] = read(from[elements - k]);
}

//@ section repack
//@ needs as_is
// A dimension of two packings of the same elements: in each, elements lie `inner` apart within
// blocks of `size`, which lie `outer` apart.
struct repacked_dim {
  size_t extent, from_size, from_outer, from_inner, to_size, to_outer, to_inner;
};

template <class T, class F, class READ>
void repack_dims(T* to, const F* from, int rank, const repacked_dim* dims, READ read) {
  const repacked_dim& d = *dims;
  size_t from_block = 0, from_place = 0, to_block = 0, to_place = 0;
  for (size_t i = 0; i < d.extent; ++i) {
    T* const target = to + to_block + to_place * d.to_inner;
    const F* const source = from + from_block + from_place * d.from_inner;
    if (rank == 1) *target = read(*source);
    else repack_dims(target, source, rank - 1, dims + 1, read);
    if (++from_place == d.from_size) from_block += d.from_outer, from_place = 0;
    if (++to_place == d.to_size) to_block += d.to_outer, to_place = 0;
  }
}

// Brings weights from the packing that another machine's kernels read into this one's, of
// `elements` elements; those between are zero. `read` makes them of the stored ones.
template <class T, class F, class READ = as_is>
[[gnu::noinline]] void repack(T* to, size_t elements, const F* from, int rank,
                              const repacked_dim* dims, READ read = READ()) {
  for (size_t i = 0; i < elements; ++i) to[i] = 0;
  repack_dims(to, from, rank, dims, read);
}

//@ section nibble_place
// Element `at` of numbers from -8 to 7, two to a byte: of every two vectors of LANES the first has
// the low four bits.
template <int LANES> struct nibble_place {
  uint8_t* bytes;
  size_t at;
  nibble_place operator+(size_t n) const { return {bytes, at + n}; }
};

template <int LANES> void put(nibble_place<LANES> to, float number) {
  constexpr size_t N = LANES;
  uint8_t& byte = to.bytes[to.at / (2 * N) * N + to.at % N];
  const int shift = to.at / N % 2 * 4, bits = static_cast<int>(number) & 15;
  byte = static_cast<uint8_t>((byte & (240 >> shift)) | bits << shift);
}

//@ section dequantize
// Codes of BITS bits, the first in the lowest of a byte, and what they stand for: the number in the
// table less that of the zero point (a code too), times the scale.
template <int BITS> struct stored_codes {
  const uint8_t* codes;
  const float *table, *scales;
  const uint8_t* zeros;  // or null
  float operator()(size_t i, size_t scale) const {
    constexpr size_t N = 8 / BITS;
    const float number = table[codes[i / N] >> i % N * BITS & ((1 << BITS) - 1)];
    return (zeros ? number - table[zeros[scale]] : number) * scales[scale];
  }
};

// A dimension of such numbers and of the packing in which kernels read them, where elements lie
// `inner` apart within blocks of `size`, which lie `outer` apart; with each `block` of elements the
// scale is `step` further.
struct dequantized_dim { size_t extent, size, outer, inner, block, step; };

template <class T> void put(T* to, float number) { *to = static_cast<T>(number); }

template <class TO, int BITS>
void dequantize_dims(TO to, const stored_codes<BITS>& from, size_t& i, size_t scale, int rank,
                     const dequantized_dim* dims) {
  const dequantized_dim& d = *dims;
  size_t block = 0, place = 0, within = 0;
  for (size_t k = 0; k < d.extent; ++k) {
    const TO target = to + (block + place * d.inner);
    if (rank == 1) put(target, from(i++, scale));
    else dequantize_dims(target, from, i, scale, rank - 1, dims + 1);
    if (++place == d.size) block += d.outer, place = 0;
    if (++within == d.block) scale += d.step, within = 0;
  }
}

// Makes weights of what is stored for them, `elements` with the zeros between them.
template <class TO, int BITS>
[[gnu::noinline]] void dequantize(TO to, size_t elements, const stored_codes<BITS>& from, int rank,
                                  const dequantized_dim* dims) {
  for (size_t i = 0; i < elements; ++i) put(to + i, 0);
  size_t i = 0;
  dequantize_dims(to, from, i, 0, rank, dims);
}
