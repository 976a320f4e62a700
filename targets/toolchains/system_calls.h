// Linux without a C library: its system calls, and memory from them.
#include <stddef.h>

namespace bare {  // a name of its own: the model may have any
#if defined(__x86_64__)
enum { kRead = 0, kWrite = 1, kMap = 9, kUnmap = 11, kOpenAt = 257, kExit = 60, kFutex = 202 };
static long system_call(long n, long a, long b, long c, long d = 0, long e = 0, long f = 0) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return n;
}
#elif defined(__aarch64__)
enum { kRead = 63, kWrite = 64, kMap = 222, kUnmap = 215, kOpenAt = 56, kExit = 93, kFutex = 98 };
static long system_call(long n, long a, long b, long c, long d = 0, long e = 0, long f = 0) {
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}
#elif defined(__arm__)
enum { kRead = 3, kWrite = 4, kMap = 192, kUnmap = 91, kOpenAt = 322, kExit = 1, kFutex = 240 };
static long system_call(long n, long a, long b, long c, long d = 0, long e = 0, long f = 0) {
  register long r7 __asm__("r7") = n;
  register long r0 __asm__("r0") = a;
  register long r1 __asm__("r1") = b;
  register long r2 __asm__("r2") = c;
  register long r3 __asm__("r3") = d;
  register long r4 __asm__("r4") = e;
  register long r5 __asm__("r5") = f;
  __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
  return r0;
}
#elif defined(__riscv)
enum { kRead = 63, kWrite = 64, kMap = 222, kUnmap = 215, kOpenAt = 56, kExit = 93, kFutex = 98 };
static long system_call(long n, long a, long b, long c, long d = 0, long e = 0, long f = 0) {
  register long a7 __asm__("a7") = n;
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a3 __asm__("a3") = d;
  register long a4 __asm__("a4") = e;
  register long a5 __asm__("a5") = f;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
  return a0;
}
#else
#error "the system calls of this processor are not known"
#endif

// Null where there is none. It is filled with zeros.
[[maybe_unused]] static void* allocate(size_t bytes) {
  const long at = system_call(kMap, 0, static_cast<long>(bytes), 3, 0x22, -1, 0);  // readable, writable; private, anonymous
  return static_cast<unsigned long>(at) > ~4095ul ? nullptr : reinterpret_cast<void*>(at);
}
}  // namespace bare
