// The processor: whether it has what the compiler was allowed to use, and what its floats do with
// denormals. The top of vectors.h explains the sections.

//@ section cpuid
// Functions marked BASELINE run before the CPU is checked: whatever -march says, they use
// only instructions of every x86-64 CPU.
#if defined(__x86_64__) || defined(__i386__)
#if defined(__APX_F__)
#define BASELINE \
  __attribute__((target("no-sse3,no-popcnt,no-lzcnt,no-bmi,no-bmi2,no-movbe,no-apxf")))
#else
#define BASELINE __attribute__((target("no-sse3,no-popcnt,no-lzcnt,no-bmi,no-bmi2,no-movbe")))
#endif

struct cpuid_words { uint32_t a, b, c, d; };

// Runs the instruction cpuid.
[[maybe_unused]] BASELINE inline cpuid_words cpuid(uint32_t leaf, uint32_t part) {
  cpuid_words w = {};
  __asm__ volatile("cpuid" : "=a"(w.a), "=b"(w.b), "=c"(w.c), "=d"(w.d) : "a"(leaf), "c"(part));
  return w;
}
#else
#define BASELINE
#endif

//@ section cpu
//@ needs cpuid
#if defined(__x86_64__) || defined(__i386__)
// 1 if the compiler defines the macro, that is, may use those instructions.
#define IS_ONE(text) (#text[0] == '1' ? 1u : 0u)
#define ALLOWED(macro) IS_ONE(macro)

// Required bits: cpuid flags of the instructions that the compiler may use, and registers that the
// system must save.
constexpr uint32_t kLeaf1C = ALLOWED(__SSE3__) << 0 | ALLOWED(__PCLMUL__) << 1 |
    ALLOWED(__SSSE3__) << 9 | ALLOWED(__FMA__) << 12 | ALLOWED(__SSE4_1__) << 19 |
    ALLOWED(__SSE4_2__) << 20 | ALLOWED(__MOVBE__) << 22 | ALLOWED(__POPCNT__) << 23 |
    ALLOWED(__AVX__) << 28 | ALLOWED(__F16C__) << 29;
constexpr uint32_t kLeaf7B = ALLOWED(__BMI__) << 3 | ALLOWED(__AVX2__) << 5 |
    ALLOWED(__BMI2__) << 8 | ALLOWED(__AVX512F__) << 16 | ALLOWED(__AVX512DQ__) << 17 |
    ALLOWED(__ADX__) << 19 | ALLOWED(__AVX512IFMA__) << 21 | ALLOWED(__AVX512CD__) << 28 |
    ALLOWED(__AVX512BW__) << 30 | ALLOWED(__AVX512VL__) << 31;
constexpr uint32_t kLeaf7C = ALLOWED(__AVX512VBMI__) << 1 | ALLOWED(__AVX512VBMI2__) << 6 |
    ALLOWED(__GFNI__) << 8 | ALLOWED(__VAES__) << 9 | ALLOWED(__VPCLMULQDQ__) << 10 |
    ALLOWED(__AVX512VNNI__) << 11 | ALLOWED(__AVX512BITALG__) << 12 |
    ALLOWED(__AVX512VPOPCNTDQ__) << 14;
constexpr uint32_t kLeaf7D = ALLOWED(__AVX512FP16__) << 23;
constexpr uint32_t kLeaf7PartA =
    ALLOWED(__AVXVNNI__) << 4 | ALLOWED(__AVX512BF16__) << 5 | ALLOWED(__AVXIFMA__) << 23;
constexpr uint32_t kLeaf7PartD = ALLOWED(__APX_F__) << 21;
constexpr uint32_t kExtendedC = ALLOWED(__LZCNT__) << 5 | ALLOWED(__XOP__) << 11 |
    ALLOWED(__FMA4__) << 16 | ALLOWED(__TBM__) << 21;
#if defined(__AVX512F__) && !defined(__APPLE__)  // macOS enables these registers on first use
constexpr uint32_t kSaved = 0xe6;
#elif defined(__AVX__)
constexpr uint32_t kSaved = 0x06;
#else
constexpr uint32_t kSaved = 0;
#endif

#undef ALLOWED
#undef IS_ONE

