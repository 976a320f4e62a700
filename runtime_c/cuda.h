// Kernels on NVIDIA's GPUs: a predictor's GPU is opened when it is created, and each run is one CUDA graph. The grammar of
// sections is told at the top of vectors.h.

//@ section cuda_table
// Kernels for GPUs: their launches, and the images that they are compiled to, each packed as a zlib stream.
struct cuda_kernel {
  const char* name;
  uint32_t grid[3], block[3];
};
struct cuda_image {
  int32_t arch;  // 53: for compute capability 5.3
  bool ptx;  // for the driver to compile, for that one or a later; else a cubin
  size_t offset, packed, bytes;
};
struct cuda_program {
  const cuda_kernel* kernels;
  int32_t kernel_count;
  const cuda_image* images;
  int32_t image_count;
  const uint8_t* packed;
};

//@ section cuda_device
namespace device {

// What a caller asks for: a number is that GPU's.
constexpr int32_t kAnyDevice = -2;  // the GPU of the current context, else number 0, else the CPU
constexpr int32_t kNoDevice = -1;  // the CPU

// An input or output.
struct tensor {
  cuda_address own;  // the predictor's own memory for it on the GPU
  cuda_address
      bound;  // the caller's, or 0; in use while the predictor's pointer for it is the same
  cuda_address address;  // where the kernels of the next run find it
  bool in_graph;  // the graph copies it between own and the predictor's memory on the host
  bool
      in_run;  // each run copies it, since the caller's memory may move, or is not as aligned as kernels need
};

// A recorded run, and what it depends on.
struct recorded {
  cuda_graph_exec* exec;
  int32_t set;
  uint64_t last_used;
  cuda_address addresses[kInputCount + kOutputCount + 1];
  bool in_graph[kInputCount + kOutputCount + 1];
};
constexpr int32_t kRecordings = 4;

}  // namespace device

// A predictor's GPU.
struct cuda_device {
  cuda_driver driver;
  const machine_code* code;  // whose kernels it has
  const cuda_device* like;  // whose weights, module and context it shares; null: it has its own
  cuda_context* context;
  int32_t number;
  bool retained;  // the context is the GPU's primary one, which is released with the predictor
  bool integrated;  // the GPU works in the host's memory
  int32_t arch;
  cuda_module* module;
  cuda_stream* stream;
  cuda_address weights;  // the weights, and behind them those that are computed from them
  cuda_address memory;  // the arena, and behind it inputs and outputs
  uint8_t*
      registered;  // the predictor's inputs and outputs on the host, if the driver keeps them in place
  cuda_address mapped;  // and where an integrated GPU finds them
  device::tensor tensors[kInputCount + kOutputCount + 1];
  device::recorded recordings[device::kRecordings];
  uint64_t runs;
  enum { kKernels, kBorders } part;  // what the steps of a run do
  int32_t bordered;  // the set of shapes whose borders are filled; -1: none
  bool failed;
  short_text problem;  // of the last failure: the function and the driver's words
  cuda_function** functions;
};

