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
  // Memory for inputs, outputs and the arena, and where in it the current set has inputs and, behind
  // them, outputs.
  uint8_t* room;
  size_t room_bytes;
  uint8_t* own[impl::kInputCount + impl::kOutputCount + 1];
//@ end
//@ staged
  const impl::place_offset* places;  // offsets in the arena
//@ end
//@ samples
  size_t sample;  // that the present step computes, else 0
//@ pictures
  // Bytes of a sample in the current set of shapes: of inputs, then outputs; 0 where all share one.
  size_t strides[impl::kInputCount + impl::kOutputCount + 1];
//@ end
//@ end
//@ decoder
  int64_t waiting;  // the token that generate() gave last and that is not read yet, or -1
  int32_t length;   // number of tokens in the caches
  int32_t scored;   // row of the scores after the last of them, or -1
//@ answers
  int32_t heard;    // number of tokens that the encoder reads or has read
//@ end
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
//@ answers
  p.heard = 0;
//@ end
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
//@ linear
  return reinterpret_cast<const T*>(first + p.sample * kInputStride[index] + offset);
//@ end
//@ pictures
  return reinterpret_cast<const T*>(first + p.sample * p.strides[index] + offset);
//@ end
}
template <class T> T* output(const @name@_predictor& p, int index, size_t offset) {
  uint8_t* const first = static_cast<uint8_t*>(p.outputs[index]);
//@ linear
  return reinterpret_cast<T*>(first + p.sample * kOutputStride[index] + offset);
//@ end
//@ pictures
  return reinterpret_cast<T*>(first + p.sample * p.strides[kInputCount + index] + offset);
//@ end
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

//@ uncounted
//@ cuda
constexpr size_t kPageBytes = 4096;
//@ end
// Where the predictor's own inputs and outputs begin.
uint8_t* own_tensors(const @name@_predictor& p) {
//@ cuda
  // On pages of their own, since a driver keeps whole pages in place, and none of them twice.
  const size_t over = (reinterpret_cast<uintptr_t>(p.arena) + kArenaBytes) % kPageBytes;
  return p.arena + kArenaBytes + (over == 0 ? 0 : kPageBytes - over);
//@ end
//@ no_cuda
  return p.arena + kArenaBytes;
//@ end
}

// The predictor's own memory for an input.
uint8_t* own_input(const @name@_predictor& p, int32_t index) {
  uint8_t* own = own_tensors(p);
  for (int i = 0; i < index; ++i) own += round_up(@input_room(i)@);
  return own;
}
//@ end
//@ counted
// The predictor's own memory for an input, or an output.
uint8_t* own_input(const @name@_predictor& p, int32_t index) { return p.own[index]; }
uint8_t* own_output(const @name@_predictor& p, int32_t index) { return p.own[kInputCount + index]; }

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
//@ samples
  const size_t samples = static_cast<size_t>(samples_in(number));
  for (int i = 0; i < kInputCount; ++i)
    p.strides[i] = kOfSamples[i] ? p.sized_inputs[i].bytes / samples : 0;
  for (int i = 0; i < kOutputCount; ++i)
    p.strides[kInputCount + i] =
        kOfSamples[kInputCount + i] ? p.sized_outputs[i].bytes / samples : 0;
//@ end
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

//@ staged
// The first stage whose memory suffices for the current set of shapes.
int32_t stage_of(const @name@_predictor& p) {
  int32_t stage = 0;
  while (kStages[stage].last < p.set) ++stage;
  return stage;
}

//@ end
// Bytes of the predictor's own memory for an input or, behind them, an output.
size_t own_bytes(const @name@_predictor& p, int32_t index) {
  if (!kOwnTensors) return 0;
//@ opened
//@ staged
  return round_up(kStages[stage_of(p)].rooms[index]);
//@ end
//@ unstaged
  return round_up(index < kInputCount ? kInputRoom[index] : kOutputRoom[index - kInputCount]);
//@ end
//@ end
//@ closed
  return round_up(index < kInputCount ? p.sized_inputs[index].bytes
                                      : p.sized_outputs[index - kInputCount].bytes);
//@ end
}

// Bytes that inputs, outputs and the arena take with a set of shapes.
size_t room_for(int32_t number) {
  @name@_predictor p;
  describe_set(p, number);
//@ staged
  size_t bytes = kStages[stage_of(p)].arena;
//@ end
//@ unstaged
  size_t bytes = kArenaBytes;
//@ end
  for (int32_t i = 0; i < kInputCount + kOutputCount; ++i) bytes += own_bytes(p, i);
  return bytes;
}

// Gives all these their places for the current set of shapes. What has the same size in all sets
// comes first, so that it stays where it is.
void lay_out(@name@_predictor& p) {
  uint8_t* at = p.room;
  for (int open = 0; open < 2; ++open) {
    for (int32_t i = 0; i < kInputCount + kOutputCount; ++i) {
      if (((i < kInputCount ? kInputOpen[i] : kOutputOpen[i - kInputCount]) >= 0) != (open != 0))
        continue;
      p.own[i] = kOwnTensors ? at : nullptr;
      at += own_bytes(p, i);
    }
  }
  p.arena = at;
//@ staged
//@ machines
  p.places = p.code->places + stage_of(p) * p.code->place_count;
//@ end
//@ one_machine
  p.places = kPlaces[stage_of(p)];
//@ end
//@ end
}

// Fills the predictor's own memory for an input, or behind them an output, with zeros.
void clear_own(const @name@_predictor& p, int32_t index) {
  for (size_t k = 0; k < own_bytes(p, index); ++k) p.own[index][k] = 0;
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
