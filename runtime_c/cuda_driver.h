// NVIDIA's driver, found when a predictor is created: no header, no library and no toolkit is needed to compile or to run.
// The grammar of sections is told at the top of vectors.h.

//@ section cuda_headers
//@ scope file
#if defined(@NAME@_CUDA)
#if defined(_WIN32)
extern "C" void* @name@_load_library(const char* name) __asm__("LoadLibraryA");
extern "C" void* @name@_library_function(void* library, const char* name) __asm__("GetProcAddress");
#else
#include <dlfcn.h>
#endif
#endif

//@ section cuda_driver
//@ needs cuda_headers
// A line of text in memory of fixed size; what does not fit is cut off.
struct short_text { char text[240]; };

inline void append(short_text& to, const char* text) {
  size_t n = 0;
  while (to.text[n] != 0) ++n;
  for (; *text != 0 && n + 1 < sizeof to.text; ++text) to.text[n++] = *text;
  to.text[n] = 0;
}

inline void append_number(short_text& to, int32_t number) {  // not negative
  char digits[12] = {};
  int32_t n = 11;
  for (; n == 11 || number != 0; number /= 10) digits[--n] = static_cast<char>('0' + number % 10);
  append(to, digits + n);
}

// The driver's types.
struct cuda_context;
struct cuda_module;
struct cuda_function;
struct cuda_stream;
struct cuda_graph;
struct cuda_graph_exec;
using cuda_address = uint64_t;

// The driver's functions: our name, the names in the library, of which the first that it has is taken, and the parameters.
// All of them are in every driver from CUDA 10.1, the last of Jetson TX1 being 10.2.
#define CUDA_FUNCTIONS(F)                                                                          \
  F(init, "cuInit", (uint32_t flags))                                                              \
  F(driver_version, "cuDriverGetVersion", (int32_t* version))                                      \
  F(error_string, "cuGetErrorString", (int32_t error, const char** text))                          \
  F(device_count, "cuDeviceGetCount", (int32_t* count))                                            \
  F(device_get, "cuDeviceGet", (int32_t* device, int32_t number))                                  \
  F(device_name, "cuDeviceGetName", (char* name, int32_t room, int32_t device))                    \
  F(device_attribute, "cuDeviceGetAttribute", (int32_t* value, int32_t attribute, int32_t device)) \
  F(primary_retain, "cuDevicePrimaryCtxRetain", (cuda_context * *context, int32_t device))         \
  F(primary_release, "cuDevicePrimaryCtxRelease_v2|cuDevicePrimaryCtxRelease", (int32_t device))   \
  F(context_current, "cuCtxGetCurrent", (cuda_context * *context))                                 \
  F(context_device, "cuCtxGetDevice", (int32_t* device))                                           \
  F(context_push, "cuCtxPushCurrent_v2", (cuda_context * context))                                 \
  F(context_pop, "cuCtxPopCurrent_v2", (cuda_context * *context))                                  \
  F(module_load, "cuModuleLoadData", (cuda_module * *module, const void* image))                   \
  F(module_unload, "cuModuleUnload", (cuda_module * module))                                       \
  F(module_function, "cuModuleGetFunction",                                                        \
    (cuda_function * *function, cuda_module * module, const char* name))                           \
  F(allocate, "cuMemAlloc_v2", (cuda_address * address, size_t bytes))                             \
  F(free, "cuMemFree_v2", (cuda_address address))                                                  \
  F(host_register, "cuMemHostRegister_v2", (void* data, size_t bytes, uint32_t flags))             \
  F(host_unregister, "cuMemHostUnregister", (void* data))                                          \
  F(host_mapped, "cuMemHostGetDevicePointer_v2",                                                   \
    (cuda_address * address, void* data, uint32_t flags))                                          \
  F(pointer_attribute, "cuPointerGetAttribute",                                                    \
    (void* value, int32_t attribute, cuda_address address))                                        \
  F(copy_to_device, "cuMemcpyHtoDAsync_v2",                                                        \
    (cuda_address to, const void* from, size_t bytes, cuda_stream* stream))                        \
  F(copy_to_host, "cuMemcpyDtoHAsync_v2",                                                          \
    (void* to, cuda_address from, size_t bytes, cuda_stream* stream))                              \
  F(copy_on_device, "cuMemcpyDtoDAsync_v2",                                                        \
    (cuda_address to, cuda_address from, size_t bytes, cuda_stream* stream))                       \
  F(stream_create, "cuStreamCreate", (cuda_stream * *stream, uint32_t flags))                      \
  F(stream_destroy, "cuStreamDestroy_v2", (cuda_stream * stream))                                  \
  F(stream_wait, "cuStreamSynchronize", (cuda_stream * stream))                                    \
  F(launch, "cuLaunchKernel",                                                                      \
    (cuda_function * function, uint32_t grid_x, uint32_t grid_y, uint32_t grid_z,                  \
     uint32_t block_x, uint32_t block_y, uint32_t block_z, uint32_t shared, cuda_stream* stream,   \
     void** parameters, void** extra))                                                             \
  F(begin_capture, "cuStreamBeginCapture_v2", (cuda_stream * stream, int32_t mode))                \
  F(end_capture, "cuStreamEndCapture", (cuda_stream * stream, cuda_graph * *graph))                \
  F(graph_launch, "cuGraphLaunch", (cuda_graph_exec * exec, cuda_stream * stream))                 \
  F(graph_exec_destroy, "cuGraphExecDestroy", (cuda_graph_exec * exec))                            \
  F(graph_destroy, "cuGraphDestroy", (cuda_graph * graph))

