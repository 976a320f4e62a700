namespace impl { namespace {
//@ threads
constexpr size_t kHandleBytes = round_up(sizeof(@name@_predictor)) + round_up(sizeof(thread_pool));
//@ end
//@ one_thread
constexpr size_t kHandleBytes = round_up(sizeof(@name@_predictor));
//@ end
// Of inputs, outputs and the arena, the most.
constexpr size_t kRoomBytes = kArenaBytes + input_storage() + output_storage();
constexpr size_t kSharedMemoryBytes =
//@ text
    round_up(kTextWork) +
//@ end
//@ decoder
    kCacheBytes +
//@ end
//@ cuda
    2 * kPageBytes +
//@ end
    kHandleBytes + kRoomBytes + 64;
//@ known_memory
static_assert(kSharedMemoryBytes + kPreparedBytes <= @NAME@_MEMORY_BYTES,
              "the constant in the API suffices");
//@ end
//@ samples

// Number of steps for one sample.
int32_t sample_steps(const @name@_predictor& p) {
//@ machines
  return p.code->steps[0].count;
//@ end
//@ one_machine
  (void)p;
  return kStepCount;
//@ end
}

// Runs a step of a run, which does all steps for one sample after the other.
void run_sample_step(@name@_predictor& p, int32_t index) {
  p.sample = static_cast<size_t>(index / sample_steps(p));
  run_step(p, index % sample_steps(p));
  p.sample = 0;
}
//@ end
}}  // namespace impl

int32_t @name@_input_count(void) { return impl::kInputCount; }
int32_t @name@_output_count(void) { return impl::kOutputCount; }
const @name@_tensor* @name@_input(int32_t index) {
  return index >= 0 && index < impl::kInputCount ? &impl::kInputs[index] : nullptr;
}
const @name@_tensor* @name@_output(int32_t index) {
  return index >= 0 && index < impl::kOutputCount ? &impl::kOutputs[index] : nullptr;
}

BASELINE const char* @name@_error_text(@name@_status status) {
  switch (status) {
    case @NAME@_OK: return "no error";
    case @NAME@_BAD_ARGUMENT:
      return "bad argument: a null or misaligned pointer, an index out of range, or a wrong number "
             "of bytes";
//@ uncounted
    case @NAME@_NO_MEMORY: return "not enough memory: give at least @name@_memory_size() bytes";
//@ end
//@ counted
    case @NAME@_NO_MEMORY:
      return "not enough memory: give @name@_memory_size() bytes, or @name@_memory_size_for() the "
             "largest shape";
//@ end
    case @NAME@_NO_WEIGHTS:
      return "no weights: they are in a separate file (see @name@_create_from_file()), or have not "
             "all arrived";
    case @NAME@_BAD_WEIGHTS:
      return "wrong weights: they are not those that this file was built with";
    case @NAME@_NO_FILE:
      return "the weights file cannot be opened or mapped, or is not a regular file";
//@ decoder
    case @NAME@_FULL:
      return "the text is as long as it can get: build with a larger --context, or begin a new one "
             "(@name@_reset())";
//@ end
//@ strings
    case @NAME@_TOO_LONG: return "a string is longer than the elements of the input";
//@ end
//@ text_alone
    case @NAME@_TOO_LONG: return "the text is too long, or the memory for the result too small";
//@ end
    case @NAME@_BAD_CPU:
      return "this code was compiled for a CPU with " CPU_NEEDED
             ", and this one lacks it: build or compile it for this CPU";
//@ limited
    case @NAME@_TOO_MANY:
      return "the data exceeds a maximum that this file was built with: @limits@";
//@ end
//@ cuda
    case @NAME@_DEVICE_FAILED: return "the GPU failed: @name@_device() tells what its driver says";
//@ end
    default: return "unknown status";
  }
}

size_t @name@_memory_size(void) { return impl::kSharedMemoryBytes + impl::kPreparedBytes; }
size_t @name@_shared_memory_size(void) { return impl::kSharedMemoryBytes; }
size_t @name@_weights_size(void) { return impl::kWeightsBytes; }

