// What compiled code asks of a C library, in a library that needs none: memory and a few functions.
#include "bare.h"
#include "system_calls.h"

namespace {
// Stands before the memory that malloc gives, whose beginning is then a multiple of 64.
struct alignas(64) mapping {
  size_t bytes;
};
}  // namespace

extern "C" {
[[gnu::used]] void* malloc(size_t bytes) {
  const size_t all = bytes + sizeof(mapping);
  mapping* const memory = all < bytes ? nullptr : static_cast<mapping*>(bare::allocate(all));
  if (memory == nullptr) return nullptr;
  memory->bytes = all;
  return memory + 1;
}

[[gnu::used]] void free(void* data) {
  if (data == nullptr) return;
  mapping* const memory = static_cast<mapping*>(data) - 1;
  bare::system_call(bare::kUnmap, reinterpret_cast<long>(memory), static_cast<long>(memory->bytes), 0);
}

// Until a number in memory changes, and its change told to all that wait: futexes of one process.
[[gnu::used]] void host_wait(const int32_t* number, int32_t value) {
  bare::system_call(bare::kFutex, reinterpret_cast<long>(number), 128, value);
}
[[gnu::used]] void host_wake(const int32_t* number) {
  bare::system_call(bare::kFutex, reinterpret_cast<long>(number), 129, 0x7fffffff);
}

#if defined(__arm__)
// Named by the tables for unwinding, which nothing here does: no exception is thrown.
[[gnu::used]] void __aeabi_unwind_cpp_pr0() {}
[[gnu::used]] void __aeabi_unwind_cpp_pr1() {}
#endif
}
