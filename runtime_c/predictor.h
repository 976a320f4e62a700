constexpr size_t round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Whether a caller's memory fits this tensor: the right size, aligned to the element size.
bool fits(const @name@_tensor& tensor, const void* data, size_t bytes) {
  size_t elements = 1;
  for (int32_t d = 0; d < tensor.rank; ++d) elements *= static_cast<size_t>(tensor.shape[d]);
//@ strings
  const bool bytewise = elements == 0 || tensor.dtype[0] == 'S';
  const size_t each = bytewise ? 1 : tensor.bytes / elements;
//@ end
//@ no_strings
  const size_t each = elements == 0 ? 1 : tensor.bytes / elements;
//@ end
  return data != nullptr && bytes == tensor.bytes && reinterpret_cast<uintptr_t>(data) % each == 0;
}

//@ cuda
struct cuda_device;
//@ end
}  // namespace
//@ threads
struct thread_pool;
//@ end
}  // namespace impl

struct @name@_predictor {
//@ machines
  const impl::machine_code* code;  // the kernels that it runs
  bool owns_prepared;
//@ end
//@ cuda
  impl::cuda_device* gpu;   // null: only the CPU's kernels can run
  impl::short_text device;  // what @name@_device() tells
//@ end
//@ shapes
  int32_t set;  // number of the current set of shapes
//@ end
//@ samples
  size_t sample;  // that the present step computes, else 0
//@ end
//@ decoder
  int64_t waiting;  // the token that generate() gave last and that is not read yet, or -1
  int32_t length;   // number of tokens in the caches
  int32_t scored;   // row of the scores after the last of them, or -1
//@ end
  const void* inputs[impl::kInputCount + 1];
  void* outputs[impl::kOutputCount + 1];
  uint8_t* arena;
  const uint8_t* weights;
  size_t arrived;      // bytes of the weights that are final
  int32_t flush;       // whether runs treat denormals as zeros
  uint8_t* prepared;   // weights computed from these; may belong to another predictor
//@ threads
  impl::thread_pool* pool;
//@ end
  void* owned;         // memory to free in destroy()
//@ side_file
  const void* mapped;  // weights file to unmap in destroy()
//@ end
};

namespace impl {
namespace {

template <class T> T* arena(const @name@_predictor& p, size_t offset) {
  return reinterpret_cast<T*>(p.arena + offset);
}
template <class T> const T* weight(const @name@_predictor& p, size_t offset) {
  return reinterpret_cast<const T*>(p.weights + offset);
}
template <class T> T* prepared(const @name@_predictor& p, size_t offset) {
  return reinterpret_cast<T*>(p.prepared + offset);
}
//@ decoder
// Caches lie before the arena.
template <class T> T* cache_at(const @name@_predictor& p, size_t offset) {
  return reinterpret_cast<T*>(p.arena - kCacheBytes + offset);
}
void clear_text(@name@_predictor& p) {
  for (size_t k = 0; k < kCacheBytes; ++k) p.arena[k - kCacheBytes] = 0;
  p.waiting = -1, p.length = 0, p.scored = -1;
}
//@ end
//@ whole
template <class T> const T* input(const @name@_predictor& p, int index, size_t offset) {
  return reinterpret_cast<const T*>(static_cast<const uint8_t*>(p.inputs[index]) + offset);
}
template <class T> T* output(const @name@_predictor& p, int index, size_t offset) {
  return reinterpret_cast<T*>(static_cast<uint8_t*>(p.outputs[index]) + offset);
}
//@ end
//@ samples
// Of the present sample.
template <class T> const T* input(const @name@_predictor& p, int index, size_t offset) {
  const uint8_t* const first = static_cast<const uint8_t*>(p.inputs[index]);
  return reinterpret_cast<const T*>(first + p.sample * kInputStride[index] + offset);
}
template <class T> T* output(const @name@_predictor& p, int index, size_t offset) {
  uint8_t* const first = static_cast<uint8_t*>(p.outputs[index]);
  return reinterpret_cast<T*>(first + p.sample * kOutputStride[index] + offset);
}
//@ end

#if defined(@NAME@_BIND_ONLY)
constexpr bool kOwnTensors = false;
#else
constexpr bool kOwnTensors = true;
#endif

// Bytes of the predictor's own inputs and outputs.
constexpr size_t input_storage() {
  size_t bytes = 0;
  for (int i = 0; i < kInputCount; ++i) bytes += round_up(@input_room(i)@);
  return kOwnTensors ? bytes : 0;
}

constexpr size_t output_storage() {
  size_t bytes = 0;
  for (int i = 0; i < kOutputCount; ++i) bytes += round_up(@output_room(i)@);
  return kOwnTensors ? bytes : 0;
}

// Whether all inputs and outputs have memory.
[[maybe_unused]] bool all_bound(const @name@_predictor& p) {
  bool all = true;
  for (int i = 0; i < kInputCount; ++i) all = all && p.inputs[i] != nullptr;
  for (int i = 0; i < kOutputCount; ++i) all = all && p.outputs[i] != nullptr;
  return all;
}

// The predictor's own memory for an input.
uint8_t* own_input(const @name@_predictor& p, int32_t index) {
  uint8_t* own = p.arena + kArenaBytes;
  for (int i = 0; i < index; ++i) own += round_up(@input_room(i)@);
  return own;
}