namespace impl { namespace {

// Lays out a predictor in `memory` (null: allocates it). Prepared weights follow at its end, or are
// shared with `like`.
@name@_status make(@name@_predictor** predictor, void* memory, size_t memory_bytes,
                   const uint8_t* weights, const @name@_predictor* like) {
  const size_t bytes = like == nullptr ? @name@_memory_size() : @name@_shared_memory_size();
//@ counted
  // There may be less than all sets of shapes need.
  if (memory == nullptr && (memory_bytes == 0 || memory_bytes > bytes)) memory_bytes = bytes;
  if (memory_bytes < bytes - kRoomBytes + room_for(0)) return @NAME@_NO_MEMORY;
//@ end
  void* owned = nullptr;
  if (memory == nullptr) {
#if defined(@NAME@_FREESTANDING)
    return @NAME@_NO_MEMORY;
#else
//@ uncounted
    memory_bytes = bytes;
//@ end
    owned = memory = __builtin_malloc(memory_bytes);
#endif
  }
//@ uncounted
  if (memory == nullptr || memory_bytes < bytes) return @NAME@_NO_MEMORY;
//@ end
//@ counted
  if (memory == nullptr) return @NAME@_NO_MEMORY;
//@ end
  uint8_t* at = static_cast<uint8_t*>(memory);
  at += (64 - reinterpret_cast<uintptr_t>(at) % 64) % 64;
  @name@_predictor* const p = reinterpret_cast<@name@_predictor*>(at);
  p->owned = owned;
//@ side_file
  p->mapped = nullptr;
//@ end
  p->weights = weights;
  p->flush = 0;
  p->arrived = like == nullptr ? 0 : kWeightsBytes;
//@ tabled
  p->set = 0;
//@ end
//@ samples
  p->sample = 0;
//@ end
//@ machines
  p->code = like == nullptr ? chosen() : like->code;
  p->owns_prepared = like == nullptr;
//@ end
//@ cuda
  p->gpu = nullptr;
  p->device = {};
//@ end
//@ threads
  p->pool = reinterpret_cast<thread_pool*>(at + round_up(sizeof(@name@_predictor)));
//@ end
//@ counted
  at += kHandleBytes;
//@ text
  p->text = at;
  at += round_up(kTextWork);
//@ end
  p->prepared = like == nullptr ? at : like->prepared;
  at += like == nullptr ? kPreparedBytes : 0;
  p->room = at;
  p->room_bytes = memory_bytes - static_cast<size_t>(at - static_cast<uint8_t*>(memory));
  describe_set(*p, 0);
  lay_out(*p);
  for (int32_t i = 0; i < kInputCount + kOutputCount; ++i) clear_own(*p, i);
  for (int32_t i = 0; i < kInputCount; ++i) p->inputs[i] = own_input(*p, i);
  for (int32_t i = 0; i < kOutputCount; ++i) p->outputs[i] = own_output(*p, i);
//@ end
//@ uncounted
//@ no_decoder
  p->arena = at += kHandleBytes;
//@ end
//@ decoder
  p->arena = at += kHandleBytes + kCacheBytes;
  clear_text(*p);
//@ end
  at = own_tensors(*p);
  for (int i = 0; i < kInputCount; ++i) {
    p->inputs[i] = nullptr;
    if (!kOwnTensors) continue;
    for (size_t k = 0; k < @input_room(i)@; ++k) at[k] = 0;
    p->inputs[i] = at;
    at += round_up(@input_room(i)@);
  }
  for (int i = 0; i < kOutputCount; ++i) {
    p->outputs[i] = nullptr;
    if (!kOwnTensors) continue;
    for (size_t k = 0; k < @output_room(i)@; ++k) at[k] = 0;
    p->outputs[i] = at;
    at += round_up(@output_room(i)@);
  }
//@ cuda
  at = own_tensors(*p) + device::tensor_bytes();
//@ end
//@ text
  p->text = at;
  at += round_up(kTextWork);
//@ end
  p->prepared = like == nullptr ? at : like->prepared;
//@ end
//@ threads
  for (thread_share& share : p->pool->shares) share.parts = 0;
  init_pool(*p->pool);
  start_workers(*p, first_count());
//@ end
  *predictor = p;
  return @NAME@_OK;
}

//@ cuda
// Writes what @name@_device() tells: what computes, and what went wrong, if anything has.
void describe_device(@name@_predictor& p, const short_text& problem) {
  const bool on_gpu = p.code->cuda != nullptr;
  p.device.text[0] = 0;
  append(p.device, on_gpu ? "cuda: " : "cpu: ");
  if (on_gpu) device::append_device(p.device, *p.gpu);
  else append(p.device, p.code->name);
  if (problem.text[0] != 0) append(p.device, ": "), append(p.device, problem.text);
}

// Opens a GPU for a new predictor, if there is one; else the CPU's kernels remain.
void open_device(@name@_predictor& p, int32_t wanted, const @name@_predictor* like) {
  short_text problem = {};
  const bool on_cpu = like != nullptr && like->code->cuda == nullptr;
  p.gpu = device::open(on_cpu ? device::kNoDevice : wanted, own_tensors(p),
                       like != nullptr ? like->gpu : nullptr, problem);
  if (p.gpu != nullptr) p.code = p.gpu->code;
  else if (p.code->cuda != nullptr) p.code = chosen();
  if (on_cpu) p.device = like->device;
  else describe_device(p, problem);
//@ threads
  if (p.gpu != nullptr) stop_workers(p);  // they would do nothing
//@ end
}

// Goes on with the CPU's kernels after the GPU has failed.
void leave_device(@name@_predictor& p) {
  const short_text problem = p.gpu->problem;
  device::close(p.gpu);
  p.gpu = nullptr;
  p.code = chosen();
  describe_device(p, problem);
//@ threads
  start_workers(p, first_count());
//@ end
}

@name@_status after_run(@name@_predictor& p, bool success) {
  describe_device(p, success ? short_text{} : p.gpu->problem);
  return success ? @NAME@_OK : @NAME@_DEVICE_FAILED;
}

//@ end
// Called when the first `bytes` bytes of the weights are final: prepares what depends on the new
// ones. `mapped`: the weights are a mapped file, whose pages are released once they have been
// prepared.
void arrive(@name@_predictor* p, size_t bytes, bool mapped) {
//@ cuda
  if (p->code->cuda != nullptr) {
    prepare(*p, p->arrived, bytes, false);
    if (device::upload(*p, p->arrived, bytes)) {
      p->arrived = bytes;
      return;
    }
    leave_device(*p);
    p->arrived = 0;
  }
//@ end
  prepare(*p, p->arrived, bytes, mapped);
  p->arrived = bytes;
}

// Every way to create a predictor starts here: other code may use instructions that this CPU lacks.
BASELINE @name@_status begin_create(@name@_predictor** predictor) {
  if (predictor == nullptr) return @NAME@_BAD_ARGUMENT;
  *predictor = nullptr;
  return impl::cpu_suffices() ? @NAME@_OK : @NAME@_BAD_CPU;
}

// `arrived`: the number of bytes of the weights that are final.
//@ cuda
@name@_status create_on(@name@_predictor** predictor, int32_t wanted, void* memory,
                        size_t memory_bytes, const void* weights, size_t weights_bytes,
                        size_t arrived, bool mapped) {
//@ end
//@ no_cuda
@name@_status create(@name@_predictor** predictor, void* memory, size_t memory_bytes,
                     const void* weights, size_t weights_bytes, size_t arrived, bool mapped) {
//@ end
  const uint8_t* const embedded = embedded_weights();
  if (weights == nullptr && embedded == nullptr && kWeightsBytes != 0) return @NAME@_NO_WEIGHTS;
  if (weights != nullptr && weights_bytes != kWeightsBytes) return @NAME@_BAD_WEIGHTS;
  if (reinterpret_cast<uintptr_t>(weights) % 16 != 0) return @NAME@_BAD_ARGUMENT;
  const @name@_status status =
      make(predictor, memory, memory_bytes,
           weights != nullptr ? static_cast<const uint8_t*>(weights) : embedded, nullptr);
//@ cuda
  if (status == @NAME@_OK) open_device(**predictor, wanted, nullptr);
//@ end
  if (status == @NAME@_OK) arrive(*predictor, weights != nullptr ? arrived : kWeightsBytes, mapped);
  return status;
}
//@ cuda

@name@_status create(@name@_predictor** predictor, void* memory, size_t memory_bytes,
                     const void* weights, size_t weights_bytes, size_t arrived, bool mapped) {
  return create_on(predictor, device::kAnyDevice, memory, memory_bytes, weights, weights_bytes,
                   arrived, mapped);
}
//@ end

@name@_status create_shared(@name@_predictor** predictor, void* memory, size_t memory_bytes,
                            const @name@_predictor* like) {
  if (like == nullptr) return @NAME@_BAD_ARGUMENT;
  if (like->arrived != kWeightsBytes) return @NAME@_NO_WEIGHTS;
//@ cuda
  const @name@_status status = make(predictor, memory, memory_bytes, like->weights, like);
  if (status == @NAME@_OK) open_device(**predictor, device::kAnyDevice, like);
  return status;
//@ end
//@ no_cuda
  return make(predictor, memory, memory_bytes, like->weights, like);
//@ end
}

//@ cuda
// Returns inputs and outputs from the GPU's memory to the predictor's own, which the CPU reaches.
void unbind_device(@name@_predictor& p) {
  if (p.gpu == nullptr) return;
  for (int32_t i = 0; i < kInputCount; ++i) {
    if (device::bound(p, i)) p.inputs[i] = kOwnTensors ? own_input(p, i) : nullptr;
  }
  uint8_t* own = own_tensors(p) + input_storage();
  for (int32_t i = 0; i < kOutputCount; own += round_up(@output_room(i)@), ++i) {
    if (device::bound(p, kInputCount + i)) p.outputs[i] = kOwnTensors ? own : nullptr;
  }
}

//@ end
//@ side_file
@name@_status map_weights(const char* path, const void** weights, size_t* bytes) {
#if defined(@NAME@_FREESTANDING)
  (void)path, (void)weights, (void)bytes;
  return @NAME@_NO_FILE;
#else
  mapped_file file = {};
  if (!map_file(path, &file)) return @NAME@_NO_FILE;
  if (file.size != kWeightsBytes || !has_fingerprint(file.data, file.size, kWeightsFingerprint)) {
    unmap_file(&file);
    return @NAME@_BAD_WEIGHTS;
  }
  *weights = file.data;
  *bytes = file.size;
  return @NAME@_OK;
#endif
}

@name@_status create_from_file(@name@_predictor** predictor, const char* path,
                               size_t memory_bytes) {
  const void* weights = nullptr;
  size_t bytes = 0;
  @name@_status status = map_weights(path, &weights, &bytes);
  if (status != @NAME@_OK) return status;
  status =
      create(predictor, nullptr, memory_bytes, weights, bytes, kWeightsBytes, weights != nullptr);
  if (status == @NAME@_OK) (*predictor)->mapped = weights;
  else @name@_unmap_weights(weights, bytes);
  return status;
}

//@ end
}}  // namespace impl

BASELINE @name@_status @name@_create(@name@_predictor** predictor, void* memory,
                                     size_t memory_bytes, const void* weights,
                                     size_t weights_bytes) {
  const @name@_status status = impl::begin_create(predictor);
  return status != @NAME@_OK ? status
                             : impl::create(predictor, memory, memory_bytes, weights, weights_bytes,
                                            impl::kWeightsBytes, false);
}

BASELINE @name@_status @name@_create_mapped(@name@_predictor** predictor, void* memory,
                                            size_t memory_bytes, const void* weights,
                                            size_t weights_bytes) {
  const @name@_status status = impl::begin_create(predictor);
  return status != @NAME@_OK ? status
                             : impl::create(predictor, memory, memory_bytes, weights, weights_bytes,
                                            impl::kWeightsBytes, weights != nullptr);
}

BASELINE @name@_status @name@_create_early(@name@_predictor** predictor, void* memory,
                                           size_t memory_bytes, const void* weights,
                                           size_t weights_bytes) {
  const @name@_status status = impl::begin_create(predictor);
  return status != @NAME@_OK
      ? status
      : impl::create(predictor, memory, memory_bytes, weights, weights_bytes, 0, false);
}

@name@_status @name@_weights_arrived(@name@_predictor* p, size_t bytes) {
  if (p == nullptr || bytes < p->arrived || bytes > impl::kWeightsBytes) return @NAME@_BAD_ARGUMENT;
  impl::arrive(p, bytes, false);
  return @NAME@_OK;
}

BASELINE @name@_status @name@_create_shared(@name@_predictor** predictor, void* memory,
                                            size_t memory_bytes, const @name@_predictor* like) {
  const @name@_status status = impl::begin_create(predictor);
  return status != @NAME@_OK ? status : impl::create_shared(predictor, memory, memory_bytes, like);
}

BASELINE @name@_status @name@_map_weights(const char* path, const void** weights, size_t* bytes) {
  if (!impl::cpu_suffices()) return @NAME@_BAD_CPU;
  if (path == nullptr || weights == nullptr || bytes == nullptr) return @NAME@_BAD_ARGUMENT;
//@ side_file
  return impl::map_weights(path, weights, bytes);
//@ end
//@ no_side_file
  return @NAME@_NO_FILE;  // the weights are in this file
//@ end
}

void @name@_unmap_weights([[maybe_unused]] const void* weights, [[maybe_unused]] size_t bytes) {
//@ side_file
#if !defined(@NAME@_FREESTANDING)
  impl::mapped_file file = {static_cast<const uint8_t*>(weights), bytes};
  if (weights != nullptr) impl::unmap_file(&file);
#endif
//@ end
}

//@ uncounted
BASELINE @name@_status @name@_create_from_file(@name@_predictor** predictor, const char* path) {
//@ end
//@ counted
BASELINE @name@_status @name@_create_from_file(@name@_predictor** predictor, const char* path) {
  return @name@_create_from_file_within(predictor, path, 0);
}

BASELINE @name@_status @name@_create_from_file_within(@name@_predictor** predictor,
                                                      const char* path,
                                                      [[maybe_unused]] size_t memory_bytes) {
//@ end
  const @name@_status status = impl::begin_create(predictor);
  if (status != @NAME@_OK) return status;
  if (path == nullptr) return @NAME@_BAD_ARGUMENT;
//@ side_file
//@ uncounted
  return impl::create_from_file(predictor, path, 0);
//@ end
//@ counted
  return impl::create_from_file(predictor, path, memory_bytes);
//@ end
//@ end
//@ no_side_file
  return @NAME@_NO_FILE;  // the weights are in this file
//@ end
}

@name@_status @name@_bind_input(@name@_predictor* p, int32_t index, const void* data,
                                size_t bytes) {
  if (p == nullptr || index < 0 || index >= impl::kInputCount ||
      !impl::fits(@inputs(p)@[index], data, bytes))
    return @NAME@_BAD_ARGUMENT;
  p->inputs[index] = data;
  return @NAME@_OK;
}

@name@_status @name@_set_input(@name@_predictor* p, int32_t index, const void* data, size_t bytes) {
  if (p == nullptr || data == nullptr || index < 0 || index >= impl::kInputCount ||
      bytes != @inputs(p)@[index].bytes || !impl::kOwnTensors)
    return @NAME@_BAD_ARGUMENT;
  uint8_t* const own = impl::own_input(*p, index);
  impl::copy_bytes(own, data, bytes);
  p->inputs[index] = own;
  return @NAME@_OK;
}

//@ limited
namespace impl { namespace {

// What a run returns: whether it kept to the maxima that the file was built with.
@name@_status within_limits(const @name@_predictor& p) {
  return *static_cast<const int64_t*>(p.outputs[kExceeded]) == 0 ? @NAME@_OK : @NAME@_TOO_MANY;
}
}}  // namespace impl

//@ end
//@ strings
@name@_status @name@_set_string(@name@_predictor* p, int32_t index, size_t element,
                                const char* text) {
  if (p == nullptr || text == nullptr || index < 0 || index >= impl::kInputCount ||
      !impl::kOwnTensors || @inputs(p)@[index].dtype[0] != 'S')
    return @NAME@_BAD_ARGUMENT;
  size_t width = 0;
  for (const char* digit = @inputs(p)@[index].dtype + 1; *digit != 0; ++digit)
    width = 10 * width + static_cast<size_t>(*digit - '0');
  if (element >= @inputs(p)@[index].bytes / width) return @NAME@_BAD_ARGUMENT;
  size_t length = 0;
  while (length < width && text[length] != 0) ++length;
  if (length == width) return @NAME@_TOO_LONG;
  uint8_t* const own = impl::own_input(*p, index);
  p->inputs[index] = own;
  for (size_t k = 0; k < width; ++k)
    own[element * width + k] = k < length ? static_cast<uint8_t>(text[k]) : 0;
  return @NAME@_OK;
}

//@ end
//@ opened
namespace impl { namespace {

// Copies inputs that are bound to other memory to the predictor's own, where kernels read.
void take_inputs(const @name@_predictor& p) {
  for (int32_t i = 0; i < kInputCount; ++i)
    if (p.inputs[i] != own_input(p, i))
      copy_bytes(own_input(p, i), p.inputs[i], p.sized_inputs[i].bytes);
}

// Copies outputs to the memory that they are bound to.
void give_outputs(const @name@_predictor& p) {
  for (int32_t i = 0; i < kOutputCount; ++i)
    if (p.outputs[i] != own_output(p, i))
      copy_bytes(p.outputs[i], own_output(p, i), p.sized_outputs[i].bytes);
}
}}  // namespace impl

//@ end
@name@_status @name@_run(@name@_predictor* p) {
  if (p == nullptr || (!impl::kOwnTensors && !impl::all_bound(*p))) return @NAME@_BAD_ARGUMENT;
  if (p->arrived != impl::kWeightsBytes) return @NAME@_NO_WEIGHTS;
//@ threads
  impl::notice_fork(*p->pool);
//@ end
//@ cuda
  if (p->code->cuda != nullptr) {
    const @name@_status status = impl::after_run(*p, impl::device::run(*p));
//@ limited
    if (status == @NAME@_OK && !impl::device::bound(*p, impl::kInputCount + impl::kExceeded))
      return impl::within_limits(*p);
//@ end
    return status;
  }
//@ end
  const uint64_t floats = p->flush ? impl::flush_denormals() : 0;
//@ opened
  impl::take_inputs(*p);
//@ end
//@ whole
  for (int32_t i = 0; i < @steps(p)@; ++i) impl::run_step(*p, @first_step(p)@i);
//@ end
//@ opened
  impl::give_outputs(*p);
//@ end
//@ samples
  const int32_t steps = @steps(p)@;
  for (int32_t i = 0; i < steps; ++i) impl::run_sample_step(*p, i);
//@ end
  if (p->flush) impl::restore_floats(floats);
//@ limited
  return impl::within_limits(*p);
//@ end
//@ no_limits
  return @NAME@_OK;
//@ end
}

@name@_status @name@_set_flush_denormals(@name@_predictor* p, int32_t flush) {
  if (p == nullptr) return @NAME@_BAD_ARGUMENT;
  p->flush = flush != 0 ? 1 : 0;
  return @NAME@_OK;
}

//@ choices
int32_t @name@_step_count_of(const @name@_predictor* p) { return p != nullptr ? @steps(p)@ : 0; }

const char* @name@_step_name_of(const @name@_predictor* p, int32_t index) {
//@ whole
  return p != nullptr && index >= 0 && index < @steps(p)@ ? @step_names(p)@[@first_step(p)@index]
                                                          : nullptr;
//@ end
//@ samples
  if (p == nullptr || index < 0 || index >= @steps(p)@) return nullptr;
  return @step_names(p)@[index % impl::sample_steps(*p)];
//@ end
}

//@ end
//@ one_machine
int32_t @name@_step_count(void) { return impl::kStepCount; }
const char* @name@_step_name(int32_t index) {
  return index >= 0 && index < impl::kStepCount ? impl::kStepNames[index] : nullptr;
}
//@ end
//@ machines
int32_t @name@_step_count(void) { return impl::first_step_count(); }
const char* @name@_step_name(int32_t index) {
  return index >= 0 && index < impl::first_step_count() ? impl::chosen()->step_names[index]
                                                        : nullptr;
}

int32_t @name@_variant_count(void) {
  return static_cast<int32_t>(sizeof impl::kMachines / sizeof impl::kMachines[0]) - 1;
}
const char* @name@_variant_name(int32_t index) {
  return index >= 0 && index < @name@_variant_count() ? impl::kMachines[index]->name : nullptr;
}
const char* @name@_variant(const @name@_predictor* p) {
  return p != nullptr ? p->code->name : nullptr;
}

@name@_status @name@_set_variant(@name@_predictor* p, int32_t index) {
  if (p == nullptr || index < 0 || index >= @name@_variant_count()) return @NAME@_BAD_ARGUMENT;
  const impl::machine_code* const code = impl::kMachines[index];
//@ cuda
  if (code->cuda != nullptr && (p->gpu == nullptr || p->gpu->code != code)) return @NAME@_BAD_CPU;
  if (code->cuda == nullptr && !code->suffices()) return @NAME@_BAD_CPU;
//@ end
//@ no_cuda
  if (!code->suffices()) return @NAME@_BAD_CPU;
//@ end
  if (!p->owns_prepared) return @NAME@_BAD_ARGUMENT;
//@ cuda
//@ threads
  // The GPU's code has no work for threads.
  const bool leaves = p->code->cuda != nullptr && code->cuda == nullptr;
  if (leaves) impl::start_workers(*p, impl::first_count());
  else if (code->cuda != nullptr) impl::stop_workers(*p);
//@ end
//@ end
  p->code = code;
//@ staged
  impl::lay_out(*p);
//@ end
  impl::prepare(*p, 0, p->arrived, false);
//@ cuda
  if (code->cuda == nullptr) impl::unbind_device(*p);
  impl::describe_device(*p, {});
//@ end
  return @NAME@_OK;
}
//@ end

@name@_status @name@_run_step(@name@_predictor* p, int32_t index) {
  if (p == nullptr || index < 0 || index >= @steps(p)@ ||
      (!impl::kOwnTensors && !impl::all_bound(*p)))
    return @NAME@_BAD_ARGUMENT;
  if (p->arrived != impl::kWeightsBytes) return @NAME@_NO_WEIGHTS;
//@ threads
  impl::notice_fork(*p->pool);
//@ end
//@ cuda
  if (p->code->cuda != nullptr) return impl::after_run(*p, impl::device::run_step(*p, index));
//@ end
  const uint64_t floats = p->flush ? impl::flush_denormals() : 0;
//@ opened
  if (index == 0) impl::take_inputs(*p);
//@ end
//@ whole
  impl::run_step(*p, @first_step(p)@index);
//@ end
//@ opened
  if (index + 1 == @steps(p)@) impl::give_outputs(*p);
//@ end
//@ samples
  impl::run_sample_step(*p, index);
//@ end
  if (p->flush) impl::restore_floats(floats);
  return @NAME@_OK;
}

const void* @name@_input_data(const @name@_predictor* p, int32_t index) {
  return p != nullptr && index >= 0 && index < impl::kInputCount ? p->inputs[index] : nullptr;
}

const void* @name@_output_data(@name@_predictor* p, int32_t index) {
  return p != nullptr && index >= 0 && index < impl::kOutputCount ? p->outputs[index] : nullptr;
}

//@ sized
const int64_t* @name@_output_shape(const @name@_predictor* p, int32_t index) {
  if (p == nullptr || index < 0 || index >= impl::kOutputCount) return nullptr;
  const int32_t at = impl::kTrueShape[index];
  return at < 0 ? @outputs(p)@[index].shape : static_cast<const int64_t*>(p->outputs[at]);
}

//@ end
@name@_status @name@_get_output(@name@_predictor* p, int32_t index, void* data, size_t bytes) {
  if (p == nullptr || data == nullptr || index < 0 || index >= impl::kOutputCount ||
      bytes != @outputs(p)@[index].bytes)
    return @NAME@_BAD_ARGUMENT;
  if (!impl::kOwnTensors && p->outputs[index] == nullptr) return @NAME@_BAD_ARGUMENT;
//@ cuda
  if (impl::device::bound(*p, impl::kInputCount + index))
    return impl::after_run(*p, impl::device::read_bound(*p, index, data, bytes));
//@ end
  impl::copy_bytes(data, p->outputs[index], bytes);
  return @NAME@_OK;
}

@name@_status @name@_bind_output(@name@_predictor* p, int32_t index, void* data, size_t bytes) {
  if (p == nullptr || index < 0 || index >= impl::kOutputCount ||
      !impl::fits(@outputs(p)@[index], data, bytes))
    return @NAME@_BAD_ARGUMENT;
  p->outputs[index] = data;
  return @NAME@_OK;
}

//@ cuda
const char* @name@_device(const @name@_predictor* p) {
  return p != nullptr ? p->device.text : nullptr;
}

BASELINE @name@_status @name@_create_on(@name@_predictor** predictor, const char* device,
                                        void* memory, size_t memory_bytes, const void* weights,
                                        size_t weights_bytes) {
  int32_t wanted = 0;
  const @name@_status status = impl::begin_create(predictor);
  if (status != @NAME@_OK) return status;
  if (!impl::device::device_number(device, &wanted)) return @NAME@_BAD_ARGUMENT;
  return impl::create_on(predictor, wanted, memory, memory_bytes, weights, weights_bytes,
                         impl::kWeightsBytes, false);
}

@name@_status @name@_bind_input_device(@name@_predictor* p, int32_t index, const void* data,
                                       size_t bytes) {
  if (p == nullptr || p->code->cuda == nullptr || index < 0 || index >= impl::kInputCount ||
      !impl::fits(@inputs(p)@[index], data, bytes))
    return @NAME@_BAD_ARGUMENT;
  if (!impl::device::bind(*p, index, data, bytes)) return @NAME@_BAD_ARGUMENT;
  p->inputs[index] = data;
  return @NAME@_OK;
}

@name@_status @name@_bind_output_device(@name@_predictor* p, int32_t index, void* data,
                                        size_t bytes) {
  if (p == nullptr || p->code->cuda == nullptr || index < 0 || index >= impl::kOutputCount ||
      !impl::fits(@outputs(p)@[index], data, bytes))
    return @NAME@_BAD_ARGUMENT;
  if (!impl::device::bind(*p, impl::kInputCount + index, data, bytes)) return @NAME@_BAD_ARGUMENT;
  p->outputs[index] = data;
  return @NAME@_OK;
}

void* @name@_cuda_stream(const @name@_predictor* p) {
  return p != nullptr && p->gpu != nullptr ? p->gpu->stream : nullptr;
}

//@ end
//@ tabled
namespace impl { namespace {

bool has_shape(const @name@_tensor& tensor, const int64_t* shape, int32_t rank) {
  bool same = tensor.rank == rank;
  for (int32_t d = 0; same && d < rank; ++d) same = tensor.shape[d] == shape[d];
  return same;
}

bool same_shape(const @name@_tensor& a, const @name@_tensor& b) {
  return has_shape(a, b.shape, b.rank);
}

// Number of inputs with the same shape in both sets.
int32_t same_inputs(const shape_set& a, const shape_set& b) {
  int32_t count = 0;
  for (int i = 0; i < kInputCount; ++i) count += same_shape(a.inputs[i], b.inputs[i]) ? 1 : 0;
  return count;
}

// If the shape changes, moves an input or output to the predictor's own memory at `at`, filled with
// zeros.
template <class T>
uint8_t* resize(T& place, uint8_t* at, size_t room, const @name@_tensor& from,
                const @name@_tensor& to) {
  if (!same_shape(from, to)) {
    for (size_t k = 0; kOwnTensors && k < to.bytes; ++k) at[k] = 0;
    place = kOwnTensors ? at : nullptr;
  }
  return at + round_up(room);
}

}}  // namespace impl

//@ end
//@ shapes
int32_t @name@_shape_count(void) { return impl::kShapeCount; }

int32_t @name@_shape(const @name@_predictor* p) { return p != nullptr ? p->set : -1; }

const @name@_tensor* @name@_input_of(const @name@_predictor* p, int32_t index) {
  return p != nullptr && index >= 0 && index < impl::kInputCount ? &@inputs(p)@[index] : nullptr;
}

const @name@_tensor* @name@_output_of(const @name@_predictor* p, int32_t index) {
  return p != nullptr && index >= 0 && index < impl::kOutputCount ? &@outputs(p)@[index] : nullptr;
}

//@ end
//@ tabled
@name@_status @name@_set_shape(@name@_predictor* p, int32_t number) {
  if (p == nullptr || number < 0 || number >= impl::kShapeCount) return @NAME@_BAD_ARGUMENT;
  const impl::shape_set& from = impl::kShapes[p->set];
  const impl::shape_set& to = impl::kShapes[number];
  uint8_t* at = impl::own_tensors(*p);
  for (int i = 0; i < impl::kInputCount; ++i)
    at = impl::resize(p->inputs[i], at, impl::kInputRoom[i], from.inputs[i], to.inputs[i]);
  for (int i = 0; i < impl::kOutputCount; ++i)
    at = impl::resize(p->outputs[i], at, impl::kOutputRoom[i], from.outputs[i], to.outputs[i]);
  p->set = number;
  return @NAME@_OK;
}

@name@_status @name@_reshape(@name@_predictor* p, int32_t input, const int64_t* shape,
                             int32_t rank) {
  if (p == nullptr || input < 0 || input >= impl::kInputCount || rank < 0 ||
      (shape == nullptr && rank != 0))
    return @NAME@_BAD_ARGUMENT;
  int32_t best = -1, most = -1;
  for (int32_t k = 0; k < impl::kShapeCount; ++k) {
    const int32_t kept = impl::same_inputs(impl::kShapes[k], impl::kShapes[p->set]);
    if (impl::has_shape(impl::kShapes[k].inputs[input], shape, rank) && kept > most)
      best = k, most = kept;
  }
  return @name@_set_shape(p, best);
}

//@ end
//@ counted
@name@_status @name@_set_shape(@name@_predictor* p, int32_t number) {
  if (p == nullptr || number < 0 || number >= impl::kShapeCount) return @NAME@_BAD_ARGUMENT;
  if (number == p->set) return @NAME@_OK;
  if (impl::room_for(number) > p->room_bytes) return @NAME@_NO_MEMORY;
  impl::describe_set(*p, number);
  impl::lay_out(*p);
  // What changes its size moves to the predictor's own memory, filled with zeros.
  for (int32_t i = 0; i < impl::kInputCount; ++i) {
    if (impl::kInputOpen[i] < 0) continue;
    impl::clear_own(*p, i);
    p->inputs[i] = impl::own_input(*p, i);
  }
  for (int32_t i = 0; i < impl::kOutputCount; ++i) {
    if (impl::kOutputOpen[i] < 0) continue;
    impl::clear_own(*p, impl::kInputCount + i);
    p->outputs[i] = impl::own_output(*p, i);
  }
  return @NAME@_OK;
}

namespace impl { namespace {

// The set in which an input has this shape, with open dimensions of others as in set `from`, or -1.
int32_t set_with(int32_t from, int32_t input, const int64_t* shape, int32_t rank) {
  if (input < 0 || input >= kInputCount || (shape == nullptr && rank != 0) ||
      rank != kInputs[input].rank)
    return -1;
  int64_t number = from;
//@ linear
  for (int32_t d = 0; d < rank; ++d) {
    const int64_t more = shape[d] - kInputs[input].shape[d];
    if (d == kInputOpen[input]) number = more;
    else if (more != 0) return -1;
  }
//@ end
//@ pictures
  for (int32_t d = 0; d < rank; ++d) {
    const int64_t more = shape[d] - kInputs[input].shape[d];
    const open_dim* open = nullptr;
    for (const open_dim& dim : kOpenDims)
      if (dim.input == input && dim.dimension == d) open = &dim;
    if (open == nullptr && more != 0) return -1;
    if (open == nullptr) continue;
    if (more < 0 || more % open->step != 0 || more / open->step >= open->count) return -1;
    number += (more / open->step - from / open->sets % open->count) * open->sets;
  }
//@ end
  return number >= 0 && number < kShapeCount ? static_cast<int32_t>(number) : -1;
}
}}  // namespace impl

@name@_status @name@_reshape(@name@_predictor* p, int32_t input, const int64_t* shape,
                             int32_t rank) {
  if (p == nullptr) return @NAME@_BAD_ARGUMENT;
  return @name@_set_shape(p, impl::set_with(p->set, input, shape, rank));
}

size_t @name@_memory_size_for(int32_t input, const int64_t* shape, int32_t rank) {
  const size_t shared = @name@_shared_memory_size_for(input, shape, rank);
  return shared != 0 ? shared + impl::kPreparedBytes : 0;
}

size_t @name@_shared_memory_size_for(int32_t input, const int64_t* shape, int32_t rank) {
  const int32_t number = impl::set_with(0, input, shape, rank);
  return number < 0 ? 0 : impl::kSharedMemoryBytes - impl::kRoomBytes + impl::room_for(number);
}

//@ end
@name@_status @name@_set_threads(@name@_predictor* p, int32_t count) {
  if (p == nullptr || count < 1) return @NAME@_BAD_ARGUMENT;
//@ threads
  impl::stop_workers(*p);
  impl::start_workers(*p, count < impl::kMostThreads ? count : impl::kMostThreads);
//@ end
  return @NAME@_OK;
}

int32_t @name@_threads(const @name@_predictor* p) {
  if (p == nullptr) return 0;
//@ threads
  impl::notice_fork(*p->pool);
  return p->pool->count;
//@ end
//@ one_thread
  return 1;
//@ end
}
//@ threads

#if defined(__wasm_atomics__)
// Entry point of a web worker; numbers start at 1. It returns when the predictor is destroyed.
extern "C" __attribute__((visibility("default"))) void @name@_work(const @name@_predictor* p,
                                                                   int32_t number) {
  impl::work(*p, number);
}
#endif
//@ end

void @name@_destroy(@name@_predictor* p) {
  if (p == nullptr) return;
//@ threads
  impl::stop_workers(*p);
#if defined(@NAME@_POSIX_THREADS) && !defined(@NAME@_FUTEXES)
  pthread_cond_destroy(&p->pool->wake);
  pthread_mutex_destroy(&p->pool->mutex);
#endif
//@ end
//@ side_file
  if (p->mapped != nullptr) @name@_unmap_weights(p->mapped, impl::kWeightsBytes);
//@ end
//@ cuda
  if (p->gpu != nullptr) impl::device::close(p->gpu);
//@ end
#if !defined(@NAME@_FREESTANDING)
  __builtin_free(p->owned);
#endif
}
