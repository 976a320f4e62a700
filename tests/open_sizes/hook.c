// Counts what is allocated while shapes are set: loaded before the C library (LD_PRELOAD), used by Python.
#include <stddef.h>
#include <stdint.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

static long made;

void* malloc(size_t n) { return ++made, __libc_malloc(n); }
void* calloc(size_t n, size_t size) { return ++made, __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { return ++made, __libc_realloc(p, n); }
void* aligned_alloc(size_t alignment, size_t n) { return ++made, __libc_memalign(alignment, n); }
int posix_memalign(void** p, size_t alignment, size_t n) {
  ++made;
  *p = __libc_memalign(alignment, n);
  return *p ? 0 : 12;
}

// How often memory is allocated while the shapes are set one after the other, -1 where one is refused.
long allocations_of_reshape(int (*reshape)(void*, int32_t, const int64_t*, int32_t), void* predictor,
                            const int64_t* shapes, int32_t rank, int32_t count) {
  const long before = made;
  for (int32_t k = 0; k < count; ++k)
    if (reshape(predictor, 0, shapes + k * rank, rank) != 0) return -1;
  return made - before;
}

long allocations(void) { return made; }
