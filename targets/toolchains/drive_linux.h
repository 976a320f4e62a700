// What drive.cc needs of Linux, by system calls: memory, files, the program's start and end; and the few functions that
// compilers call for what a processor has no instruction for.
namespace driving {  // a name of its own: the model may have any
#if defined(__x86_64__)
enum { kRead = 0, kWrite = 1, kMap = 9, kOpenAt = 257, kExit = 60 };
__asm__(".globl _start\n_start:\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call start\n");
static long system_call(long n, long a, long b, long c, long d = 0, long e = 0, long f = 0) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return n;
}
#elif defined(__aarch64__)
enum { kRead = 63, kWrite = 64, kMap = 222, kOpenAt = 56, kExit = 93 };
__asm__(".globl _start\n_start:\n  mov x0, sp\n  bl start\n");
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
enum { kRead = 3, kWrite = 4, kMap = 192, kOpenAt = 322, kExit = 1 };
__asm__(".globl _start\n_start:\n  mov r0, sp\n  bic sp, sp, #15\n  bl start\n");
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
#elif defined(__riscv) && __riscv_xlen == 64
enum { kRead = 63, kWrite = 64, kMap = 222, kOpenAt = 56, kExit = 93 };
__asm__(".globl _start\n_start:\n  mv a0, sp\n  call start\n");
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
#error "drive.cc knows no system calls of this processor"
#endif

static void say(const char* text) {
  size_t n = 0;
  while (text[n] != 0) ++n;
  system_call(kWrite, 2, reinterpret_cast<long>(text), static_cast<long>(n));
}

static void* allocate(size_t bytes) {
  const long at = system_call(kMap, 0, static_cast<long>(bytes), 3, 0x22, -1, 0);  // readable, writable; private, anonymous
  return static_cast<unsigned long>(at) > ~4095ul ? nullptr : reinterpret_cast<void*>(at);
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

// What the system says of the processor, behind the environment: pairs of a kind and a value.
static const unsigned long* hardware;
}  // namespace driving

