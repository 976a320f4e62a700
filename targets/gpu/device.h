// What the sections of runtime_c/maths.h and runtime_c/values.h need to become device code: one lane, no
// header, so that NVRTC needs none. A section here stands in the place of runtime_c's of the same name; so
// kernels of GPUs and CPUs have the same maths with the same bounds of error (grammar: runtime_c/vectors.h). What is
// empty here no kernel of a GPU calls.
//
// tests/cuda_on_host.h compiles the same text for a CPU (CUDA_ON_HOST), where the types are known.

//@ section compiler
#if !defined(CUDA_ON_HOST)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define INT64_C(x) x##LL
#define UINT64_C(x) x##ULL
#define INT32_MIN (-2147483647 - 1)
#define INT64_MIN (-9223372036854775807LL - 1)
#define __builtin_memcpy memcpy
#define __builtin_inff() __builtin_bit_cast(float, 0x7f800000u)
#define __builtin_nanf(text) __builtin_bit_cast(float, 0x7fc00000u)
#pragma nv_diag_suppress 1097  // attributes of GCC, which mean nothing here
#endif
#define INLINE [[maybe_unused]] static __device__ __forceinline__

//@ section vectors
//@ needs compiler
// elem<V> is V, which has one lane. ints<V>, uints<V>: integers of the same width.
template <class V> using elem = V;
template <class V> [[maybe_unused]] constexpr int lanes = 1;
template <class V> [[maybe_unused]] constexpr bool either_nan = false;
template <class T, int N> using vec = T;
template <class V> using half = V;
template <size_t BYTES> struct integer_of;
template <> struct integer_of<1> { typedef int8_t i; typedef uint8_t u; };
template <> struct integer_of<2> { typedef int16_t i; typedef uint16_t u; };
template <> struct integer_of<4> { typedef int32_t i; typedef uint32_t u; };
template <> struct integer_of<8> { typedef int64_t i; typedef uint64_t u; };
template <class V> using ints = typename integer_of<sizeof(V)>::i;
template <class V> using uints = typename integer_of<sizeof(V)>::u;

// The same bits as another type of the same size.
template <class To, class From> INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same size");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}
template <class V> INLINE V splat(V x) { return x; }
template <class V> INLINE V select(bool condition, V a, V b) { return condition ? a : b; }

//@ section halves
// Never called: no vector is wider than one lane.
template <class V> INLINE V low(V v) { return v; }
template <class V> INLINE V high(V v) { return v; }
template <class V> INLINE V join(V low, V) { return low; }

//@ section convert
template <class V, class From> INLINE V convert(From x) { return static_cast<V>(x); }

//@ section either_nan
//@ section madd
INLINE float madd(float a, float b, float c) { return fmaf(a, b, c); }
INLINE double madd(double a, double b, double c) { return fma(a, b, c); }

//@ section hmax
template <class V> INLINE V hmax(V v) { return v; }

//@ section vmin
// a < b ? a : b: if a is NaN the result is b, if b is NaN it is NaN.
template <class V> INLINE V vmin(V a, V b) { return a < b ? a : b; }

//@ section vmax
// a > b ? a : b; NaN as in vmin.
template <class V> INLINE V vmax(V a, V b) { return a > b ? a : b; }

//@ section min
// The smaller; NaN when either is NaN.
template <class V> INLINE V min_(V a, V b) { return a < b || a != a ? a : b; }

//@ section max
// The larger; NaN when either is NaN.
template <class V> INLINE V max_(V a, V b) { return a > b || a != a ? a : b; }

//@ section rounding
// Nothing: the device has an instruction for each way to round.

//@ section floor
INLINE float floor_(float x) { return floorf(x); }
INLINE double floor_(double x) { return floor(x); }

//@ section ceil
INLINE float ceil_(float x) { return ceilf(x); }
INLINE double ceil_(double x) { return ceil(x); }

