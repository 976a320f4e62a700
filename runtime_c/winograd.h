// Winograd's and Strassen's weights, which a predictor computes when it is created. The top of
// vectors.h explains the sections.

//@ section winograd_3x3
// G times a column w of a 3x3 window, for each size of tile.
struct winograd_3x3 {
  [[maybe_unused]] static constexpr size_t size = 3;

  // F(2x2, 3x3): G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1].
  template <class V> INLINE void operator()(const V (&w)[3], V (&to)[4]) const {
    const V even = (w[0] + w[2]) * 0.5f, odd = w[1] * 0.5f;
    to[0] = w[0];
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = w[2];
  }

  // F(4x4, 3x3): G = [1/4 0 0; -1/6 -1/6 -1/6; -1/6 1/6 -1/6; 1/24 1/12 1/6; 1/24 -1/12 1/6; 0 0
  // 1].
  template <class V> INLINE void operator()(const V (&w)[3], V (&to)[6]) const {
    const V even = (w[0] + w[2]) * (-1.0f / 6), odd = w[1] * (-1.0f / 6),
            low = w[0] * (1.0f / 24) + w[2] * (1.0f / 6), high = w[1] * (1.0f / 12);
    to[0] = w[0] * 0.25f;
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = low + high;
    to[4] = low - high;
    to[5] = w[2];
  }

  // F(6x6, 3x3): G = [1 0 0; -2/9 -2/9 -2/9; -2/9 2/9 -2/9; 1/90 1/45 2/45; 1/90 -1/45 2/45; 1/45
  // 1/90 1/180; 1/45 -1/90 1/180; 0 0 1].
  template <class V> INLINE void operator()(const V (&w)[3], V (&to)[8]) const {
    const V even = (w[0] + w[2]) * (-2.0f / 9), odd = w[1] * (-2.0f / 9),
            two = w[0] * (1.0f / 90) + w[2] * (2.0f / 45),
            half = w[0] * (1.0f / 45) + w[2] * (1.0f / 180);
    to[0] = w[0];
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = two + w[1] * (1.0f / 45);
    to[4] = two - w[1] * (1.0f / 45);
    to[5] = half + w[1] * (1.0f / 90);
    to[6] = half - w[1] * (1.0f / 90);
    to[7] = w[2];
  }
};

//@ section winograd_5x5
// G times a column w of a 5x5 window: at the same points as for 3x3, two more powers of each.
struct winograd_5x5 {
  [[maybe_unused]] static constexpr size_t size = 5;

  // F(2x2, 5x5), at 0, 1, -1, 2, -2 and infinity.
  template <class V> INLINE void operator()(const V (&w)[5], V (&to)[6]) const {
    const V even = (w[0] + w[2] + w[4]) * (-1.0f / 6), odd = (w[1] + w[3]) * (-1.0f / 6),
            low = w[0] * (1.0f / 24) + w[2] * (1.0f / 6) + w[4] * (2.0f / 3),
            high = w[1] * (1.0f / 12) + w[3] * (1.0f / 3);
    to[0] = w[0] * 0.25f;
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = low + high;
    to[4] = low - high;
    to[5] = w[4];
  }

  // F(4x4, 5x5), at 1/2 and -1/2 as well.
  template <class V> INLINE void operator()(const V (&w)[5], V (&to)[8]) const {
    const V even = (w[0] + w[2] + w[4]) * (-2.0f / 9), odd = (w[1] + w[3]) * (-2.0f / 9),
            two = w[0] * (1.0f / 90) + w[2] * (2.0f / 45) + w[4] * (8.0f / 45),
            two_odd = w[1] * (1.0f / 45) + w[3] * (4.0f / 45),
            half = w[0] * (1.0f / 45) + w[2] * (1.0f / 180) + w[4] * (1.0f / 720),
            half_odd = w[1] * (1.0f / 90) + w[3] * (1.0f / 360);
    to[0] = w[0];
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = two + two_odd;
    to[4] = two - two_odd;
    to[5] = half + half_odd;
    to[6] = half - half_odd;
    to[7] = w[4];
  }
};

//@ section own_lanes
// At most n floats of a vector: four where no processor has more, so that a transform fits the
// registers, and weights in blocks of all widths share its code.
#if defined(__aarch64__) || defined(__arm__) || defined(__wasm__)
[[maybe_unused]] constexpr int own_lanes(int n) { return n < 4 ? n : 4; }
#else
[[maybe_unused]] constexpr int own_lanes(int n) { return n; }
#endif

//@ section winograd_weights
//@ needs load_partial store as_is own_lanes
// The weights of Winograd's convolution (A. Lavin, S. Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2015) with tiles of E x E of the input: u = G w G^T for each pair of channels,
// where `g` multiplies by G. w is [size, size, inputs, outputs], size G's; u lies in blocks of
// `columns` outputs with room for `room`, a multiple of N: [E, E, outputs / columns, inputs, room],
// with zeros beyond the last output. If BLOCKS, w lies in such blocks too: [outputs / columns, size,
// size, inputs, room]. `read` makes floats of w's elements, `write` makes u's elements of floats.
template <int E, int N, bool BLOCKS = false, class U, class W, class G, class READ = as_is,
          class WRITE = as_is>
