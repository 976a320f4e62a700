/* The ceiling of one core in WebAssembly: fused multiply-adds of relaxed SIMD. Timed by page.mjs, built by browser.py. */
#include <wasm_simd128.h>

#define LANES 4
#define CHAINS 10 /* latency times ports of every core that we know is less; V8 spills from 14 registers on */

__attribute__((export_name("flops_per_step"))) int flops_per_step(void) { return 2 * LANES * CHAINS; }

/* `steps` steps of independent chains. The sum keeps the compiler from dropping them. */
__attribute__((export_name("multiply_adds"))) float multiply_adds(int steps) {
    v128_t a = wasm_f32x4_splat(0.999f + (float)(steps & 1) * 1e-6f), b = wasm_f32x4_splat(0.001f);
    v128_t c0 = b, c1 = a, c2 = b, c3 = a, c4 = b, c5 = a, c6 = b, c7 = a, c8 = b, c9 = a;
    for (int i = 0; i < steps; ++i) {
#define STEP(c) c = wasm_f32x4_relaxed_madd(c, a, b)
        STEP(c0); STEP(c1); STEP(c2); STEP(c3); STEP(c4);
        STEP(c5); STEP(c6); STEP(c7); STEP(c8); STEP(c9);
    }
    c0 = wasm_f32x4_add(wasm_f32x4_add(c0, c1), wasm_f32x4_add(c2, c3));
    c4 = wasm_f32x4_add(wasm_f32x4_add(c4, c5), wasm_f32x4_add(c6, c7));
    c0 = wasm_f32x4_add(wasm_f32x4_add(c0, c4), wasm_f32x4_add(c8, c9));
    return wasm_f32x4_extract_lane(c0, 0) + wasm_f32x4_extract_lane(c0, 3);
}
