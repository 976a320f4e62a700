// Runs a predictor once: drive WEIGHTS|- SHAPES VARIANT INPUT... OUTPUT..., files that hold the tensors' bytes.
// Compile it together with NAME.cc, with -DNAME=..., -DNAME_FREESTANDING, -DHEADER="NAME.h" and, if the model has several
// sets of shapes, -DSEVERAL_SHAPES, if it has kernels for several machines, -DSEVERAL_VARIANTS. SHAPES is the set's
// number, VARIANT the machine's name. On Linux it needs no C library, so that none has to be built for the processor;
// with -DDRIVE_BOARD it needs no system. -DBIND_ONLY: the predictor has no memory for inputs and outputs.
#include <stddef.h>
#include <stdint.h>

#include HEADER

#if defined(DRIVE_BOARD)
#include "drive_board.h"
#elif defined(__linux__)
#include "drive_linux.h"
#else
#include "drive_hosted.h"
#endif

#define JOINED(a, b) a##_##b
#define NAMED(a, b) JOINED(a, b)
#define API(function) NAMED(NAME, function)

namespace driving {

static bool same(const char* a, const char* b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}

static int number(const char* text) {
  int n = 0;
  for (; *text >= '0' && *text <= '9'; ++text) n = n * 10 + (*text - '0');
  return n;
}

static int fail(const char* what, const char* why) {
  say(what), say(": "), say(why), say("\n");
  return 1;
}

int drive(int argc, char** argv) {
  const int inputs = API(input_count)(), outputs = API(output_count)();
  if (argc != 4 + inputs + outputs) return fail("usage", "drive WEIGHTS|- SHAPES VARIANT INPUT... OUTPUT...");
  const size_t memory_bytes = API(memory_size)(), weights_bytes = API(weights_size)();
  void* const memory = allocate(memory_bytes);
  void* weights = nullptr;
  if (!same(argv[1], "-")) {
    weights = allocate(weights_bytes);
    if (weights == nullptr || !read_file(argv[1], weights, weights_bytes)) return fail(argv[1], "cannot be read");
  }
  API(predictor)* p = nullptr;
  API(status) status = API(create)(&p, memory, memory_bytes, weights, weights != nullptr ? weights_bytes : 0);
  if (status != 0) return fail("create", API(error_text)(status));
#if defined(SEVERAL_VARIANTS)
  int variant = 0;
  while (variant < API(variant_count)() && !same(API(variant_name)(variant), argv[3])) ++variant;
  if ((status = API(set_variant)(p, variant)) != 0) return fail("set_variant", API(error_text)(status));
#endif
#if defined(SEVERAL_SHAPES)
  if ((status = API(set_shape)(p, number(argv[2]))) != 0) return fail("set_shape", API(error_text)(status));
#define TENSOR(kind, i) API(kind##_of)(p, i)
#else
  (void)number;
#define TENSOR(kind, i) API(kind)(i)
#endif
  for (int i = 0; i < inputs; ++i) {
    const size_t bytes = TENSOR(input, i)->bytes;
    void* const data = allocate(bytes + 1);
    if (data == nullptr || !read_file(argv[4 + i], data, bytes)) return fail(argv[4 + i], "cannot be read");
#if defined(BIND_ONLY)
    if ((status = API(bind_input)(p, i, data, bytes)) != 0) return fail("bind_input", API(error_text)(status));
  }
  for (int i = 0; i < outputs; ++i) {
    const size_t bytes = TENSOR(output, i)->bytes;
    if ((status = API(bind_output)(p, i, allocate(bytes + 1), bytes)) != 0) return fail("bind_output", API(error_text)(status));
  }
#else
    if ((status = API(set_input)(p, i, data, bytes)) != 0) return fail("set_input", API(error_text)(status));
  }
#endif
  const int too_many = 8;  // the data exceeds a maximum; the outputs are there all the same
  if ((status = API(run)(p)) != 0 && status != too_many) return fail("run", API(error_text)(status));
  for (int i = 0; i < outputs; ++i) {
    const char* const path = argv[4 + inputs + i];
    if (!write_file(path, API(output_data)(p, i), TENSOR(output, i)->bytes)) return fail(path, "cannot be written");
  }
  API(destroy)(p);
  return 0;
}

}  // namespace driving
