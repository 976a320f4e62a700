// A libcuda.so.1 for computers without a GPU. It refuses calls that the driver would refuse, keeps the GPU's memory apart
// (the host cannot touch it, kernels get no host memory), records graphs, and runs kernels on the CPU: those of the library
// $FAKE_CUDA_KERNELS, the same CUDA C compiled for the host, with run_NAME, params_NAME (how many; all addresses) or
// kinds_NAME, and cuda_on_host_launch.
//
// $FAKE_CUDA_ARCH (90), $FAKE_CUDA_DEVICES (1), $FAKE_CUDA_INTEGRATED (0), $FAKE_CUDA_VERSION (12090): what the GPU is.
// $FAIL_AT=cuMemAlloc_v2:3:2: the third call of that function fails with error 2. -DCUDA_10_2: a driver of that age.
// fake_cuda_leaks() counts what lives, fake_cuda_faults() the calls that were wrong, fake_cuda_calls(NAME) calls.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

using Address = unsigned long long;

enum Error {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  NO_BINARY_FOR_GPU = 209,
  INVALID_PTX = 218,
  UNSUPPORTED_PTX_VERSION = 222,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  ILLEGAL_ADDRESS = 700,
  HOST_MEMORY_ALREADY_REGISTERED = 712,
  HOST_MEMORY_NOT_REGISTERED = 713,
  NOT_SUPPORTED = 801,
  CAPTURE_INVALIDATED = 901,
};

// What each object belongs to, so that a destroyed context takes them along.
struct Object { virtual ~Object() = default; Object* context = nullptr; };
struct Context : Object { int device = 0; };
struct Kernel { void (*run)(void**); std::string params; };  // a letter for each parameter: p an address, i 4 bytes, l 8, c 1, h 2
struct Module : Object { std::map<std::string, Kernel> kernels; };
struct Node { enum { LAUNCH, TO_DEVICE, TO_HOST, ON_DEVICE } kind; Kernel* kernel; unsigned shape[6]; std::vector<Address> values; Address to, from; size_t bytes; };
struct Graph : Object { std::vector<Node> nodes; bool executable = false; };
struct Stream : Object { bool capturing = false, invalid = false; std::vector<Node> nodes; };

std::recursive_mutex mutex;
std::set<Object*> live;
std::map<Address, std::pair<size_t, Object*>> blocks;       // the GPU's memory: sizes and contexts
struct Registered { size_t bytes; unsigned flags; Object* context; };
std::map<Address, Registered> registered;  // the host's memory that the driver keeps in place, whole pages
constexpr Address kPage = 4096;
std::map<std::string, int> calls;
thread_local std::vector<Context*> stack;
std::map<int, std::pair<Context*, int>> primary;  // by device: its primary context, and how often it is retained
int faults, initialised;
void* kernels;
constexpr size_t kMemory = size_t{1} << 30;
uint8_t* memory;
size_t used;

int number(const char* name, int otherwise) { const char* text = getenv(name); return text ? atoi(text) : otherwise; }

#ifdef CUDA_10_2
int version() { return number("FAKE_CUDA_VERSION", 10020); }
#else
int version() { return number("FAKE_CUDA_VERSION", 12090); }
#endif

int fault(int error, const char* why) {
  ++faults;
  fprintf(stderr, "fake cuda: %s\n", why);
  return error;
}

// Counts a call; the error that $FAIL_AT asks for, or 0.
int injected(const char* name) {
  const int count = ++calls[name];
  const char* at = getenv("FAIL_AT");
  if (!at) return 0;
  const size_t n = strlen(name);
  if (strncmp(at, name, n) != 0 || at[n] != ':') return 0;
  char* end = nullptr;
  if (strtol(at + n + 1, &end, 10) != count) return 0;
  return *end == ':' ? atoi(end + 1) : OUT_OF_MEMORY;
}

Context* current() { return stack.empty() ? nullptr : stack.back(); }