struct cuda_driver {
#define CUDA_FIELD(name, symbols, parameters) int32_t(*name) parameters;
  CUDA_FUNCTIONS(CUDA_FIELD)
#undef CUDA_FIELD
  int32_t (*instantiate)(cuda_graph_exec** exec, cuda_graph* graph,
                         uint64_t flags);  // from CUDA 11.4
  int32_t (*instantiate_old)(cuda_graph_exec** exec, cuda_graph* graph, void** node, char* log,
                             size_t room);
};

#if defined(@NAME@_CUDA)
#if defined(_WIN32)
[[maybe_unused]] inline void* open_cuda_library(short_text& problem) {
  void* const library = @name@_load_library("nvcuda.dll");
  if (library == nullptr) append(problem, "no CUDA driver (nvcuda.dll)");
  return library;
}
inline void* library_function(void* library, const char* name) {
  return @name@_library_function(library, name);
}
#else
// It is never closed: the driver has threads of its own.
[[maybe_unused]] inline void* open_cuda_library(short_text& problem) {
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const error = dlerror();
    append(problem, "no CUDA driver (");
    append(problem, error != nullptr ? error : "libcuda.so.1");
    append(problem, ")");
  }
  return library;
}
inline void* library_function(void* library, const char* name) { return dlsym(library, name); }
#endif

// The first of the names, between which there are bars, that the library has.
inline void* first_function(void* library, const char* names) {
  for (;;) {
    char name[64] = {};
    size_t n = 0;
    for (; *names != 0 && *names != '|'; ++names) name[n++] = *names;
    void* const found = library_function(library, name);
    if (found != nullptr || *names == 0) return found;
    ++names;
  }
}

template <class F>
bool find_function(F& function, void* library, const char* names, short_text& problem) {
  function = reinterpret_cast<F>(first_function(library, names));
  if (function == nullptr && problem.text[0] == 0)
    append(problem, "the CUDA driver is too old or damaged: it lacks "), append(problem, names);
  return function != nullptr;
}

[[maybe_unused]] inline bool load_cuda_driver(cuda_driver& driver, short_text& problem) {
  void* const library = open_cuda_library(problem);
  if (library == nullptr) return false;
  // What an old driver lacks is named by its version, where it tells one.
  int32_t version = 0;
  short_text none = {};
  if (find_function(driver.driver_version, library, "cuDriverGetVersion", none) &&
      driver.driver_version(&version) == 0 && version < 10010) {
    append(problem, "the CUDA driver is too old: it is for CUDA ");
    append_number(problem, version / 1000);
    append(problem, "."), append_number(problem, version % 1000 / 10);
    append(problem, ", and 10.1 is needed");
    return false;
  }
#define CUDA_FIND(name, symbols, parameters) \
  if (!find_function(driver.name, library, symbols, problem)) return false;
  CUDA_FUNCTIONS(CUDA_FIND)
#undef CUDA_FIND
  return find_function(driver.instantiate, library, "cuGraphInstantiateWithFlags", none) ||
      find_function(driver.instantiate_old, library, "cuGraphInstantiate_v2|cuGraphInstantiate",
                    problem);
}
#else
[[maybe_unused]] inline bool load_cuda_driver(cuda_driver&, short_text& problem) {
  append(problem, "compiled without CUDA");
  return false;
}
#endif
#undef CUDA_FUNCTIONS
