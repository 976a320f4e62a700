// The few functions that compilers call for what a processor has no instruction for, where there is no C library.
#include <stddef.h>
#include <stdint.h>

extern "C" {
namespace bare {
typedef unsigned char block __attribute__((vector_size(16), aligned(1), may_alias));

// The barriers keep the compiler from calling memcpy and memset for these loops.
static void* copy(void* to, const void* from, size_t bytes) {
  char* t = static_cast<char*>(to);
  const char* f = static_cast<const char*>(from);
  for (; bytes >= sizeof(block); bytes -= sizeof(block), t += sizeof(block), f += sizeof(block)) {
    *reinterpret_cast<block*>(t) = *reinterpret_cast<const block*>(f);
    __asm__ volatile("" : : : "memory");
  }
  for (size_t i = 0; i < bytes; ++i) {
    t[i] = f[i];
    __asm__ volatile("" : : : "memory");
  }
  return to;
}

static void* fill(void* to, int value, size_t bytes) {
  char* t = static_cast<char*>(to);
  const block all = block{} + static_cast<unsigned char>(value);
  for (; bytes >= sizeof(block); bytes -= sizeof(block), t += sizeof(block)) {
    *reinterpret_cast<block*>(t) = all;
    __asm__ volatile("" : : : "memory");
  }
  for (size_t i = 0; i < bytes; ++i) {
    t[i] = static_cast<char>(value);
    __asm__ volatile("" : : : "memory");
  }
  return to;
}

}  // namespace bare

[[gnu::used]] void* memcpy(void* to, const void* from, size_t bytes) { return bare::copy(to, from, bytes); }
[[gnu::used]] void* memset(void* to, int value, size_t bytes) { return bare::fill(to, value, bytes); }

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
  __asm__(".globl " name "\n.hidden " name "\n" name ":\n  push {r4, lr}\n  sub sp, sp, #24\n  strd r2, r3, [sp]\n"     \
          "  mov r2, r0\n  mov r3, r1\n  add r0, sp, #8\n  bl " function "\n  ldrd r0, r1, [sp, #8]\n"  \
          "  ldrd r2, r3, [sp, #16]\n  add sp, sp, #24\n  pop {r4, pc}\n")
DIVISION("__aeabi_uldivmod", "divide");
DIVISION("__aeabi_ldivmod", "divide_signed");

#define BASE_CALL [[gnu::used]] __attribute__((pcs("aapcs")))
// Where a processor divides no integers. The remainder comes in the upper half.
static uint64_t divide_words(uint32_t a, uint32_t b) {
  uint32_t quotient = 0, remainder = 0;
  for (int i = 31; i >= 0; --i) {
    const bool carry = remainder >> 31 != 0;
    remainder = remainder << 1 | (a >> i & 1);
    if (carry || remainder >= b) remainder -= b, quotient |= 1u << i;
  }
  return uint64_t{remainder} << 32 | quotient;
}
static uint64_t divide_signed_words(int32_t a, int32_t b) {
  const uint32_t x = static_cast<uint32_t>(a), y = static_cast<uint32_t>(b);
  const uint64_t made = divide_words(a < 0 ? -x : x, b < 0 ? -y : y);
  const uint32_t quotient = static_cast<uint32_t>(made), remainder = static_cast<uint32_t>(made >> 32);
  return uint64_t{a < 0 ? -remainder : remainder} << 32 | ((a < 0) != (b < 0) ? -quotient : quotient);
}
BASE_CALL uint64_t __aeabi_uidivmod(uint32_t a, uint32_t b) { return divide_words(a, b); }
BASE_CALL uint64_t __aeabi_idivmod(int32_t a, int32_t b) { return divide_signed_words(a, b); }
BASE_CALL uint32_t __aeabi_uidiv(uint32_t a, uint32_t b) { return static_cast<uint32_t>(divide_words(a, b)); }
BASE_CALL int32_t __aeabi_idiv(int32_t a, int32_t b) { return static_cast<int32_t>(divide_signed_words(a, b)); }
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
BASE_CALL void __aeabi_memcpy(void* to, const void* from, size_t bytes) { bare::copy(to, from, bytes); }
BASE_CALL void __aeabi_memcpy4(void* to, const void* from, size_t bytes) { bare::copy(to, from, bytes); }
BASE_CALL void __aeabi_memcpy8(void* to, const void* from, size_t bytes) { bare::copy(to, from, bytes); }
BASE_CALL void __aeabi_memset(void* to, size_t bytes, int value) { bare::fill(to, value, bytes); }
BASE_CALL void __aeabi_memset4(void* to, size_t bytes, int value) { bare::fill(to, value, bytes); }
BASE_CALL void __aeabi_memset8(void* to, size_t bytes, int value) { bare::fill(to, value, bytes); }
BASE_CALL void __aeabi_memclr(void* to, size_t bytes) { bare::fill(to, 0, bytes); }
BASE_CALL void __aeabi_memclr4(void* to, size_t bytes) { bare::fill(to, 0, bytes); }
BASE_CALL void __aeabi_memclr8(void* to, size_t bytes) { bare::fill(to, 0, bytes); }
#endif
}
