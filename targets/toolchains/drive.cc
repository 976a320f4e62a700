// Runs a predictor once: drive WEIGHTS|- SHAPES INPUT... OUTPUT..., files that hold the tensors' bytes.
// Compile it together with NAME.cc, with -DNAME=..., -DHEADER="NAME.h" and, if the model has several sets of shapes,
// -DSEVERAL_SHAPES; SHAPES is the set's number.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include HEADER

#define JOINED(a, b) a##_##b
#define NAMED(a, b) JOINED(a, b)
#define API(function) NAMED(NAME, function)

static int fail(const char* what, API(status) status) {
  fprintf(stderr, "%s: %s\n", what, API(error_text)(status));
  return 1;
}

static int fail_file(const char* path) {
  fprintf(stderr, "%s cannot be read or written\n", path);
  return 1;
}

int main(int argc, char** argv) {
  const int inputs = API(input_count)(), outputs = API(output_count)();
  if (argc != 3 + inputs + outputs) {
    fprintf(stderr, "usage: drive WEIGHTS|- SHAPES, %d inputs, %d outputs\n", inputs, outputs);
    return 1;
  }
  API(predictor)* p = nullptr;
  API(status) status = strcmp(argv[1], "-") != 0 ? API(create_from_file)(&p, argv[1]) : API(create)(&p, nullptr, 0, nullptr, 0);
  if (status != 0) return fail("create", status);
#if defined(SEVERAL_SHAPES)
  if ((status = API(set_shape)(p, atoi(argv[2]))) != 0) return fail("set_shape", status);
#define TENSOR(kind, i) API(kind##_of)(p, i)
#else
#define TENSOR(kind, i) API(kind)(i)
#endif
  for (int i = 0; i < inputs; ++i) {
    const char* const path = argv[3 + i];
    const size_t bytes = TENSOR(input, i)->bytes;
    void* const data = malloc(bytes + 1);
    FILE* const file = fopen(path, "rb");
    if (file == nullptr || data == nullptr || fread(data, 1, bytes, file) != bytes) return fail_file(path);
    fclose(file);
    if ((status = API(set_input)(p, i, data, bytes)) != 0) return fail("set_input", status);
    free(data);
  }
  if ((status = API(run)(p)) != 0) return fail("run", status);
  for (int i = 0; i < outputs; ++i) {
    const char* const path = argv[3 + inputs + i];
    const size_t bytes = TENSOR(output, i)->bytes;
    FILE* const file = fopen(path, "wb");
    if (file == nullptr || fwrite(API(output_data)(p, i), 1, bytes, file) != bytes || fclose(file) != 0) return fail_file(path);
  }
  API(destroy)(p);
  return 0;
}
