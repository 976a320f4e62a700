// A libFuzzer target over the C API of one bundle (interface.py compiles it): its bytes choose calls and arguments.
//
// What NAME.h promises holds for every argument: pointers are null, misaligned or have as many bytes as is said, indices
// and counts are anything. Beyond the sanitizers' checks, sizes that do not fit must be refused.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include HEADER

#define PASTED_(a, b) a##_##b
#define PASTED(a, b) PASTED_(a, b)
#define API(name) PASTED(MODEL, name)
#define STATUS(name) PASTED(MODEL_UPPER, name)
#define REQUIRE(condition) \
  if (!(condition)) fprintf(stderr, "line %d: %s\n", __LINE__, #condition), abort()

namespace {

using predictor = API(predictor);

std::vector<uint8_t> read_weights() {
  std::vector<uint8_t> bytes;
  if (FILE* file = fopen(WEIGHTS, "rb")) {
    bytes.resize(API(weights_size)());
    if (fread(bytes.data(), 1, bytes.size(), file) != bytes.size()) bytes.clear();
    fclose(file);
  }
  return bytes;
}

const std::vector<uint8_t> weights = read_weights();  // empty: they are inside the file

struct Choices {
  const uint8_t* at;
  const uint8_t* end;

  uint8_t byte() { return at < end ? *at++ : 0; }
  bool rarely() { return byte() % 16 == 15; }
  int32_t small(int32_t bound) { return rarely() ? whole() : byte() % (bound + 1); }
  int32_t whole() {
    uint32_t x = 0;
    for (int k = 0; k < 4; ++k) x = x << 8 | byte();
    return static_cast<int32_t>(x);
  }
};

class Session {
 public:
  explicit Session(Choices choices) : choose_(choices) { create(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    while (!made_.empty()) API(destroy)(made_.back()), made_.pop_back();  // those that share before their origin
    for (void* block : blocks_) free(block);
  }

  void run() {
    for (int calls = 0; calls < 24 && choose_.at < choose_.end; ++calls) call();
  }

 private:
  Choices choose_;
  std::vector<predictor*> made_;
  std::vector<void*> blocks_;

  // Bytes that live as long as the predictors, so that a predictor may be bound to them; sometimes they begin at an odd
  // address, and no byte lies behind the last one. Null for none.
  uint8_t* block(size_t bytes, bool filled = true) {
    const size_t odd = choose_.rarely() ? choose_.byte() % 16 : 0;
    uint8_t* const memory = static_cast<uint8_t*>(malloc(odd + bytes));
    blocks_.push_back(memory);
    const uint8_t pattern = choose_.byte();
    for (size_t k = 0; k < bytes && filled; ++k)
      memory[odd + k] = choose_.at < choose_.end ? choose_.byte() : static_cast<uint8_t>(pattern * k);
    return memory + odd;
  }
  template <class T> T* values(size_t count) {
    T* const data = static_cast<T*>(malloc(count * sizeof(T) + 1));
    blocks_.push_back(data);
    for (size_t k = 0; k < count * sizeof(T); ++k) reinterpret_cast<uint8_t*>(data)[k] = choose_.byte();
    return data;
  }
  predictor* any() { return made_.empty() || choose_.rarely() ? nullptr : made_[choose_.byte() % made_.size()]; }
  size_t near(size_t bytes) { return choose_.rarely() ? bytes + choose_.byte() - 128 : bytes; }

  void create() {
    predictor* made = nullptr;
    size_t bytes = API(memory_size)();
    void* memory = nullptr;
    if (choose_.rarely()) {
      if (choose_.rarely()) bytes = bytes * choose_.byte() / 256;
      memory = block(bytes, false);
    }
    const void* from = weights.empty() ? nullptr : weights.data();
    size_t given = weights.size();
    if (choose_.rarely()) from = block(given = choose_.byte());
#ifdef HAS_create_early
    if (!weights.empty() && choose_.rarely()) {
      if (API(create_early)(&made, memory, bytes, from, given) != STATUS(OK)) return;
      for (size_t k = 0; k < 4; ++k) API(weights_arrived)(made, static_cast<size_t>(choose_.whole()));
      if (choose_.byte() & 1) API(weights_arrived)(made, given);
      made_.push_back(made);
      return;
    }
#endif
    if (API(create)(&made, memory, bytes, from, given) == STATUS(OK)) made_.push_back(made);
    else REQUIRE(made == nullptr);
  }

  const API(tensor) * input(predictor* p, int32_t index) {
#ifdef HAS_input_of
    return API(input_of)(p, index);
#else
    (void)p;
    return API(input)(index);
#endif
  }
  const API(tensor) * output(predictor* p, int32_t index) {
#ifdef HAS_output_of
    return API(output_of)(p, index);
#else
    (void)p;
    return API(output)(index);
#endif
  }

  void call() {
    predictor* const p = any();
    switch (choose_.byte() % 20) {
      case 0:
        if (made_.size() < 3) create();
        return;
      case 1: {
        predictor* made = nullptr;
        if (made_.size() < 3 && API(create_shared)(&made, nullptr, 0, p) == STATUS(OK)) made_.push_back(made);
        return;
      }
      case 2:
      case 3:
      case 4: {
        const int32_t index = choose_.small(API(input_count)());
        const API(tensor)* const t = input(p, index);
        const size_t right = t ? t->bytes : 0, bytes = near(right) & 0xffffff;
        const uint8_t* const data = block(bytes);
        const bool bound = choose_.byte() & 1;
        const API(status) status = bound ? API(bind_input)(p, index, choose_.rarely() ? nullptr : data, bytes)
                                         : API(set_input)(p, index, choose_.rarely() ? nullptr : data, bytes);
        REQUIRE(status != STATUS(OK) || (p && t && bytes == right));
        return;
      }
      case 5:
      case 6:
        API(run)(p);
        return;
      case 7: {
        const int32_t steps = API(step_count)();
        for (int32_t k = 0; k < steps && choose_.byte() % 8; ++k) API(run_step)(p, k);
        API(run_step)(p, choose_.small(steps));
        return;
      }
      case 8: {
        const int32_t index = choose_.small(API(output_count)());
        const API(tensor)* const t = output(p, index);
        const size_t right = t ? t->bytes : 0, bytes = near(right) & 0xffffff;
        const API(status) status = API(get_output)(p, index, block(bytes, false), bytes);
        REQUIRE(status != STATUS(OK) || (p && t && bytes == right));
        return;
      }
      case 9: {
        const int32_t index = choose_.small(API(output_count)());
        const API(tensor)* const t = output(p, index);
        const uint8_t* const data = static_cast<const uint8_t*>(API(output_data)(p, index));
        volatile uint8_t last = 0;
        if (data && t && t->bytes) last = data[t->bytes - 1];
        (void)last;
        API(input_data)(p, choose_.small(API(input_count)()));
        return;
      }
      case 10: {
        const int32_t index = choose_.small(API(output_count)());
        const API(tensor)* const t = output(p, index);
        const size_t bytes = near(t ? t->bytes : 0) & 0xffffff;
        API(bind_output)(p, index, choose_.rarely() ? nullptr : block(bytes, false), bytes);
        return;
      }
      case 11:
        API(set_flush_denormals)(p, choose_.byte());
        API(set_threads)(p, choose_.small(4));
        API(threads)(p);
        return;
      case 12:
        API(error_text)(choose_.whole());
        API(step_name)(choose_.small(API(step_count)()));
        API(input)(choose_.whole()), API(output)(choose_.whole());
        return;
      default:
        call_of_this_model(p);
    }
  }

  // Functions that only some bundles have.
  void call_of_this_model(predictor* p) {
    (void)p;
    const int kind = choose_.byte() % 8;
    (void)kind;
#ifdef HAS_top_k
    if (kind == 0) {
      const int32_t k = choose_.rarely() ? -choose_.byte() : choose_.byte();
      API(top_k)(p, choose_.small(API(output_count)()), k, values<API(class)>(static_cast<size_t>(k > 0 ? k : 0)));
    }
#endif
#ifdef HAS_label
    if (kind == 0) API(label)(choose_.whole());
#endif
#ifdef HAS_preprocess_rgb
    if (kind == 1) {
      const int32_t width = choose_.byte() % 40, height = choose_.byte() % 40, stride = 3 * width + choose_.byte() % 4;
      const size_t bytes = height ? static_cast<size_t>((height - 1) * stride + 3 * width) : 0;
      const uint8_t* const rgb = block(bytes);
      if (choose_.byte() & 1) API(preprocess_rgb)(p, rgb + (height ? (height - 1) * stride : 0), width, height, -stride);
      else API(preprocess_rgb)(p, rgb, width, height, stride);
      REQUIRE(API(preprocess_rgb)(p, rgb, choose_.whole() | INT32_MIN, height, stride) != STATUS(OK));
    }
#endif
#ifdef HAS_set_shape
    if (kind == 2) API(set_shape)(p, choose_.small(API(shape_count)())), API(shape)(p);
    if (kind == 3) {
      int64_t* const shape = values<int64_t>(4);
      for (int k = 0; k < 4; ++k) shape[k] = choose_.rarely() ? shape[k] : choose_.byte() % 70;
      API(reshape)(p, choose_.small(API(input_count)()), shape, choose_.byte() % 5);
    }
#endif
#ifdef HAS_output_shape
    if (kind == 4) {
      const int32_t index = choose_.small(API(output_count)());
      const API(tensor)* const t = output(p, index);
      const int64_t* const shape = API(output_shape)(p, index);
      for (int32_t k = 0; shape && t && k < t->rank; ++k) REQUIRE(shape[k] >= 0 && shape[k] <= t->shape[k]);
    }
#endif
#ifdef HAS_set_string
    if (kind == 5) {
      const size_t bytes = choose_.byte();
      char* const text = values<char>(bytes + 1);
      text[bytes] = 0;
      API(set_string)(p, choose_.small(API(input_count)()), static_cast<size_t>(choose_.small(4)), text);
    }
#endif
#ifdef HAS_tokenize
    if (kind == 6) {
      const size_t bytes = choose_.byte(), capacity = choose_.byte();
      const char* const text = values<char>(bytes);
      int32_t* const ids = values<int32_t>(capacity);
      size_t count = 0;
      API(tokenize)(p, text, bytes, choose_.byte() & 1, ids, capacity, &count);
      count = choose_.byte() % (capacity + 1);
      char* const written = values<char>(capacity);
      size_t size = 0;
      API(detokenize)(p, ids, count, choose_.byte() & 1, written, capacity, &size);
      API(detokenize_next)(p, ids, count, choose_.small(60), written, capacity, &size);
    }
#endif
#ifdef HAS_append
    if (kind < 4) {
      const size_t count = choose_.byte() % 12;
      int64_t* const tokens = values<int64_t>(count);
      for (size_t k = 0; k < count; ++k) tokens[k] = choose_.rarely() ? tokens[k] : choose_.byte();
      API(sampler) sampler = {static_cast<float>(choose_.byte()) / 64, choose_.small(60),
                              static_cast<float>(choose_.byte()) / 200, choose_.byte()};
      int64_t token = 0;
      size_t made = 0;
      if (kind == 0) API(append)(p, tokens, count), API(accept)(p, choose_.small(255)), API(length)(p);
      if (kind == 1) API(rewind)(p, static_cast<size_t>(choose_.small(48))), API(scores)(p);
      if (kind == 2) API(sample)(p, &sampler, &token), API(reset)(p);
      if (kind == 3)
        API(generate)(p, tokens, count, 6, &sampler, tokens, count, nullptr, nullptr, values<int64_t>(6), &made);
    }
#endif
#ifdef HAS_write
    if (kind == 4) {
      const size_t bytes = choose_.byte() % 32, capacity = choose_.byte();
      const char* const prompt = values<char>(bytes);
      size_t written = 0;
      API(write)(p, prompt, bytes, 6, nullptr, nullptr, 0, nullptr, nullptr, values<char>(capacity), capacity, &written);
    }
#endif
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Session({data, data + size}).run();
  return 0;
}
