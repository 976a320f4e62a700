/* The ceilings of one core, as JSON: its clock in GHz, fused multiply-adds in GFLOP/s, and reading at GB/s from working
   sets of several sizes. The best of many short samples of the thread's CPU time. Built by ceilings.py with -O2 -march=native. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define LANES (BYTES / 4)
typedef float vec __attribute__((vector_size(BYTES)));

/* Tells the compiler that the vector may have changed, so that it neither folds nor drops what is computed. */
#if defined(__x86_64__)
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#elif defined(__aarch64__)
#define KEEP(v) __asm__ volatile("" : "+w"(v))
#else
#define KEEP(v) __asm__ volatile("" : "+m"(v))
#endif

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of 12 independent chains: more than latency times ports of every core that we know. */
static double multiply_adds(void) {
    enum { STEPS = 400000 };
    vec a = {0}, b = {0}, c0 = {0}, c1 = {0}, c2 = {0}, c3 = {0}, c4 = {0}, c5 = {0};
    vec c6 = {0}, c7 = {0}, c8 = {0}, c9 = {0}, c10 = {0}, c11 = {0};
    double best = 0;
    a += 0.999f;
    b += 0.001f;
    for (int sample = 0; sample < 40; ++sample) {
        double began = now();
        for (int i = 0; i < STEPS; ++i) {
            KEEP(a);
            c0 = c0 * a + b; c1 = c1 * a + b; c2 = c2 * a + b; c3 = c3 * a + b;
            c4 = c4 * a + b; c5 = c5 * a + b; c6 = c6 * a + b; c7 = c7 * a + b;
            c8 = c8 * a + b; c9 = c9 * a + b; c10 = c10 * a + b; c11 = c11 * a + b;
        }
        KEEP(c0); KEEP(c1); KEEP(c2); KEEP(c3); KEEP(c4); KEEP(c5);
        KEEP(c6); KEEP(c7); KEEP(c8); KEEP(c9); KEEP(c10); KEEP(c11);
        double rate = 2.0 * LANES * 12.0 * STEPS / (now() - began) / 1e9;
        if (rate > best) best = rate;
    }
    return best;
}

/* GHz: a chain of integer additions, each of which takes one cycle on every core that we know. */
static double clock_rate(void) {
    enum { STEPS = 4000000 };
    double best = 0;
    for (int sample = 0; sample < 10; ++sample) {
        unsigned long x = 1, y = 1;
        double began = now();
        for (int i = 0; i < STEPS; ++i) {
            x += y; __asm__ volatile("" : "+r"(x));
            x += y; __asm__ volatile("" : "+r"(x));
            x += y; __asm__ volatile("" : "+r"(x));
            x += y; __asm__ volatile("" : "+r"(x));
        }
        double rate = 4.0 * STEPS / (now() - began) / 1e9;
        if (rate > best) best = rate;
    }
    return best;
}

/* GB/s of reading `bytes` bytes again and again, in two streams. */
static double reading(const char *memory, size_t bytes) {
    size_t passes = 1 + ((size_t)64 << 20) / bytes;
    double best = 0;
    for (int sample = 0; sample < 12; ++sample) {
        vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0}, s5 = {0}, s6 = {0}, s7 = {0};
        double began = now();
        for (size_t pass = 0; pass < passes; ++pass) {
            const vec *p = (const vec *)memory, *q = p + bytes / sizeof(vec) / 2;
            for (const vec *end = q; p < end; p += 4, q += 4) {
                s0 += p[0]; s1 += p[1]; s2 += p[2]; s3 += p[3];
                s4 += q[0]; s5 += q[1]; s6 += q[2]; s7 += q[3];
            }
            KEEP(s0);
        }
        s0 += s1 + s2 + s3 + s4 + s5 + s6 + s7;
        KEEP(s0);
        double rate = (double)bytes * (double)passes / (now() - began) / 1e9;
        if (rate > best) best = rate;
    }
    return best;
}

int main(void) {
    static const size_t kib[] = {16, 64, 256, 512, 1024, 4096, 16384, 262144};
    static const size_t page = (size_t)2 << 20; /* large pages, where the system gives them */
    size_t largest = (size_t)262144 << 10;
    char *memory = aligned_alloc(page, largest);
    if (!memory) return 1;
#if defined(__linux__)
    madvise(memory, largest, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < largest / sizeof(float); ++i) ((float *)memory)[i] = 1.0f;
    printf("{\"vector_bits\": %d, \"ghz\": %.3f, \"gflops\": %.2f, \"gbps\": {", BYTES * 8, clock_rate(), multiply_adds());
    for (size_t i = 0; i < sizeof kib / sizeof *kib; ++i)
        printf("%s\"%zu\": %.2f", i ? ", " : "", kib[i] << 10, reading(memory, kib[i] << 10));
    printf("}}\n");
    free(memory);
    return 0;
}