int ready() {
  if (!initialised) return fault(NOT_INITIALIZED, "a call before cuInit");
  if (!current()) return fault(INVALID_CONTEXT, "a call without a current context");
  return live.count(current()) ? OK : INVALID_CONTEXT;
}

#define CALL(name)                                     \
  const std::lock_guard<std::recursive_mutex> guard(mutex); \
  if (const int error = injected(name)) return error
#define CALL_IN_CONTEXT(name) \
  CALL(name);                 \
  if (const int error = ready()) return error
#define ALIVE(object) \
  if (!live.count(object)) return fault(INVALID_HANDLE, #object " is no live object")

template <class T> T* made(T* object) {
  object->context = current();
  live.insert(object);
  return object;
}

bool on_device(Address address, size_t bytes) {
  auto block = blocks.upper_bound(address);
  if (block == blocks.begin()) return false;
  --block;
  return address + bytes <= block->first + block->second.first;
}

bool known(Address address, size_t bytes, unsigned flags) {
  auto block = registered.upper_bound(address);
  if (block == registered.begin()) return false;
  --block;
  return address + bytes <= block->first + block->second.bytes && (block->second.flags & flags) == flags;
}

bool registered_in(Address address, size_t bytes) {
  for (const auto& block : registered) {
    if (address < block.first + block.second.bytes && block.first < address + bytes) return true;
  }
  return false;
}

// Whether some pages of the host's memory are kept in place, and others not: the driver refuses to copy such.
bool half_known(Address address, size_t bytes) { return !known(address, bytes, 0) && registered_in(address, bytes); }

// The device in whose context memory was allocated; that of the current one for memory of the host.
int device_of(Address address) {
  const auto block = blocks.upper_bound(address);
  return static_cast<Context*>(on_device(address, 1) ? std::prev(block)->second.second : stack.back())->device;
}

bool reachable(Address address, size_t bytes) { return on_device(address, bytes) || known(address, bytes, 2); }

// Opens the GPU's memory, which the host cannot touch otherwise.
struct Opened {
  Opened() { mprotect(memory, kMemory, PROT_READ | PROT_WRITE); }
  ~Opened() { mprotect(memory, kMemory, PROT_NONE); }
};

int execute(const Node& node) {
  const Opened opened;
  if (node.kind == Node::LAUNCH) {
    std::vector<Address> values = node.values;
    std::vector<void*> arguments;
    for (size_t k = 0; k < values.size(); ++k) {
      if (node.kernel->params[k] == 'p' && !reachable(values[k], 1)) return fault(ILLEGAL_ADDRESS, "a kernel's argument is no memory of the GPU");
      arguments.push_back(&values[k]);
    }
    using Launch = void (*)(void (*)(void**), void**, const unsigned*);
    static const Launch launch = reinterpret_cast<Launch>(dlsym(kernels, "cuda_on_host_launch"));
    launch(node.kernel->run, arguments.data(), node.shape);
    return OK;
  }
  if (node.kind != Node::TO_HOST && !reachable(node.to, node.bytes)) return fault(INVALID_VALUE, "a copy to what is no memory of the GPU");
  if (node.kind != Node::TO_DEVICE && !reachable(node.from, node.bytes)) return fault(INVALID_VALUE, "a copy from what is no memory of the GPU");
  if ((node.kind == Node::TO_DEVICE && half_known(node.from, node.bytes)) || (node.kind == Node::TO_HOST && half_known(node.to, node.bytes)))
    return fault(INVALID_VALUE, "a copy of host memory of which the driver keeps a part in place");
  if (node.kind == Node::TO_DEVICE && on_device(node.from, 1)) return fault(INVALID_VALUE, "a copy to the GPU from its own memory");
  if (node.kind == Node::TO_HOST && on_device(node.to, 1)) return fault(INVALID_VALUE, "a copy to the host into the GPU's memory");
  memmove(reinterpret_cast<void*>(node.to), reinterpret_cast<const void*>(node.from), node.bytes);
  return OK;
}

int submit(Stream* stream, const Node& node) {
  ALIVE(stream);
  if (!stream->capturing) return execute(node);
  const bool moves = (node.kind == Node::TO_DEVICE && !known(node.from, node.bytes, 0)) || (node.kind == Node::TO_HOST && !known(node.to, node.bytes, 0));
  if (moves) {
    stream->invalid = true;
    return fault(CAPTURE_INVALIDATED, "a graph copies host memory that the driver does not keep in place");
  }
  stream->nodes.push_back(node);
  return OK;
}

void destroy_context(Context* context) {
  for (auto block = blocks.begin(); block != blocks.end();) block = block->second.second == context ? blocks.erase(block) : std::next(block);
  for (auto block = registered.begin(); block != registered.end();) block = block->second.context == context ? registered.erase(block) : std::next(block);
  std::vector<Object*> gone;
  for (Object* object : live) {
    if (object->context == context) gone.push_back(object);
  }
  for (Object* object : gone) live.erase(object);  // not freed: a call with one of them must be told from one with another
  live.erase(context);
}

int device_is(int device) { return device >= 0 && device < number("FAKE_CUDA_DEVICES", 1) ? OK : INVALID_DEVICE; }

// The newest PTX ISA that a driver takes, times ten: CUDA 10.0 has 6.3, 11.0 7.0, 12.0 8.0.
int newest_ptx() {
  const int major = version() / 1000, minor = version() % 1000 / 10;
  return major == 10 ? 63 + minor : (major - 4) * 10 + minor;
}

int check_image(const char* image) {
  const int arch = number("FAKE_CUDA_ARCH", 90);
  if (memcmp(image, "\177ELF", 4) == 0) {
    uint32_t flags = 0;
    memcpy(&flags, image + 48, 4);
    const int built = static_cast<int>(flags & 0xff);
    const auto alone = [](int a) { return a == 53 || a == 62 || a == 72 || a == 87; };  // a Jetson's
    const bool compatible = built / 10 == arch / 10 && built <= arch && !alone(built) && !alone(arch);
    return built == arch || compatible ? OK : NO_BINARY_FOR_GPU;
  }
  const char* isa = strstr(image, ".version ");
  const char* target = strstr(image, ".target sm_");
  if (!isa || !target) return INVALID_IMAGE;
  const int written = (isa[9] - '0') * 10 + (isa[11] - '0');
  if (written > newest_ptx()) return UNSUPPORTED_PTX_VERSION;
  return atoi(target + 11) <= arch ? OK : INVALID_PTX;
}

}  // namespace

