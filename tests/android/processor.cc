// Exits with 1 where an Android library finds dot products, 3 where it finds products of matrices too, 0 else.
#include "support.cc"

extern "C" [[gnu::used]] void _start() {
  const unsigned long dots = getauxval(16) >> 20 & 1, matrices = getauxval(26) >> 13 & 1;
  bare::system_call(bare::kExit, static_cast<long>(dots + 2 * matrices), 0, 0);
  for (;;) {}
}