//@ section round
INLINE float round_(float x) { return rintf(x); }
INLINE double round_(double x) { return rint(x); }

//@ section trunc
INLINE float trunc_(float x) { return truncf(x); }
INLINE double trunc_(double x) { return trunc(x); }

//@ section products
// Sums of x (high + low), computed in double: the error is at most 2^-47 of the largest.
template <class X> INLINE double products(X x, float high, float low) {
  return static_cast<double>(x) * (static_cast<double>(high) + static_cast<double>(low));
}
template <class X, class... R> INLINE double products(X x, float high, float low, R... rest) {
  return products(x, high, low) + products(rest...);
}
template <class F, class X, class... R> INLINE float of_products(F f, X x, R... rest) {
  return static_cast<float>(f(products(x, rest...)));
}

//@ section scaled

//@ section exp_by_roots

//@ section erfc_parts

//@ section float_of_half

//@ section sqrt
// The square root, correctly rounded.
INLINE float sqrt_(float x) { return sqrtf(x); }
INLINE double sqrt_(double x) { return sqrt(x); }

//@ section f32x4
// Four floats that are read and written by one instruction: the address is a multiple of 16 bytes.
struct alignas(16) f32x4 {
  float x, y, z, w;
  __device__ float operator[](int i) const { return i == 0 ? x : i == 1 ? y : i == 2 ? z : w; }
};
INLINE f32x4 operator+(f32x4 a, f32x4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
INLINE f32x4 operator*(f32x4 a, f32x4 b) { return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }
INLINE f32x4& operator+=(f32x4& a, f32x4 b) { return a = a + b; }
INLINE f32x4 operator*(float a, f32x4 b) { return {a * b.x, a * b.y, a * b.z, a * b.w}; }

//@ section load4
//@ needs f32x4
#if !defined(ALIGNED)
#define ALIGNED(p) (p)
#endif
INLINE f32x4 load4(const float* p) { return *reinterpret_cast<const f32x4*>(ALIGNED(p)); }

//@ section store4
//@ needs load4
INLINE void store4(float* p, f32x4 v) { *reinterpret_cast<f32x4*>(ALIGNED(p)) = v; }

//@ section block_reduce
// f over the values of all THREADS of a block, a power of two from 32 on, which all of them get: a warp exchanges
// registers, then each warp's result goes through shared memory.
template <int THREADS, class T, class F> INLINE T block_reduce(T value, F f) {
  for (int distance = 16; distance > 0; distance /= 2) value = f(value, __shfl_xor_sync(0xffffffffu, value, distance));
  if constexpr (THREADS > 32) {
    __shared__ T of_warp[THREADS / 32];
    __syncthreads();  // until all have read those of the reduction before
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    value = of_warp[0];
    for (int warp = 1; warp < THREADS / 32; ++warp) value = f(value, of_warp[warp]);
  }
  return value;
}

//@ section block_sum
//@ needs block_reduce
struct plus { template <class T> __device__ T operator()(T a, T b) const { return a + b; } };
template <int THREADS, class T> INLINE T block_sum(T value) { return block_reduce<THREADS>(value, plus()); }

//@ section block_product
//@ needs block_reduce
struct times { template <class T> __device__ T operator()(T a, T b) const { return a * b; } };
template <int THREADS, class T> INLINE T block_product(T value) { return block_reduce<THREADS>(value, times()); }

//@ section block_max
//@ needs block_reduce max
struct larger { template <class T> __device__ T operator()(T a, T b) const { return max_(a, b); } };
template <int THREADS, class T> INLINE T block_max(T value) { return block_reduce<THREADS>(value, larger()); }

//@ section block_min
//@ needs block_reduce min
struct smaller { template <class T> __device__ T operator()(T a, T b) const { return min_(a, b); } };
template <int THREADS, class T> INLINE T block_min(T value) { return block_reduce<THREADS>(value, smaller()); }
