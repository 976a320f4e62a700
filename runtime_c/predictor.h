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
//@ counted
  // Inputs and outputs as they are in the current set of shapes, and the extents that they point to.
  @name@_tensor sized_inputs[impl::kInputCount + 1];
  @name@_tensor sized_outputs[impl::kOutputCount + 1];
  int64_t extents[impl::kExtentCount + 1];
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
//@ text
  uint8_t* text;       // what tokenizing works in
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
  uint8_t* const caches = p.arena - kCacheBytes;
  for (size_t k = 0; k < kCacheBytes; ++k) caches[k] = 0;
  p.waiting = -1, p.length = 0, p.scored = -1;
}
//@ end
//@ whole
//@ closed
template <class T> const T* input(const @name@_predictor& p, int index, size_t offset) {
  return reinterpret_cast<const T*>(static_cast<const uint8_t*>(p.inputs[index]) + offset);
}
template <class T> T* output(const @name@_predictor& p, int index, size_t offset) {
  return reinterpret_cast<T*>(static_cast<uint8_t*>(p.outputs[index]) + offset);
}
//@ end
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

//@ opened
constexpr bool kOwnTensors = true;
//@ end
//@ closed
#if defined(@NAME@_BIND_ONLY)
constexpr bool kOwnTensors = false;
#else
constexpr bool kOwnTensors = true;
#endif
//@ end

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
//@ counted

// The predictor's own memory for an output.
uint8_t* own_output(const @name@_predictor& p, int32_t index) {
  uint8_t* own = own_input(p, kInputCount);
  for (int i = 0; i < index; ++i) own += round_up(@output_room(i)@);
  return own;
}

// Describes the inputs and outputs of a set of shapes, which becomes the current one.
void describe_set(@name@_predictor& p, int32_t number) {
  int64_t* extents = p.extents;
//@ pictures
  set_extents(number, extents);
  const auto describe = [&](@name@_tensor& tensor, const @name@_tensor& first) {
    tensor = first;
    tensor.shape = extents;
    for (int32_t d = 0; d < first.rank; ++d, ++extents)
      tensor.bytes =
          tensor.bytes / static_cast<size_t>(first.shape[d]) * static_cast<size_t>(*extents);
  };
  for (int i = 0; i < kInputCount; ++i) describe(p.sized_inputs[i], kInputs[i]);
  for (int i = 0; i < kOutputCount; ++i) describe(p.sized_outputs[i], kOutputs[i]);
//@ end
//@ linear
  const auto describe = [&](@name@_tensor& tensor, const @name@_tensor& first, int32_t open,
                            size_t stride) {
    tensor = first;
    tensor.shape = extents;
    tensor.bytes += stride * static_cast<size_t>(number);
    for (int32_t d = 0; d < first.rank; ++d) *extents++ = first.shape[d] + (d == open ? number : 0);
  };
  for (int i = 0; i < kInputCount; ++i)
    describe(p.sized_inputs[i], kInputs[i], kInputOpen[i], kInputStride[i]);
  for (int i = 0; i < kOutputCount; ++i)
    describe(p.sized_outputs[i], kOutputs[i], kOutputOpen[i], kOutputStride[i]);
//@ end
  p.set = number;
}
//@ end
//@ opened

// Where kernels read and write: in the predictor's own memory, since they go beyond the elements of
// a run.
template <class T> const T* input(const @name@_predictor& p, int index, size_t offset) {
  return reinterpret_cast<const T*>(own_input(p, index) + offset);
}
template <class T> T* output(const @name@_predictor& p, int index, size_t offset) {
  return reinterpret_cast<T*>(own_output(p, index) + offset);
}
//@ end
