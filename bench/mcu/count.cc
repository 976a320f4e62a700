// Runs a predictor RUNS times on a board under QEMU: count RUNS INPUT OUTPUT, files of plain floats. Compiled with
// -DINPUT=, -DOUTPUT= (elements), and for ours -DNAME= and -DHEADER=, else it calls emx-onnx-cgen's model().
#include <stddef.h>
#include <stdint.h>

#include "drive_board.h"

static float input[INPUT], output[OUTPUT];

#if defined(NAME)
#include HEADER
#define JOINED(a, b) a##_##b
#define NAMED(a, b) JOINED(a, b)
#define API(function) NAMED(NAME, function)
static bool prepare(void** p) {
    const size_t bytes = API(memory_size)();
    API(predictor)* made = nullptr;
    if (API(create)(&made, driving::allocate(bytes), bytes, nullptr, 0) != 0) return false;
    *p = made;
    return API(bind_input)(made, 0, input, sizeof input) == 0 && API(bind_output)(made, 0, output, sizeof output) == 0;
}
static bool run(void* p) { return API(run)(static_cast<API(predictor)*>(p)) == 0; }
#else
extern "C" void model(const float* x, float* y);
static bool prepare(void**) { return true; }
static bool run(void*) { return model(input, output), true; }
#endif

int driving::drive(int argc, char** argv) {
    void* p = nullptr;
    if (argc != 4 || !read_file(argv[2], input, sizeof input) || !prepare(&p)) return 1;
    for (int runs = argv[1][0] - '0'; runs > 0; --runs) {
        if (!run(p)) return 1;
    }
    return write_file(argv[3], output, sizeof output) ? 0 : 1;
}