[[gnu::noinline]] void winograd_weights(U* u, const W* w, size_t inputs, size_t outputs,
                                        size_t columns, size_t room, G g, READ read = READ(),
                                        WRITE write = WRITE()) {
  typedef vec<float, N> V;
  typedef vec<W, N> S;
  constexpr size_t size = G::size;
  const size_t matrix = (outputs + columns - 1) / columns * inputs * room,
               across = BLOCKS ? room : outputs, pair = inputs * across;
  for (size_t first = 0; first < outputs; first += columns) {
    const size_t here = outputs - first < columns ? outputs - first : columns;
    for (size_t c = 0; c < inputs; ++c) {
      for (size_t o = 0; o < room; o += N, u += N) {
        const W* const from =
            w + (BLOCKS ? first / columns * size * size * pair : first) + c * across + o;
        const ptrdiff_t n = o < here ? static_cast<ptrdiff_t>(here - o) : 0;
        V half[size][E];
#ifndef __wasm__  // there the loops are a third of the code and as fast
#pragma GCC unroll 5
#endif
        for (size_t x = 0; x < size; ++x) {
          V column[size];
#pragma GCC unroll 5
          for (size_t y = 0; y < size; ++y)
            column[y] = n == 0 ? V{} : read(load_partial<S>(from + (size * y + x) * pair, n));
          g(column, half[x]);
        }
#ifndef __wasm__
#pragma GCC unroll 8
#endif
        for (size_t i = 0; i < E; ++i) {
          V row[size], to[E];
#pragma GCC unroll 5
          for (size_t x = 0; x < size; ++x) row[x] = half[x][i];
          g(row, to);
#pragma GCC unroll 8
          for (size_t j = 0; j < E; ++j) store<vec<U, N>>(u + (i * E + j) * matrix, write(to[j]));
        }
      }
    }
  }
}

//@ section winograd_pairs
//@ needs load_partial store convert own_lanes
// G times a column w of a 3x3 window for F(4x4, 3x3), the rows of G as integers: 4, -6, -6, 24, 24 and
// 1 times what they are.
template <class V> INLINE void times_integers(const V (&w)[3], V (&to)[6]) {
  const V even = w[0] + w[2], far = w[0] + w[2] * 4, odd = w[1] * 2;
  to[0] = w[0];
  to[1] = -even - w[1];
  to[2] = w[1] - even;
  to[3] = far + odd;
  to[4] = far - odd;
  to[5] = w[2];
}
// The same weights, of integers: w is [3, 3, inputs, outputs]; u lies in blocks of `columns` outputs
// with room for `room`, a multiple of N, and pairs of inputs in them: [6, 6, outputs / columns,
// inputs / 2, room, 2]. There is an even number of inputs.
template <int N>
[[gnu::noinline]] void winograd_pairs(int16_t* u, const int8_t* w, size_t inputs, size_t outputs,
                                      size_t columns, size_t room) {
  typedef vec<int32_t, N> V;
  const size_t matrix = (outputs + columns - 1) / columns * inputs * room, pair = inputs * outputs;
  for (size_t first = 0; first < outputs; first += columns) {
    const size_t here = outputs - first < columns ? outputs - first : columns;
    for (size_t c = 0; c < inputs; c += 2) {
      for (size_t o = 0; o < room; o += N, u += 2 * N) {
        const ptrdiff_t n = o < here ? static_cast<ptrdiff_t>(here - o) : 0;
        V rows[2][6][6];  // of the two inputs
        for (size_t k = 0; k < 2; ++k) {
          const int8_t* const from = w + (c + k) * outputs + first + o;
          V half[3][6];
          for (size_t x = 0; x < 3; ++x) {
            V column[3];
            for (size_t y = 0; y < 3; ++y)
              column[y] = n == 0
                  ? V{}
                  : convert<V>(load_partial<vec<int8_t, N>>(from + (y * 3 + x) * pair, n));
            times_integers(column, half[x]);
          }
          for (size_t i = 0; i < 6; ++i) {
            const V row[3] = {half[0][i], half[1][i], half[2][i]};
            times_integers(row, rows[k][i]);
          }
        }
        for (size_t i = 0; i < 6; ++i)
          for (size_t j = 0; j < 6; ++j)
            store(u + (i * 6 + j) * matrix,
                  bits_as<vec<int16_t, 2 * N>>((rows[0][i][j] & 0xffff) | (rows[1][i][j] << 16)));
      }
    }
  }
}

//@ section summed_weights
//@ needs load store own_lanes
// Writes n sums of `parts`, each times its sign, n a multiple of N.
template <int N, size_t COUNT>
[[gnu::noinline]] void summed_weights(float* to, size_t n, const float* const (&parts)[COUNT],
                                      const int (&signs)[COUNT]) {
  typedef vec<float, N> V;
  for (size_t i = 0; i < n; i += N) {
    V sum{};
    for (size_t k = 0; k < COUNT; ++k) {
      const V part = load<V>(parts[k] + i);
      sum += signs[k] > 0 ? part : -part;
    }
    store<V>(to + i, sum);
  }
}
