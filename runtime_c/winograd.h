// Winograd's weights, which a predictor computes when it is created. The top of vectors.h explains
// the sections.

//@ section winograd_weights
//@ needs load_partial store as_is
// G times a column of three elements. F(2x2, 3x3): G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1].
template <class V> INLINE void winograd_column(V a, V b, V c, V (&to)[4]) {
  const V even = (a + c) * 0.5f, odd = b * 0.5f;
  to[0] = a;
  to[1] = even + odd;
  to[2] = even - odd;
  to[3] = c;
}

// F(4x4, 3x3): G = [1/4 0 0; -1/6 -1/6 -1/6; -1/6 1/6 -1/6; 1/24 1/12 1/6; 1/24 -1/12 1/6; 0 0 1].
template <class V> INLINE void winograd_column(V a, V b, V c, V (&to)[6]) {
  const V even = (a + c) * (-1.0f / 6), odd = b * (-1.0f / 6),
          low = a * (1.0f / 24) + c * (1.0f / 6), high = b * (1.0f / 12);
  to[0] = a * 0.25f;
  to[1] = even + odd;
  to[2] = even - odd;
  to[3] = low + high;
  to[4] = low - high;
  to[5] = c;
}

// F(6x6, 3x3): G = [1 0 0; -2/9 -2/9 -2/9; -2/9 2/9 -2/9; 1/90 1/45 2/45; 1/90 -1/45 2/45; 1/45
// 1/90 1/180; 1/45 -1/90 1/180; 0 0 1].
template <class V> INLINE void winograd_column(V a, V b, V c, V (&to)[8]) {
  const V even = (a + c) * (-2.0f / 9), odd = b * (-2.0f / 9),
          two = a * (1.0f / 90) + c * (2.0f / 45), half = a * (1.0f / 45) + c * (1.0f / 180);
  to[0] = a;
  to[1] = even + odd;
  to[2] = even - odd;
  to[3] = two + b * (1.0f / 45);
  to[4] = two - b * (1.0f / 45);
  to[5] = half + b * (1.0f / 90);
  to[6] = half - b * (1.0f / 90);
  to[7] = c;
}

// At most n floats of a vector: four where no processor has more, so that a transform fits the
// registers, and weights in blocks of all widths share its code.
#if defined(__aarch64__) || defined(__arm__) || defined(__wasm__)
[[maybe_unused]] constexpr int own_lanes(int n) { return n < 4 ? n : 4; }
#else
[[maybe_unused]] constexpr int own_lanes(int n) { return n; }
#endif

// The weights of F(E - 2 x E - 2, 3x3) (A. Lavin, S. Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2015): u = G w G^T for each pair of channels. w is [3, 3, inputs, outputs]; u
// lies in blocks of `columns` outputs with room for `room`, a multiple of N: [E, E, outputs /
// columns, inputs, room], with zeros beyond the last output. If BLOCKS, w lies in such blocks too:
// [outputs / columns, 3, 3, inputs, room]. `read` makes floats of w's elements, `write` makes u's
// elements of floats.
template <int E, int N, bool BLOCKS = false, class U, class W, class READ = as_is,
          class WRITE = as_is>
[[gnu::noinline]] void winograd_weights(U* u, const W* w, size_t inputs, size_t outputs,
                                        size_t columns, size_t room, READ read = READ(),
                                        WRITE write = WRITE()) {
  typedef vec<float, N> V;
  typedef vec<W, N> S;
  const size_t matrix = (outputs + columns - 1) / columns * inputs * room,
               across = BLOCKS ? room : outputs, pair = inputs * across;
  for (size_t first = 0; first < outputs; first += columns) {
    const size_t here = outputs - first < columns ? outputs - first : columns;
    for (size_t c = 0; c < inputs; ++c) {
      for (size_t o = 0; o < room; o += N, u += N) {
        const W* const from = w + (BLOCKS ? first / columns * 9 * pair : first) + c * across + o;
        const ptrdiff_t n = o < here ? static_cast<ptrdiff_t>(here - o) : 0;
        V half[3][E];
#ifndef __wasm__  // there the loops are a third of the code and as fast
#pragma GCC unroll 3
#endif
        for (size_t x = 0; x < 3; ++x) {
          if (n == 0) winograd_column(V{}, V{}, V{}, half[x]);
          else
            winograd_column(read(load_partial<S>(from + x * pair, n)),
                            read(load_partial<S>(from + (3 + x) * pair, n)),
                            read(load_partial<S>(from + (6 + x) * pair, n)), half[x]);
        }
#ifndef __wasm__
#pragma GCC unroll 8
#endif
        for (size_t i = 0; i < E; ++i) {
          V row[E];
          winograd_column(half[0][i], half[1][i], half[2][i], row);
#pragma GCC unroll 8
          for (size_t j = 0; j < E; ++j) store<vec<U, N>>(u + (i * E + j) * matrix, write(row[j]));
        }
      }
    }
  }
}