namespace device {

constexpr size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

// Of a predictor's own inputs and outputs, whole pages.
constexpr size_t tensor_bytes() {
  return (input_storage() + output_storage() + kPageBytes - 1) / kPageBytes * kPageBytes;
}

// Whether a function of the driver has succeeded; remembers the first failure's words.
bool good(cuda_device& d, const char* function, int32_t error) {
  if (error == 0) return true;
  if (!d.failed) {
    const char* text = nullptr;
    d.problem.text[0] = 0;
    append(d.problem, function);
    append(d.problem, ": ");
    if (d.driver.error_string(error, &text) != 0 || text == nullptr) text = "unknown error";
    append(d.problem, text);
    append(d.problem, " ("), append_number(d.problem, error < 0 ? 0 : error),
        append(d.problem, ")");
  }
  d.failed = true;
  return false;
}

bool refuse(cuda_device& d, const char* why) {
  if (!d.failed) d.problem.text[0] = 0, append(d.problem, why);
  d.failed = true;
  return false;
}

// Makes the GPU's context the calling thread's for as long as it lives.
struct in_context {
  explicit in_context(cuda_device& d)
      : device(d), pushed(good(d, "cuCtxPushCurrent", d.driver.context_push(d.context))) {}
  ~in_context() {
    cuda_context* own = nullptr;
    if (pushed) device.driver.context_pop(&own);
  }
  in_context(const in_context&) = delete;
  in_context& operator=(const in_context&) = delete;
  cuda_device& device;
  bool pushed;
};

// --- addresses and launches: what the steps of a run are written with ---

// Memory on the GPU.
template <class T> struct pointer {
  const @name@_predictor* p;
  cuda_address address;
};
template <class T> pointer<T> arena(const @name@_predictor& p, size_t offset) {
  return {&p, p.gpu->memory + offset};
}
template <class T> pointer<T> weight(const @name@_predictor& p, size_t offset) {
  return {&p, p.gpu->weights + offset};
}
template <class T> pointer<T> prepared(const @name@_predictor& p, size_t offset) {
  return {&p, p.gpu->weights + aligned(kWeightsBytes) + offset};
}
template <class T> pointer<T> input(const @name@_predictor& p, int index, size_t offset) {
  return {&p, p.gpu->tensors[index].address + offset};
}
template <class T> pointer<T> output(const @name@_predictor& p, int index, size_t offset) {
  return {&p, p.gpu->tensors[kInputCount + index].address + offset};
}

[[maybe_unused]] inline void launch_kernel(cuda_device& d, int32_t kernel,
                                           const uint32_t (&grid)[3], void** parameters) {
  const uint32_t (&block)[3] = d.code->cuda->kernels[kernel].block;
  good(d, "cuLaunchKernel",
       d.driver.launch(d.functions[kernel], grid[0], grid[1], grid[2], block[0], block[1], block[2],
                       0, d.stream, parameters, nullptr));
}

template <class... T> void launch(const @name@_predictor& p, int32_t kernel, T... pointers) {
  if (p.gpu->part == cuda_device::kBorders) return;
  void* parameters[] = {&pointers.address...};
  launch_kernel(*p.gpu, kernel, p.gpu->code->cuda->kernels[kernel].grid, parameters);
}

template <class A, class B> void copy_bytes(pointer<A> to, pointer<B> from, size_t bytes) {
  cuda_device& d = *to.p->gpu;
  if (d.part == cuda_device::kBorders) return;
  good(d, "cuMemcpyDtoDAsync", d.driver.copy_on_device(to.address, from.address, bytes, d.stream));
}

// Fills the border of a buffer of up to 6 dimensions, with the kernel fill_halo_N for elements of N bytes.
template <class T, class V>
void fill_halo(pointer<T> data, int32_t rank, const int32_t* shape, const int32_t* low,
               const int32_t* high, V value) {
  cuda_device& d = *data.p->gpu;
  if (d.part == cuda_device::kKernels) return;
  const cuda_program& program = *d.code->cuda;
  char name[] = "fill_halo_0";
  name[10] = static_cast<char>('0' + sizeof(T));
  int32_t kernel = 0;
  const auto is_called = [&name](const char* other) {
    size_t n = 0;
    while (n < sizeof name && name[n] == other[n]) ++n;
    return n == sizeof name;
  };
  while (kernel < program.kernel_count && !is_called(program.kernels[kernel].name)) ++kernel;
  if (kernel == program.kernel_count || rank > 6)
    return static_cast<void>(refuse(d, "no kernel fills this border"));
  int32_t sizes[18];  // shape, low, high
  T filled = static_cast<T>(value);
  void* parameters[20] = {&data.address};
  uint32_t elements = 1;
  for (int32_t k = 0; k < 6; ++k) {
    const int32_t dim = k - (6 - rank);
    sizes[k] = dim < 0 ? 1 : shape[dim], sizes[6 + k] = dim < 0 ? 0 : low[dim],
    sizes[12 + k] = dim < 0 ? 0 : high[dim];
    elements *= static_cast<uint32_t>(sizes[k]);
  }
  for (int32_t k = 0; k < 18; ++k) parameters[1 + k] = &sizes[k];
  parameters[19] = &filled;
  const uint32_t grid[3] = {(elements + 255) / 256, 1, 1};
  if (elements != 0) launch_kernel(d, kernel, grid, parameters);
}

}  // namespace device