API int cuInit(unsigned) {
  CALL("cuInit");
  if (!initialised) {
    if (number("FAKE_CUDA_DEVICES", 1) == 0) return NO_DEVICE;
    const char* path = getenv("FAKE_CUDA_KERNELS");
    kernels = path ? dlopen(path, RTLD_NOW) : nullptr;
    if (!kernels) return fault(NO_DEVICE, path ? dlerror() : "no $FAKE_CUDA_KERNELS");
    memory = static_cast<uint8_t*>(mmap(nullptr, kMemory, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    initialised = 1;
  }
  return OK;
}
API int cuDriverGetVersion(int* v) { CALL("cuDriverGetVersion"); *v = version(); return OK; }
API int cuGetErrorString(int error, const char** text) {
  static const std::map<int, const char*> texts = {
      {OK, "no error"}, {INVALID_VALUE, "invalid argument"}, {OUT_OF_MEMORY, "out of memory"}, {NOT_INITIALIZED, "initialization error"},
      {NO_DEVICE, "no CUDA-capable device is detected"}, {INVALID_DEVICE, "invalid device ordinal"}, {INVALID_IMAGE, "device kernel image is invalid"},
      {INVALID_CONTEXT, "invalid device context"}, {NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"},
      {INVALID_PTX, "a PTX JIT compilation failed"}, {UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain."},
      {INVALID_HANDLE, "invalid resource handle"}, {NOT_FOUND, "named symbol not found"}, {ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
      {NOT_SUPPORTED, "operation not supported"}, {CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"}};
  const auto found = texts.find(error);
  *text = found == texts.end() ? nullptr : found->second;
  return found == texts.end() ? INVALID_VALUE : OK;
}
API int cuDeviceGetCount(int* n) { CALL("cuDeviceGetCount"); *n = number("FAKE_CUDA_DEVICES", 1); return initialised ? OK : NOT_INITIALIZED; }
API int cuDeviceGet(int* device, int ordinal) { CALL("cuDeviceGet"); *device = ordinal; return device_is(ordinal); }
API int cuDeviceGetName(char* name, int room, int device) { CALL("cuDeviceGetName"); snprintf(name, static_cast<size_t>(room), "Fake GPU %d", device); return device_is(device); }
API int cuDeviceGetAttribute(int* value, int attribute, int device) {
  CALL("cuDeviceGetAttribute");
  const int arch = number("FAKE_CUDA_ARCH", 90);
  *value = attribute == 75 ? arch / 10 : attribute == 76 ? arch % 10 : attribute == 18 ? number("FAKE_CUDA_INTEGRATED", 0) : 0;
  return device_is(device);
}
API int cuDevicePrimaryCtxRetain(Context** context, int device) {
  CALL("cuDevicePrimaryCtxRetain");
  if (const int error = device_is(device)) return error;
  auto& [own, retained] = primary[device];
  if (retained++ == 0) own = new Context, own->device = device, live.insert(own);
  *context = own;
  return OK;
}
API int cuDevicePrimaryCtxRelease(int device) {
  CALL("cuDevicePrimaryCtxRelease");
  auto& [own, retained] = primary[device];
  if (retained == 0) return fault(INVALID_CONTEXT, "the primary context is released too often");
  if (--retained == 0) {
    for (const auto& block : blocks) {
      if (block.second.second == own) fault(0, "the primary context is released with memory in it");
    }
    destroy_context(own);
  }
  return OK;
}
#ifndef CUDA_10_2
API int cuDevicePrimaryCtxRelease_v2(int device) { return cuDevicePrimaryCtxRelease(device); }
#endif
API int cuCtxCreate_v2(Context** context, unsigned, int device) {
  CALL("cuCtxCreate_v2");
  *context = new Context, (*context)->device = device;
  live.insert(*context), stack.push_back(*context);
  return OK;
}
API int cuCtxDestroy_v2(Context* context) {
  CALL("cuCtxDestroy_v2");
  ALIVE(context);
  destroy_context(context);
  if (current() == context) stack.pop_back();
  return OK;
}
API int cuCtxGetCurrent(Context** context) { CALL("cuCtxGetCurrent"); *context = current(); return OK; }
API int cuCtxGetDevice(int* device) { CALL_IN_CONTEXT("cuCtxGetDevice"); *device = current()->device; return OK; }
API int cuCtxPushCurrent_v2(Context* context) { CALL("cuCtxPushCurrent_v2"); if (!live.count(context)) return INVALID_CONTEXT; stack.push_back(context); return OK; }
API int cuCtxPopCurrent_v2(Context** context) {
  CALL("cuCtxPopCurrent_v2");
  if (stack.empty()) return fault(INVALID_CONTEXT, "no context to pop");
  *context = stack.back();
  stack.pop_back();
  return OK;
}
API int cuModuleLoadData(Module** module, const void* image) {
  CALL_IN_CONTEXT("cuModuleLoadData");
  if (const int error = check_image(static_cast<const char*>(image))) return error;
  *module = made(new Module);
  return OK;
}
API int cuModuleUnload(Module* module) { CALL_IN_CONTEXT("cuModuleUnload"); ALIVE(module); live.erase(module); delete module; return OK; }
API int cuModuleGetFunction(Kernel** function, Module* module, const char* name) {
  CALL_IN_CONTEXT("cuModuleGetFunction");
  ALIVE(module);
  const auto run = reinterpret_cast<void (*)(void**)>(dlsym(kernels, (std::string("run_") + name).c_str()));
  const auto count = static_cast<const int*>(dlsym(kernels, (std::string("params_") + name).c_str()));
  const auto kinds = static_cast<const char*>(dlsym(kernels, (std::string("kinds_") + name).c_str()));
  if (!run || (!count && !kinds)) return NOT_FOUND;
  *function = &(module->kernels[name] = Kernel{run, kinds ? kinds : std::string(static_cast<size_t>(*count), 'p')});
  return OK;
}
API int cuMemAlloc_v2(Address* address, size_t bytes) {
  CALL_IN_CONTEXT("cuMemAlloc_v2");
  if (bytes == 0) return fault(INVALID_VALUE, "no bytes are allocated");
  const size_t room = (bytes + 255) / 256 * 256 + 4096;  // a gap that belongs to no block
  if (used + room > kMemory) return OUT_OF_MEMORY;
  *address = reinterpret_cast<Address>(memory + used);
  used += room;
  blocks[*address] = {bytes, current()};
  const Opened opened;
  memset(reinterpret_cast<void*>(*address), 0xff, bytes);  // NaN
  return OK;
}
API int cuMemFree_v2(Address address) { CALL_IN_CONTEXT("cuMemFree_v2"); return blocks.erase(address) ? OK : fault(INVALID_VALUE, "freed twice, or never allocated"); }
API int cuMemHostRegister_v2(void* data, size_t bytes, unsigned flags) {
  CALL_IN_CONTEXT("cuMemHostRegister_v2");
  if (number("FAKE_CUDA_NO_REGISTER", 0)) return NOT_SUPPORTED;
  const Address at = reinterpret_cast<Address>(data);
  if (bytes == 0) return fault(INVALID_VALUE, "no bytes are registered");
  const Address first = at / kPage * kPage, size = (at + bytes - first + kPage - 1) / kPage * kPage;
  if (registered_in(first, size)) return HOST_MEMORY_ALREADY_REGISTERED;
  registered[first] = {size, flags, current()};
  return OK;
}
API int cuMemHostUnregister(void* data) {
  CALL_IN_CONTEXT("cuMemHostUnregister");
  return registered.erase(reinterpret_cast<Address>(data) / kPage * kPage) ? OK : fault(HOST_MEMORY_NOT_REGISTERED, "unregistered twice, or never registered");
}
API int cuMemHostGetDevicePointer_v2(Address* address, void* data, unsigned) {
  CALL_IN_CONTEXT("cuMemHostGetDevicePointer_v2");
  *address = reinterpret_cast<Address>(data);
  return known(*address, 1, 2) ? OK : INVALID_VALUE;
}
API int cuPointerGetAttribute(void* value, int attribute, Address address) {
  CALL_IN_CONTEXT("cuPointerGetAttribute");
  if (attribute != 3 && attribute != 9) return fault(INVALID_VALUE, "an attribute that the fake does not know");
  if (!reachable(address, 1)) return INVALID_VALUE;
  const int device = device_of(address);
  if (attribute == 9) return memcpy(value, &device, sizeof device), OK;
  if (device != current()->device) return INVALID_VALUE;
  memcpy(value, &address, sizeof address);
  return OK;
}
API int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, Stream* stream) {
  CALL_IN_CONTEXT("cuMemcpyHtoDAsync_v2");
  return submit(stream, {Node::TO_DEVICE, nullptr, {}, {}, to, reinterpret_cast<Address>(from), bytes});
}
API int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, Stream* stream) {
  CALL_IN_CONTEXT("cuMemcpyDtoHAsync_v2");
  return submit(stream, {Node::TO_HOST, nullptr, {}, {}, reinterpret_cast<Address>(to), from, bytes});
}
API int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Stream* stream) {
  CALL_IN_CONTEXT("cuMemcpyDtoDAsync_v2");
  return submit(stream, {Node::ON_DEVICE, nullptr, {}, {}, to, from, bytes});
}
API int cuStreamCreate(Stream** stream, unsigned) { CALL_IN_CONTEXT("cuStreamCreate"); *stream = made(new Stream); return OK; }
API int cuStreamDestroy_v2(Stream* stream) { CALL_IN_CONTEXT("cuStreamDestroy_v2"); ALIVE(stream); live.erase(stream); delete stream; return OK; }
API int cuStreamSynchronize(Stream* stream) {
  CALL_IN_CONTEXT("cuStreamSynchronize");
  ALIVE(stream);
  return stream->capturing ? fault(INVALID_VALUE, "waits for a stream that records") : OK;
}
API int cuLaunchKernel(Kernel* kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Stream* stream, void** parameters, void**) {
  CALL_IN_CONTEXT("cuLaunchKernel");
  if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || !bx || !by || !bz || bx * by * bz > 1024 || shared > 49152) return fault(INVALID_VALUE, "a launch beyond the GPU's limits");
  Node node{Node::LAUNCH, kernel, {gx, gy, gz, bx, by, bz}, {}, 0, 0, 0};
  for (size_t k = 0; k < kernel->params.size(); ++k) {
    const char kind = kernel->params[k];
    Address value = 0;
    memcpy(&value, parameters[k], kind == 'i' ? 4 : kind == 'c' ? 1 : kind == 'h' ? 2 : 8);  // now, as the driver does
    node.values.push_back(value);
  }
  return submit(stream, node);
}
API int cuStreamBeginCapture_v2(Stream* stream, int) {
  CALL_IN_CONTEXT("cuStreamBeginCapture_v2");
  ALIVE(stream);
  if (stream->capturing) return fault(INVALID_VALUE, "the stream records already");
  stream->capturing = true, stream->invalid = false;
  stream->nodes.clear();
  return OK;
}
API int cuStreamEndCapture(Stream* stream, Graph** graph) {
  CALL_IN_CONTEXT("cuStreamEndCapture");
  ALIVE(stream);
  if (!stream->capturing) return fault(INVALID_VALUE, "the stream does not record");
  stream->capturing = false;
  *graph = nullptr;
  if (stream->invalid) return CAPTURE_INVALIDATED;
  *graph = made(new Graph);
  (*graph)->nodes = stream->nodes;
  return OK;
}
API int cuGraphInstantiate(Graph** exec, Graph* graph, void**, char*, size_t) {
  CALL_IN_CONTEXT("cuGraphInstantiate");
  ALIVE(graph);
  *exec = made(new Graph);
  (*exec)->nodes = graph->nodes, (*exec)->executable = true;
  return OK;
}
#ifndef CUDA_10_2
API int cuGraphInstantiateWithFlags(Graph** exec, Graph* graph, unsigned long long) { CALL("cuGraphInstantiateWithFlags"); return cuGraphInstantiate(exec, graph, nullptr, nullptr, 0); }
#endif
API int cuGraphLaunch(Graph* exec, Stream* stream) {
  CALL_IN_CONTEXT("cuGraphLaunch");
  ALIVE(exec);
  ALIVE(stream);
  if (!exec->executable) return fault(INVALID_VALUE, "a graph that is not instantiated");
  for (const Node& node : exec->nodes) {
    if (const int error = execute(node)) return error;
  }
  return OK;
}
API int cuGraphExecDestroy(Graph* exec) { CALL_IN_CONTEXT("cuGraphExecDestroy"); ALIVE(exec); live.erase(exec); delete exec; return OK; }
API int cuGraphDestroy(Graph* graph) { CALL_IN_CONTEXT("cuGraphDestroy"); ALIVE(graph); live.erase(graph); delete graph; return OK; }

API int fake_cuda_leaks() {
  size_t count = live.size() + blocks.size() + registered.size() + stack.size();
  for (const auto& device : primary) count += static_cast<size_t>(device.second.second);
  return static_cast<int>(count);
}
API int fake_cuda_faults() { return faults; }
API int fake_cuda_calls(const char* name) { return calls[name]; }
API int fake_cuda_copy(void* to, const void* from, size_t bytes) {  // for tests: to or from memory of the GPU
  const std::lock_guard<std::recursive_mutex> guard(mutex);
  const Opened opened;
  memmove(to, from, bytes);
  return OK;
}
