// Runs the model @name@ once, on zeros: put your data where the inputs are.
#include <stdint.h>

#include <chrono>
#include <cstdio>
#include <vector>

#include "@header@"

int main() {
//@ if side
  @name@::Predictor predictor(MODEL_WEIGHTS);
//@ else
  @name@::Predictor predictor;
//@ end
  if (!predictor) {
    std::fprintf(stderr, "@name@: %s\n", @name@_error_text(predictor.status()));
    return 1;
  }

//@ if inputs
  @inputs@
  @name@_status status = @NAME@_OK;
  @sets@
//@ else
  @name@_status status = @NAME@_OK;
//@ end
  const auto began = std::chrono::steady_clock::now();
  if (status == @NAME@_OK) status = predictor.run();
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
  if (status != @NAME@_OK) {
    std::fprintf(stderr, "@name@: %s\n", @name@_error_text(status));
    return 1;
  }

  std::printf("@name@ ran in %.3f ms\n", took.count());
  @outputs@
//@ if classes

  @name@_class best[3];
  if (predictor.top_k(@scores@, 3, best) != @NAME@_OK) return 1;
  for (const @name@_class& c : best) {
    if (c.index >= 0) std::printf("class %d %s: %.3f\n", c.index, c.label ? c.label : "", c.probability);
  }
//@ end
  return 0;
}
