#if defined(@NAME@_SELFTEST)
#include <stdio.h>

namespace impl { namespace {

// Input number `index` of the self-test: element i is a hash of (i, index), scaled into [low,
// high).
uint32_t scrambled(uint32_t i, uint32_t index) {
  uint32_t x = i * 2654435761u + index * 40503u + 12345u;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

template <class T> void fill_input(T* data, size_t n, uint32_t index, double low, double high) {
  for (size_t i = 0; i < n; ++i) {
    const double unit = scrambled(static_cast<uint32_t>(i), index) * (1.0 / 4294967296.0);
    data[i] = static_cast<T>(low + unit * (high - low));
  }
}

//@ strings
// Input number `index` of the self-test, n strings: those of the hash's numbers.
void fill_texts(@name@_predictor* p, int32_t index, size_t n, const char* const* words,
                double high) {
  for (size_t i = 0; i < n; ++i) {
    const double unit =
        scrambled(static_cast<uint32_t>(i), static_cast<uint32_t>(index)) * (1.0 / 4294967296.0);
    @name@_set_string(p, index, i, words[static_cast<size_t>(unit * high)]);
  }
}

// Compares strings, each in `width` bytes, with onnxruntime's; returns the number that differ.
int compare_texts(const char* name, const char* data, size_t width, const uint32_t* places,
                  const char* const* expected, int n) {
  int wrong = 0;
  for (int i = 0; i < n; ++i) {
    const char* const got = data + places[i] * width;
    size_t k = 0;
    while (got[k] == expected[i][k] && got[k] != 0) ++k;
    if (got[k] != expected[i][k]) ++wrong;
  }
  printf("%s: %d strings: %s\n", name, n, wrong ? "WRONG" : "ok");
  return wrong;
}

//@ end
// Compares sampled output elements with onnxruntime's; returns the number outside the tolerance.
template <class T>
int compare(const char* name, const T* data, const uint32_t* places, const double* expected, int n,
            double tolerance) {
  int wrong = 0;
  double worst = 0;
  for (int i = 0; i < n; ++i) {
    const double got = static_cast<double>(data[places[i]]);
    const double error = got < expected[i] ? expected[i] - got : got - expected[i];
    if (error > worst) worst = error;
    if (!(error <= tolerance) && !(got != got && expected[i] != expected[i])) ++wrong;
  }
  printf("%s: %d values, largest error %.3g, tolerance %.3g: %s\n", name, n, worst, tolerance,
         wrong ? "WRONG" : "ok");
  return wrong;
}

}}  // namespace impl

int main(int argc, char** argv) {
  @name@_predictor* p = nullptr;
  @name@_status status =
      argc > 1 ? @name@_create_from_file(&p, argv[1]) : @name@_create(&p, nullptr, 0, nullptr, 0);
  if (status != @NAME@_OK) {
    printf("%s\n", @name@_error_text(status));
    return 1;
  }
@fill@
  @name@_run(p);
  int wrong = 0;
@compare@
  @name@_destroy(p);
  return wrong ? 1 : 0;
}
#endif  // @NAME@_SELFTEST
