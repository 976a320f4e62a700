// What drive.cc needs of Linux, by system calls: memory, files, the program's start and end.
#include "bare.h"
#include "system_calls.h"

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call start\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n  mov x0, sp\n  bl start\n");
#elif defined(__arm__)
__asm__(".globl _start\n_start:\n  mov r0, sp\n  bic sp, sp, #15\n  bl start\n");
#elif defined(__riscv)
__asm__(".globl _start\n_start:\n  mv a0, sp\n  call start\n");
#endif

namespace driving {  // a name of its own: the model may have any
using namespace bare;

static void say(const char* text) {
  size_t n = 0;
  while (text[n] != 0) ++n;
  system_call(kWrite, 2, reinterpret_cast<long>(text), static_cast<long>(n));
}

// Moves bytes between a file and memory; all or nothing.
static bool transfer(long call, const char* path, long flags, char* data, size_t bytes) {
  const long file = system_call(kOpenAt, -100, reinterpret_cast<long>(path), flags, 0644);
  if (file < 0) return false;
  for (size_t done = 0; done < bytes;) {
    const long n = system_call(call, file, reinterpret_cast<long>(data + done), static_cast<long>(bytes - done));
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

static bool read_file(const char* path, void* data, size_t bytes) {
  return transfer(kRead, path, 0, static_cast<char*>(data), bytes);
}

static bool write_file(const char* path, const void* data, size_t bytes) {
  return transfer(kWrite, path, 01 | 0100 | 01000, static_cast<char*>(const_cast<void*>(data)), bytes);
}

int drive(int argc, char** argv);

// What the system says of the processor, behind the environment: pairs of a kind and a value. HARDWARE: bits that an
// emulator leaves out of the first list of what it has.
#if !defined(HARDWARE)
#define HARDWARE 0
#endif
static const unsigned long* hardware;
}  // namespace driving

extern "C" unsigned long getauxval(unsigned long kind) {
  for (const unsigned long* pair = driving::hardware; *pair != 0; pair += 2) {
    if (*pair == kind) return pair[1] | (kind == 16 ? HARDWARE : 0);
  }
  return 0;
}

extern "C" [[gnu::used]] void start(long* stack) {
  const long* entry = stack + *stack + 2;
  while (*entry != 0) {
    ++entry;
    __asm__ volatile("" : : : "memory");  // else it is a call of wcslen
  }
  driving::hardware = reinterpret_cast<const unsigned long*>(entry + 1);
  driving::system_call(driving::kExit, driving::drive(static_cast<int>(*stack), reinterpret_cast<char**>(stack + 1)), 0, 0);
  for (;;) {}
}