[[maybe_unused, gnu::noinline]] BASELINE bool cpu_suffices() {
  const uint32_t last = cpuid(0, 0).a, last_extended = cpuid(0x80000000u, 0).a;
  const cpuid_words one = cpuid(1, 0);
  const cpuid_words seven = last >= 7 ? cpuid(7, 0) : cpuid_words{};
  const cpuid_words part = last >= 7 && seven.a >= 1 ? cpuid(7, 1) : cpuid_words{};
  const cpuid_words extended = last_extended >= 0x80000001u ? cpuid(0x80000001u, 0) : cpuid_words{};
  uint32_t saved = 0, high = 0;
  if ((one.c >> 27 & 1u) != 0)
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(saved), "=d"(high) : "c"(0));  // xgetbv
  const uint32_t lacks = (kLeaf1C & ~one.c) | (kLeaf7B & ~seven.b) | (kLeaf7C & ~seven.c) |
      (kLeaf7D & ~seven.d) | (kLeaf7PartA & ~part.a) | (kLeaf7PartD & ~part.d) |
      (kExtendedC & ~extended.c) | (kSaved & ~saved);
  return lacks == 0;
}
#elif defined(__linux__) &&                                                                 \
    ((defined(__aarch64__) &&                                                               \
      (defined(__ARM_FEATURE_DOTPROD) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC))) || \
     (defined(__riscv) && defined(__riscv_vector)))
// Linux's lists of what the processor has; absent where there is no libc.
extern "C" unsigned long hardware_list(unsigned long kind) __asm__("getauxval")
    __attribute__((weak));
[[maybe_unused]] inline bool cpu_suffices() {
  unsigned long wanted = 0, wanted_too = 0;
#if defined(__riscv)
  wanted |= 1ul << ('v' - 'a');
#endif
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
  wanted |= 1ul << 10;
#endif
#if defined(__ARM_FEATURE_DOTPROD)
  wanted |= 1ul << 20;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
  wanted_too |= 1ul << 13;  // products of matrices
#endif
  return hardware_list != nullptr && (hardware_list(16) & wanted) == wanted &&
      (hardware_list(26) & wanted_too) == wanted_too;
}
//@ arm_variants
#elif defined(__APPLE__) && defined(__aarch64__) && \
    (defined(__ARM_FEATURE_DOTPROD) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC))
// Apple's list of what the processor has; iOS before 15 and macOS before 12 know none of the names
// with FEAT.
extern "C" int system_control(const char* name, void* value, size_t* bytes, void*,
                              size_t) __asm__("_sysctlbyname");
[[maybe_unused]] inline bool cpu_has(const char* name) {
  int32_t value = 0;
  size_t bytes = sizeof value;
  return system_control(name, &value, &bytes, nullptr, 0) == 0 && value != 0;
}
[[maybe_unused]] inline bool cpu_suffices() {
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
  if (!cpu_has("hw.optional.arm.FEAT_FP16") && !cpu_has("hw.optional.neon_fp16")) return false;
#endif
#if defined(__ARM_FEATURE_DOTPROD)
  if (!cpu_has("hw.optional.arm.FEAT_DotProd")) return false;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
  if (!cpu_has("hw.optional.arm.FEAT_I8MM")) return false;
#endif
  return true;
}
//@ end
#else
[[maybe_unused]] constexpr bool cpu_suffices() { return true; }
#endif

//@ section cpu_needed
#if defined(__AVX512F__)
#define CPU_NEEDED "AVX-512"
#elif defined(__AVX2__)
#define CPU_NEEDED "AVX2 and FMA"
#elif defined(__AVX__)
#define CPU_NEEDED "AVX"
#else
#define CPU_NEEDED "what it was compiled for"
#endif

//@ section float_mode
//@ needs vectors
// Makes the calling thread treat denormals as zeros if the CPU can. Returns the old mode for
// restore_floats(). The memory clobbers keep memory accesses from moving across.
INLINE uint64_t flush_denormals() {
#if defined(__SSE__)
  uint32_t was = 0;
  __asm__ volatile("stmxcsr %0" : "=m"(was) : : "memory");
  const uint32_t now = was | 0x8040u;
  __asm__ volatile("ldmxcsr %0" : : "m"(now) : "memory");
  return was;
#elif defined(__aarch64__)
  uint64_t was = 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(was) : : "memory");
  __asm__ volatile("msr fpcr, %0" : : "r"(was | 1u << 24) : "memory");
  return was;
#else
  return 0;
#endif
}

INLINE void restore_floats([[maybe_unused]] uint64_t was) {
#if defined(__SSE__)
  const uint32_t before = static_cast<uint32_t>(was);
  __asm__ volatile("ldmxcsr %0" : : "m"(before) : "memory");
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(was) : "memory");
#endif
}
