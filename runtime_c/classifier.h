// Classifier: what lies before and behind the network where a picture goes in and classes come out.

//@ section taps
// Bilinear resizing with antialiasing as in dlpack.preprocess, in integers, so that only the result
// is rounded. A side of `size` pixels becomes one of `resized`: source pixel j lies at (2 j + 1)
// resized, result pixel i at (2 i + 1) size, and j has the weight 2 max(size, resized) minus their
// distance. For sides up to 2^20 resized up to 2^37 every sum stays below 2^53.
struct taps {
  int64_t low, high;  // source pixels in [low, high) have a weight
  int64_t offset, step;  // position of low relative to i, and distance between pixels
  int64_t reach, total;  // the sum of all weights
  double per_part;  // 1 / (2 total)
};

INLINE int64_t tap(const taps& t, int64_t offset) {
  return t.reach - (offset < 0 ? -offset : offset);
}

INLINE taps taps_of(int64_t i, int64_t size, int64_t resized) {
  const int64_t center = (2 * i + 1) * size, reach = 2 * (size > resized ? size : resized);
  const int64_t begin = center - reach + resized, end = (center + reach + resized) / (2 * resized);
  taps t = {
      begin > 0 ? begin / (2 * resized) : 0, end < size ? end : size, 0, 2 * resized, reach, 0, 0};
  t.offset = (2 * t.low + 1) * resized - center;
  for (int64_t j = t.low, at = t.offset; j < t.high; ++j, at += t.step) t.total += tap(t, at);
  t.per_part = 0.5 / static_cast<double>(t.total);
  return t;
}

// Sums are exact in both types: vectors of double are fast, and small processors have no double.
#if __SIZEOF_POINTER__ >= 8
typedef double tap_sum;
#else
typedef int64_t tap_sum;
#endif

// The weighted mean of bytes, rounded: floor(sum / total + 1/2). The quotient in double is off by
// at most one.
INLINE int32_t mean_of(tap_sum total, double per_part, tap_sum sum) {
  const tap_sum parts = 2 * sum + total, whole = 2 * total;
  const int32_t q = static_cast<int32_t>(static_cast<double>(parts) * per_part);
  const tap_sum rest = parts - static_cast<tap_sum>(q) * whole;
  return q + (rest >= whole) - (rest < 0);
}

INLINE int32_t grey_of(const uint8_t* rgb) {
  return (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000;
}

//@ section to_value
//@ needs to_integer floor
// Converts a value to an input's element type; integers are rounded and clamped.
template <class T> INLINE T to_value(double x) {
  if constexpr (T(0.5) == T(0)) return to_integer<T>(floor_(x + 0.5));
  else return static_cast<T>(x);
}

//@ section to_quantised
//@ needs to_integer round
// Quantises as ONNX's QuantizeLinear: rounds to nearest, ties to even, and clamps.
template <class T> INLINE T to_quantised(double x, double scale, int32_t zero) {
  return to_integer<T>(round_(x / scale) + zero);
}

//@ section best_classes
//@ needs exp_f64
// How to read scores: (x - zero) * scale. `step`: quantisation step, or 0. `probabilities`: the
// scores are known to be probabilities.
struct score_kind {
  double scale, zero, step;
  bool probabilities;
};

// Writes the min(k, n) largest scores as classes (index, probability), largest first, ties by
// index, NaN last; returns their number. Scores are probabilities if none is negative and their sum
// is within 0.001 of 1; others go through softmax. Quantisation may shift each score by half a
// step, hence the sum by n / 2 steps, but no score may exceed 1. NaN is ignored in sums and has the
// probability NaN.
template <class T> INLINE bool is_better(T a, T b) { return a > b || (b != b && a == a); }

template <class T, class Class>
int32_t best_classes(const T* scores, int32_t n, int32_t k, Class* classes, score_kind kind) {
  const auto real = [scores, kind](int32_t i) {
    return (static_cast<double>(scores[i]) - kind.zero) * kind.scale;
  };
  double sum = 0, largest = -__builtin_inf();
  bool negative = false;
  int32_t count = 0;
  for (int32_t i = 0; i < n; ++i) {
    const double x = real(i);
    sum += x == x ? x : 0.0, largest = x > largest ? x : largest, negative = negative || x < 0;
    int32_t at = count;
    while (at > 0 && is_better(scores[i], scores[classes[at - 1].index])) --at;
    if (at == k) continue;
    count += count < k;
    for (int32_t j = count - 1; j > at; --j) classes[j].index = classes[j - 1].index;
    classes[at].index = i;
  }
  const double off = 0.001 + 0.5 * n * kind.step;
  const bool unlike = negative || !(sum > 1 - off && sum < 1 + off) ||
      (kind.step > 0 && largest > 1 + kind.step / 2);
  const bool softmax = unlike && !kind.probabilities;
  const auto power = [largest](double x) {
    return x == largest ? 1.0 : exp_(x - largest);
  };  // also for infinities
  if (softmax) {
    sum = 0;
    for (int32_t i = 0; i < n; ++i) {
      const double x = real(i);
      if (x == x) sum += power(x);
    }
  }
  for (int32_t j = 0; j < count; ++j) {
    const double x = real(classes[j].index);
    classes[j].probability = static_cast<float>(softmax && x == x ? power(x) / sum : x);
  }
  return count;
}
