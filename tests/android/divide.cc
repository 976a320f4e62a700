// Exits with 0 where integers are divided right on a processor that has no instruction for it; see bare.h.
#include "drive_linux.h"

namespace driving {

static uint64_t size(int64_t x) { return static_cast<uint64_t>(x < 0 ? -x : x); }

int drive(int, char**) {
  static const uint32_t values[] = {0, 1, 2, 3, 7, 10, 99, 65535, 65536, 12345678, 0x7fffffff, 0x80000000, 0x80000001, 0xdeadbeef, 0xfffffffe, 0xffffffff};
  for (uint32_t a : values) {
    for (uint32_t b : values) {
      if (b == 0) continue;
      const volatile uint32_t x = a, y = b;
      const uint32_t quotient = x / y, rest = x % y;
      if (uint64_t{quotient} * b + rest != a || rest >= b) return 1;
      const volatile int32_t signed_x = static_cast<int32_t>(a), signed_y = static_cast<int32_t>(b);
      if (a == 0x80000000 && b == 0xffffffff) continue;
      const int64_t whole = signed_x / signed_y, left = signed_x % signed_y;
      if (whole * signed_y + left != signed_x || size(left) >= size(signed_y) || (left < 0 && signed_x >= 0)) return 2;
    }
  }
  return 0;
}

}  // namespace driving