//@ section cuda_runs
namespace device {

// --- opening and closing ---

#if defined(@NAME@_CUDA)
constexpr const char* kNoGpu = "not enough memory";
void* take_memory(size_t bytes) { return __builtin_malloc(bytes); }
void give_memory(void* memory) { __builtin_free(memory); }
#else
constexpr const char* kNoGpu = "this system has no CUDA, or it was left out";
void* take_memory(size_t) { return nullptr; }
void give_memory(void*) {}
#endif

int32_t attribute(cuda_device& d, int32_t which) {
  int32_t value = 0;
  return d.driver.device_attribute(&value, which, d.number) == 0 ? value : 0;
}

// Finds the GPU and the context. A caller's own context is used where it is for that GPU.
bool open_context(cuda_device& d, int32_t wanted) {
  if (!good(d, "cuInit", d.driver.init(0))) return false;
  cuda_context* current = nullptr;
  int32_t of_current = -1, count = 0, number = wanted < 0 ? 0 : wanted;
  if (!good(d, "cuDeviceGetCount", d.driver.device_count(&count))) return false;
  if (d.driver.context_current(&current) != 0 || current == nullptr ||
      d.driver.context_device(&of_current) != 0)
    current = nullptr;
  if (current != nullptr && wanted < 0) {
    d.context = current, d.number = of_current;
  } else {
    if (count == 0) return refuse(d, "the driver finds no GPU");
    if (number >= count) return refuse(d, "there is no GPU of this number");
    if (!good(d, "cuDeviceGet", d.driver.device_get(&d.number, number))) return false;
    if (current != nullptr && of_current == d.number) d.context = current;
    else if (!good(d, "cuDevicePrimaryCtxRetain", d.driver.primary_retain(&d.context, d.number)))
      return false;
    else d.retained = true;
  }
  constexpr int32_t kIntegrated = 18, kMajor = 75, kMinor = 76;
  d.arch = 10 * attribute(d, kMajor) + attribute(d, kMinor);
  d.integrated = attribute(d, kIntegrated) != 0;
  return true;
}

// Whether an architecture is that of a Jetson, DRIVE or Thor, whose code no other GPU runs, and which run no other's.
constexpr bool stands_alone(int32_t arch) {
  return arch == 53 || arch == 62 || arch == 72 || arch == 87 || arch == 88 || arch == 101 ||
      arch == 110;
}

// How well an image suits: 3 for the GPU's own architecture, 2 for code of the same major number, 1 for PTX, 0 not.
int32_t suits(const cuda_device& d, const cuda_image& image) {
  if (image.arch > d.arch) return 0;
  if (image.ptx) return 1;
  if (image.arch == d.arch) return 3;
  const bool compatible = !stands_alone(image.arch) && !stands_alone(d.arch);
  return compatible && image.arch / 10 == d.arch / 10 ? 2 : 0;
}

bool load_image(cuda_device& d, const cuda_program& program, const cuda_image& image) {
  uint8_t* const data = static_cast<uint8_t*>(take_memory(image.bytes));
  if (data == nullptr) return refuse(d, "not enough memory for the kernels");
  const bool whole = inflate(data, image.bytes, program.packed + image.offset, image.packed);
  const bool loaded = whole ? good(d, "cuModuleLoadData", d.driver.module_load(&d.module, data))
                            : refuse(d, "the kernels in this file are damaged");
  give_memory(data);
  return loaded;
}

// Loads the image that suits best; where the driver refuses it, the next. If none remains, the first refusal is told.
bool load_module(cuda_device& d, const cuda_program& program) {
  for (int32_t score = 3; score > 0; --score) {
    for (int32_t k = program.image_count; k-- > 0;) {  // of equally good ones the latest
      if (suits(d, program.images[k]) == score && load_image(d, program, program.images[k]))
        return true;
    }
  }
  return false;
}

bool load_kernels(cuda_device& d, const machine_code& code) {
  const cuda_program& program = *code.cuda;
  if (!load_module(d, program)) return false;
  d.failed = false;  // though an image before this one may have been refused
  d.functions = static_cast<cuda_function**>(
      take_memory(sizeof(cuda_function*) * static_cast<size_t>(program.kernel_count)));
  if (d.functions == nullptr) return refuse(d, "not enough memory for the kernels");
  for (int32_t k = 0; k < program.kernel_count; ++k) {
    if (!good(d, "cuModuleGetFunction",
              d.driver.module_function(&d.functions[k], d.module, program.kernels[k].name)))
      return false;
  }
  d.code = &code;
  return true;
}

// Allocates the arena, inputs and outputs, and has the driver keep the host's memory for these in place, if it can: that
// of a Jetson TX1 or TX2 cannot.
bool open_memory(cuda_device& d, uint8_t* tensors) {
  size_t bytes = aligned(kArenaBytes), at[kInputCount + kOutputCount + 1] = {};
  for (int i = 0; i < kInputCount; ++i) at[i] = bytes, bytes += aligned(@input_room(i)@);
  for (int i = 0; i < kOutputCount; ++i)
    at[kInputCount + i] = bytes, bytes += aligned(@output_room(i)@);
  if (!good(d, "cuMemAlloc", d.driver.allocate(&d.memory, bytes + 256))) return false;
  for (int i = 0; i < kInputCount + kOutputCount; ++i) d.tensors[i].own = d.memory + at[i];
  constexpr uint32_t kPortable = 1, kMapped = 2;
  if (tensor_bytes() != 0 &&
      d.driver.host_register(tensors, tensor_bytes(),
                             d.integrated ? kPortable | kMapped : kPortable) == 0) {
    d.registered = tensors;
    if (d.integrated && d.driver.host_mapped(&d.mapped, tensors, 0) != 0) d.mapped = 0;
  }
  return true;
}

bool open_weights(cuda_device& d) {
  if (d.like != nullptr) d.weights = d.like->weights;
  else if (kWeightsBytes + kPreparedBytes != 0)
    return good(d, "cuMemAlloc",
                d.driver.allocate(&d.weights, aligned(kWeightsBytes) + kPreparedBytes + 256));
  return true;
}

bool open_kernels(cuda_device& d) {
  if (d.like != nullptr) {
    d.module = d.like->module, d.functions = d.like->functions, d.code = d.like->code;
    return true;
  }
  for (const machine_code* const* code = kMachines; *code != nullptr; ++code) {
    if ((*code)->cuda != nullptr && load_kernels(d, **code)) return true;
    if (d.module != nullptr) return false;
  }
  if (!d.failed) {
    refuse(d, "no kernels for sm_");
    append_number(d.problem, d.arch);
  }
  return false;
}

bool open_all(cuda_device& d, int32_t wanted, uint8_t* tensors) {
  if (d.like != nullptr) {
    d.driver = d.like->driver, d.context = d.like->context, d.number = d.like->number,
    d.arch = d.like->arch, d.integrated = d.like->integrated;
  } else if (!load_cuda_driver(d.driver, d.problem) || !open_context(d, wanted)) {
    return false;
  }
  const in_context here(d);
  constexpr uint32_t kNonBlocking = 1;  // does not wait for the caller's default stream
  return here.pushed && open_kernels(d) &&
      good(d, "cuStreamCreate", d.driver.stream_create(&d.stream, kNonBlocking)) &&
      open_weights(d) && open_memory(d, tensors);
}

// Frees what there is. Where the context has been destroyed, everything in it has been freed with it.
void close(cuda_device* d) {
  if (d->context != nullptr) {
    const in_context here(*d);
    if (here.pushed) {
      for (recorded& r : d->recordings) {
        if (r.exec != nullptr) d->driver.graph_exec_destroy(r.exec);
      }
      if (d->registered != nullptr) d->driver.host_unregister(d->registered);
      if (d->memory != 0) d->driver.free(d->memory);
      if (d->weights != 0 && d->like == nullptr) d->driver.free(d->weights);
      if (d->stream != nullptr) d->driver.stream_destroy(d->stream);
      if (d->module != nullptr && d->like == nullptr) d->driver.module_unload(d->module);
    }
  }
  if (d->retained) d->driver.primary_release(d->number);
  if (d->like == nullptr) give_memory(d->functions);
  give_memory(d);
}

// Opens a GPU for a predictor whose inputs and outputs lie at `tensors`; null with the reason in `problem`.
cuda_device* open(int32_t wanted, uint8_t* tensors, const cuda_device* like, short_text& problem) {
  problem.text[0] = 0;
  cuda_device* const d =
      wanted == kNoDevice ? nullptr : static_cast<cuda_device*>(take_memory(sizeof(cuda_device)));
  if (d == nullptr) {
    if (wanted != kNoDevice) append(problem, kNoGpu);
    return nullptr;
  }
  *d = {};
  d->like = like, d->bordered = -1;
  if (open_all(*d, wanted, tensors)) return d;
  problem = d->problem;
  close(d);
  return nullptr;
}

// The number of a device by name: "cpu", "cuda", "cuda:1"; null: any. False for another name.
bool device_number(const char* name, int32_t* number) {
  *number = kAnyDevice;
  if (name == nullptr) return true;
  const auto begins = [name](const char* word) {
    size_t n = 0;
    while (word[n] != 0 && name[n] == word[n]) ++n;
    return word[n] == 0 ? n : 0;
  };
  const size_t cpu = begins("cpu"), cuda = begins("cuda");
  if (cpu != 0 && name[cpu] == 0) return *number = kNoDevice, true;
  if (cuda == 0) return false;
  if (name[cuda] == 0) return true;
  if (name[cuda] != ':' || name[cuda + 1] == 0) return false;
  *number = 0;
  for (const char* digit = name + cuda + 1; *digit != 0; ++digit) {
    if (*digit < '0' || *digit > '9' || *number > 9999) return false;
    *number = 10 * *number + (*digit - '0');
  }
  return true;
}

// "NVIDIA H200 (sm_90)".
void append_device(short_text& to, const cuda_device& d) {
  char name[128] = {};
  if (d.driver.device_name(name, sizeof name - 1, d.number) != 0) name[0] = 0;
  append(to, name[0] != 0 ? name : "a GPU"), append(to, " (sm_");
  append_number(to, d.arch), append(to, ")");
}

// --- runs ---

cuda_address address_of(const void* data) { return reinterpret_cast<uintptr_t>(data); }

// The predictor's pointer to the memory of an input or output, which are numbered through.
const void* data_of(const @name@_predictor& p, int32_t tensor) {
  return tensor < kInputCount ? p.inputs[tensor] : p.outputs[tensor - kInputCount];
}

size_t bytes_of([[maybe_unused]] const @name@_predictor& p, int32_t tensor) {
  return tensor < kInputCount ? @inputs(( & p))@[tensor].bytes
                              : @outputs(( & p))@[tensor - kInputCount].bytes;
}

constexpr cuda_address kKernelAlignment = 16;  // of vectors

// Whether the caller has bound memory of the GPU.
bool bound(const @name@_predictor& p, int32_t tensor) {
  return p.gpu != nullptr && p.gpu->tensors[tensor].bound != 0 &&
      p.gpu->tensors[tensor].bound == address_of(data_of(p, tensor));
}

// Where the kernels find inputs and outputs, and who copies them.
void place_tensors(const @name@_predictor& p) {
  cuda_device& d = *p.gpu;
  for (int32_t i = 0; i < kInputCount + kOutputCount; ++i) {
    tensor& t = d.tensors[i];
    const uint8_t* const data = static_cast<const uint8_t*>(data_of(p, i));
    const bool at_caller = bound(p, i);
    const bool kept =
        d.registered != nullptr && data >= d.registered && data < d.registered + tensor_bytes();
    const bool mapped = kept && d.mapped != 0;
    const bool misaligned = at_caller && t.bound % kKernelAlignment != 0;
    t.address = at_caller && !misaligned ? t.bound
        : mapped                         ? d.mapped + static_cast<size_t>(data - d.registered)
                                         : t.own;
    t.in_graph = !at_caller && !mapped && kept;
    t.in_run = misaligned || (!at_caller && !kept);
  }
}

// Copies inputs to the GPU, or outputs from it, that the graph copies, or that the run does.
void copy_tensors(const @name@_predictor& p, bool outputs, bool in_graph) {
  cuda_device& d = *p.gpu;
  for (int32_t i = outputs ? kInputCount : 0;
       i < (outputs ? kInputCount + kOutputCount : kInputCount); ++i) {
    const tensor& t = d.tensors[i];
    if (!(in_graph ? t.in_graph : t.in_run) || bytes_of(p, i) == 0) continue;
    if (bound(p, i))
      good(d, "cuMemcpyDtoDAsync",
           d.driver.copy_on_device(outputs ? t.bound : t.own, outputs ? t.own : t.bound,
                                   bytes_of(p, i), d.stream));
    else if (outputs)
      good(d, "cuMemcpyDtoHAsync",
           d.driver.copy_to_host(p.outputs[i - kInputCount], t.own, bytes_of(p, i), d.stream));
    else
      good(d, "cuMemcpyHtoDAsync",
           d.driver.copy_to_device(t.own, p.inputs[i], bytes_of(p, i), d.stream));
  }
}

int32_t set_of([[maybe_unused]] const @name@_predictor& p) {
//@ shapes
  return p.set;
//@ end
//@ one_shape
  return 0;
//@ end
}

// Fills the borders of the set of shapes: no kernel writes there, and they keep their memory until another set is used.
bool fill_borders(const @name@_predictor& p) {
  cuda_device& d = *p.gpu;
  if (d.bordered == set_of(p)) return true;
  d.bordered = -1;
  d.part = cuda_device::kBorders;
  for (int32_t i = 0; i < @steps(( & p))@; ++i) p.code->run_step(p, @first_step(( & p))@i);
  d.part = cuda_device::kKernels;
  if (!d.failed) d.bordered = set_of(p);
  return !d.failed;
}

// Records a run. Loops are unrolled; nothing is computed yet.
bool record(const @name@_predictor& p, recorded& r) {
  cuda_device& d = *p.gpu;
  cuda_graph* graph = nullptr;
  constexpr int32_t kRelaxed = 2;  // a driver may load a kernel at its first launch
  if (r.exec != nullptr) d.driver.graph_exec_destroy(r.exec);
  r = {};
  if (!good(d, "cuStreamBeginCapture", d.driver.begin_capture(d.stream, kRelaxed))) return false;
  copy_tensors(p, false, true);
  for (int32_t i = 0; i < @steps(( & p))@; ++i) p.code->run_step(p, @first_step(( & p))@i);
  copy_tensors(p, true, true);
  if (good(d, "cuStreamEndCapture", d.driver.end_capture(d.stream, &graph))) {
    const int32_t error = d.driver.instantiate != nullptr
        ? d.driver.instantiate(&r.exec, graph, 0)
        : d.driver.instantiate_old(&r.exec, graph, nullptr, nullptr, 0);
    good(d, "cuGraphInstantiate", error);
  }
  if (graph != nullptr) d.driver.graph_destroy(graph);
  if (d.failed) {
    if (r.exec != nullptr) d.driver.graph_exec_destroy(r.exec);
    r = {};
    return false;
  }
  r.set = set_of(p);
  for (int32_t i = 0; i < kInputCount + kOutputCount; ++i)
    r.addresses[i] = d.tensors[i].address, r.in_graph[i] = d.tensors[i].in_graph;
  return true;
}

// The recording for the set of shapes and where inputs and outputs are now; made in place of the least recently used one
// if there is none. Null after a failure.
recorded* recording(const @name@_predictor& p) {
  cuda_device& d = *p.gpu;
  recorded* oldest = d.recordings;
  for (recorded& r : d.recordings) {
    bool same = r.exec != nullptr && r.set == set_of(p);
    for (int32_t i = 0; same && i < kInputCount + kOutputCount; ++i) {
      same = r.addresses[i] == d.tensors[i].address && r.in_graph[i] == d.tensors[i].in_graph;
    }
    if (same) return &r;
    if (r.last_used < oldest->last_used) oldest = &r;
  }
  return record(p, *oldest) ? oldest : nullptr;
}

bool run(const @name@_predictor& p) {
  cuda_device& d = *p.gpu;
  d.failed = false;
  const in_context here(d);
  if (!here.pushed) return false;
  place_tensors(p);
  recorded* const r = fill_borders(p) ? recording(p) : nullptr;
  if (r == nullptr) return false;
  r->last_used = ++d.runs;
  copy_tensors(p, false, false);
  if (!d.failed) good(d, "cuGraphLaunch", d.driver.graph_launch(r->exec, d.stream));
  if (!d.failed) copy_tensors(p, true, false);
  good(d, "cuStreamSynchronize", d.driver.stream_wait(d.stream));
  if (d.failed) d.bordered = -1;
  return !d.failed;
}

// One step without a graph: before the first, inputs are copied, after the last, outputs.
bool run_step(const @name@_predictor& p, int32_t index) {
  cuda_device& d = *p.gpu;
  d.failed = false;
  const in_context here(d);
  if (!here.pushed) return false;
  place_tensors(p);
  fill_borders(p);
  if (index == 0) copy_tensors(p, false, false), copy_tensors(p, false, true);
  if (!d.failed) p.code->run_step(p, @first_step(( & p))@index);
  if (!d.failed && index == @steps(( & p))@ - 1)
    copy_tensors(p, true, false), copy_tensors(p, true, true);
  good(d, "cuStreamSynchronize", d.driver.stream_wait(d.stream));
  return !d.failed;
}

// Copies bytes [from, to) of the weights to the GPU, and with the last what was computed from them.
bool upload(const @name@_predictor& p, size_t from, size_t to) {
  cuda_device& d = *p.gpu;
  if (d.like != nullptr) return true;
  const in_context here(d);
  if (!here.pushed) return false;
  if (from < to)
    good(d, "cuMemcpyHtoDAsync",
         d.driver.copy_to_device(d.weights + from, p.weights + from, to - from, d.stream));
  if (to == kWeightsBytes && kPreparedBytes != 0) {
    good(d, "cuMemcpyHtoDAsync",
         d.driver.copy_to_device(d.weights + aligned(kWeightsBytes), p.prepared, kPreparedBytes,
                                 d.stream));
  }
  good(d, "cuStreamSynchronize", d.driver.stream_wait(d.stream));
  return !d.failed;
}

// Whether all bytes are memory that the GPU reaches, and no other GPU's.
bool reaches(cuda_device& d, cuda_address address, size_t bytes) {
  constexpr int32_t kDevicePointer = 3, kDeviceNumber = 9;
  cuda_address first = 0, last = 0;
  int32_t number = -1;
  if (d.driver.pointer_attribute(&number, kDeviceNumber, address) == 0 && number != d.number)
    return false;
  return address != 0 && d.driver.pointer_attribute(&first, kDevicePointer, address) == 0 &&
      (bytes == 0 || d.driver.pointer_attribute(&last, kDevicePointer, address + bytes - 1) == 0);
}

// Binds memory of the GPU to an input or output; `bytes` have been checked. False if it is none.
bool bind(const @name@_predictor& p, int32_t tensor, const void* data, size_t bytes) {
  cuda_device& d = *p.gpu;
  const in_context here(d);
  if (!here.pushed || !reaches(d, address_of(data), bytes)) return false;
  d.tensors[tensor].bound = address_of(data);
  return true;
}

// Copies a bound output to the host.
bool read_bound(const @name@_predictor& p, int32_t index, void* data, size_t bytes) {
  cuda_device& d = *p.gpu;
  d.failed = false;
  const in_context here(d);
  if (!here.pushed) return false;
  good(d, "cuMemcpyDtoHAsync",
       d.driver.copy_to_host(data, d.tensors[kInputCount + index].bound, bytes, d.stream));
  good(d, "cuStreamSynchronize", d.driver.stream_wait(d.stream));
  return !d.failed;
}

}  // namespace device