extern "C" unsigned long getauxval(unsigned long kind) {
  for (const unsigned long* pair = driving::hardware; *pair != 0; pair += 2) {
    if (*pair == kind) return pair[1];
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

extern "C" {
namespace driving {
// The barriers keep the compiler from calling memcpy and memset for these loops.
static void* copy(void* to, const void* from, size_t bytes) {
  char* t = static_cast<char*>(to);
  const char* f = static_cast<const char*>(from);
  for (size_t i = 0; i < bytes; ++i) {
    t[i] = f[i];
    __asm__ volatile("" : : : "memory");
  }
  return to;
}

static void* fill(void* to, int value, size_t bytes) {
  char* t = static_cast<char*>(to);
  for (size_t i = 0; i < bytes; ++i) {
    t[i] = static_cast<char>(value);
    __asm__ volatile("" : : : "memory");
  }
  return to;
}

}  // namespace driving

[[gnu::used]] void* memcpy(void* to, const void* from, size_t bytes) { return driving::copy(to, from, bytes); }
[[gnu::used]] void* memset(void* to, int value, size_t bytes) { return driving::fill(to, value, bytes); }

#if defined(__arm__)
// Run-time ABI for the Arm architecture, sections 4.2 and 4.3.4: division of 64-bit integers, conversions, memory.
struct halves { uint64_t quotient, remainder; };
[[gnu::used]] halves divide(uint64_t a, uint64_t b) {
  halves h = {0, 0};
  for (int i = 63; i >= 0; --i) {
    h.remainder = h.remainder << 1 | (a >> i & 1);
    if (h.remainder >= b) h.remainder -= b, h.quotient |= uint64_t{1} << i;
  }
  return h;
}
[[gnu::used]] halves divide_signed(int64_t a, int64_t b) {
  halves h = divide(a < 0 ? -static_cast<uint64_t>(a) : static_cast<uint64_t>(a), b < 0 ? -static_cast<uint64_t>(b) : static_cast<uint64_t>(b));
  if ((a < 0) != (b < 0)) h.quotient = -h.quotient;
  if (a < 0) h.remainder = -h.remainder;
  return h;
}
#define DIVISION(name, function)                                                                    \
  __asm__(".globl " name "\n" name ":\n  push {r4, lr}\n  sub sp, sp, #24\n  strd r2, r3, [sp]\n"     \
          "  mov r2, r0\n  mov r3, r1\n  add r0, sp, #8\n  bl " function "\n  ldrd r0, r1, [sp, #8]\n"  \
          "  ldrd r2, r3, [sp, #16]\n  add sp, sp, #24\n  pop {r4, pc}\n")
DIVISION("__aeabi_uldivmod", "divide");
DIVISION("__aeabi_ldivmod", "divide_signed");

#define BASE_CALL [[gnu::used]] __attribute__((pcs("aapcs")))
BASE_CALL double __aeabi_ul2d(uint64_t m) {
  return static_cast<double>(static_cast<uint32_t>(m >> 32)) * 4294967296.0 + static_cast<double>(static_cast<uint32_t>(m));
}
BASE_CALL double __aeabi_l2d(int64_t x) {
  return x < 0 ? -__aeabi_ul2d(-static_cast<uint64_t>(x)) : __aeabi_ul2d(static_cast<uint64_t>(x));
}
BASE_CALL float __aeabi_ul2f(uint64_t m) {
  if (m >> 53 != 0 && (m & 2047) != 0) m = (m & ~uint64_t{2047}) | 2048;  // so that only the last rounding rounds
  return static_cast<float>(__aeabi_ul2d(m));
}
BASE_CALL float __aeabi_l2f(int64_t x) {
  return x < 0 ? -__aeabi_ul2f(-static_cast<uint64_t>(x)) : __aeabi_ul2f(static_cast<uint64_t>(x));
}
BASE_CALL uint64_t __aeabi_d2ulz(double x) {
  const uint32_t high = static_cast<uint32_t>(x * (1 / 4294967296.0));
  const uint32_t low = static_cast<uint32_t>(x - static_cast<double>(high) * 4294967296.0);
  return static_cast<uint64_t>(high) << 32 | low;
}
BASE_CALL int64_t __aeabi_d2lz(double x) {
  return x < 0 ? static_cast<int64_t>(-__aeabi_d2ulz(-x)) : static_cast<int64_t>(__aeabi_d2ulz(x));
}
BASE_CALL uint64_t __aeabi_f2ulz(float x) { return __aeabi_d2ulz(static_cast<double>(x)); }
BASE_CALL int64_t __aeabi_f2lz(float x) { return __aeabi_d2lz(static_cast<double>(x)); }
BASE_CALL void __aeabi_memcpy(void* to, const void* from, size_t bytes) { driving::copy(to, from, bytes); }
BASE_CALL void __aeabi_memcpy4(void* to, const void* from, size_t bytes) { driving::copy(to, from, bytes); }
BASE_CALL void __aeabi_memcpy8(void* to, const void* from, size_t bytes) { driving::copy(to, from, bytes); }
BASE_CALL void __aeabi_memset(void* to, size_t bytes, int value) { driving::fill(to, value, bytes); }
BASE_CALL void __aeabi_memset4(void* to, size_t bytes, int value) { driving::fill(to, value, bytes); }
BASE_CALL void __aeabi_memset8(void* to, size_t bytes, int value) { driving::fill(to, value, bytes); }
BASE_CALL void __aeabi_memclr(void* to, size_t bytes) { driving::fill(to, 0, bytes); }
BASE_CALL void __aeabi_memclr4(void* to, size_t bytes) { driving::fill(to, 0, bytes); }
BASE_CALL void __aeabi_memclr8(void* to, size_t bytes) { driving::fill(to, 0, bytes); }
#endif
}
