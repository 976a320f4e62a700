// What compiled code asks of a C library, in a library that needs none: memory and a few functions.
#include "bare.h"
#include "system_calls.h"

namespace {
// Stands before the memory that malloc gives, whose beginning is then a multiple of 64.
struct alignas(64) mapping {
  size_t bytes;
};

#if defined(__aarch64__)
#if !defined(LISTS)
#define LISTS "/proc/self/auxv"
#define ABOUT "/proc/cpuinfo"
#endif

size_t read_beginning(const char* path, char* to, size_t bytes) {
  constexpr long kHere = -100, kClose = 57;
  const long file = bare::system_call(bare::kOpenAt, kHere, reinterpret_cast<long>(path), 0);
  if (file < 0) return 0;
  size_t done = 0;
  for (;;) {
    const long n = bare::system_call(bare::kRead, file, reinterpret_cast<long>(to + done), static_cast<long>(bytes - done));
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  bare::system_call(kClose, file, 0, 0);
  return done;
}

// Whether `word` stands at `at`, and ends there.
bool stands_at(const char* text, size_t bytes, size_t at, const char* word) {
  size_t i = 0;
  while (word[i] != 0 && at + i < bytes && text[at + i] == word[i]) ++i;
  return word[i] == 0 && (at + i == bytes || text[at + i] <= ' ') && (at == 0 || text[at - 1] <= ' ');
}

// Whether the line of features in /proc/cpuinfo, the first of its name, has a word.
bool has_feature(const char* text, size_t bytes, const char* word) {
  size_t at = 0;
  while (at < bytes && !stands_at(text, bytes, at, "Features")) ++at;
  for (; at < bytes && text[at] != '\n'; ++at) {
    if (stands_at(text, bytes, at, word)) return true;
  }
  return false;
}
#endif
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

#if defined(__aarch64__)
// Of list 16 bit 10 is arithmetic in float16 and bit 20 dot products, of list 26 bit 13 products of matrices. Android has this function, but a library
// that names no other may not find it, and a released app may not read Linux's lists, only its text on the processor.
[[gnu::used]] unsigned long getauxval(unsigned long kind) {
  unsigned long pairs[128];
  const size_t words = read_beginning(LISTS, reinterpret_cast<char*>(pairs), sizeof pairs) / sizeof *pairs;
  for (size_t i = 0; i + 1 < words; i += 2) {
    if (pairs[i] == kind) return pairs[i + 1];
  }
  if (words != 0 || (kind != 16 && kind != 26)) return 0;
  char text[4096];
  const size_t bytes = read_beginning(ABOUT, text, sizeof text);
  const auto bit = [&](const char* feature, int place) {
    return static_cast<unsigned long>(has_feature(text, bytes, feature)) << place;
  };
  return kind == 16 ? bit("asimdhp", 10) | bit("asimddp", 20) : bit("i8mm", 13);
}
#endif

#if defined(__arm__)
// Named by the tables for unwinding, which nothing here does: no exception is thrown.
[[gnu::used]] void __aeabi_unwind_cpp_pr0() {}
[[gnu::used]] void __aeabi_unwind_cpp_pr1() {}
#endif
}
