// What kernels in WGSL call (grammar of sections: runtime_c/vectors.h). The functions are those of runtime_c/maths.h for
// one float, with their bounds of error as far as a device's own operations are rounded correctly; WGSL lets it divide
// with an error of 2.5 ulp, flush denormals, and do without NaN and infinities. Nothing here depends on the order of
// additions, which a device may change: integers are found by round().

//@ section numbers
// WGSL has no constants for these: what a literal cannot say, a variable can.
var<private> infinity_bits = 0x7f800000u;
var<private> nan_bits = 0x7fc00000u;
fn infinity() -> f32 { return bitcast<f32>(infinity_bits); }
fn not_a_number() -> f32 { return bitcast<f32>(nan_bits); }

//@ section byte
// Byte `at` of memory, of which `word` holds four.
fn byte_of(word: u32, at: i32) -> u32 { return (word >> (u32(at & 3) * 8u)) & 255u; }

//@ section sign
fn with_sign(magnitude: f32, sign: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(magnitude) | (bitcast<u32>(sign) & 0x80000000u));
}

//@ section min
// The smaller; NaN when either is NaN.
fn min_(a: f32, b: f32) -> f32 { return select(b, a, a < b || a != a); }

//@ section max
// The larger; NaN when either is NaN.
fn max_(a: f32, b: f32) -> f32 { return select(b, a, a > b || a != a); }

//@ section floordiv
// a / b rounded towards minus infinity; 0 if b is 0.
fn floordiv_(a: i32, b: i32) -> i32 {
    if (b == 0) { return 0; }
    let q = a / b;
    return select(q, q - 1, a % b != 0 && (a < 0) != (b < 0));
}

//@ section floormod
// a - b * floordiv_(a, b): the sign is that of b; 0 if b is 0.
fn floormod_(a: i32, b: i32) -> i32 {
    if (b == 0) { return 0; }
    let r = a % b;
    return select(r, r + b, r != 0 && (r < 0) != (b < 0));
}

//@ section truncdiv
// a / b rounded towards zero; 0 if b is 0.
fn truncdiv_(a: i32, b: i32) -> i32 {
    if (b == 0) { return 0; }
    return a / b;
}

//@ section truncmod
// a - b * truncdiv_(a, b): the sign is that of a; 0 if b is 0.
fn truncmod_(a: i32, b: i32) -> i32 {
    if (b == 0) { return 0; }
    return a % b;
}

//@ section rsqrt
fn rsqrt_(x: f32) -> f32 { return 1.0f / sqrt(x); }

//@ section power_of_two
// 2^n for normal results, and x 2^n in two steps, of which only the last rounds.
fn power_of_two(n: i32) -> f32 { return bitcast<f32>(u32(n + 127) << 23u); }
fn times_power_of_two(x: f32, n: i32) -> f32 {
    let half_n = n >> 1u;
    return x * power_of_two(half_n) * power_of_two(n - half_n);
}

//@ section exp_shifted
//@ needs power_of_two
// e^x 2^k for small k: x = n ln2 + r with an integer n and |r| <= ln2 / 2, and e^r 2^(n + k).
fn exp_reduced(r: f32, n: i32) -> f32 {
    let q = fma(r, fma(r, fma(r, 0x1.6a4aa6p-10f, 0x1.12399p-7f), 0x1.5558b2p-5f), 0x1.555492p-3f);
    return times_power_of_two(fma(r, fma(r, fma(r, q, 0x1.fffffcp-2f), 1.0f), 1.0f), n);
}
fn exp_shifted(x: f32, k: i32) -> f32 {
    let y = min(90.0f, max(-105.0f, x));
    let n = round(y * 0x1.715476p0f);
    return exp_reduced(fma(n, -0x1.0bfbe8p-15f, fma(n, -0x1.62ep-1f, y)), i32(n) + k);
}

//@ section exp
//@ needs exp_shifted
// e^x, 1.2 ulp.
fn exp_(x: f32) -> f32 { return exp_shifted(x, 0); }

//@ section exp2
//@ needs exp_shifted
// 2^x, 1.2 ulp.
fn exp2_(x: f32) -> f32 {
    let y = min(129.0f, max(-151.0f, x));
    let n = round(y);
    return exp_reduced((y - n) * 0x1.62e43p-1f, i32(n));
}

//@ section expm1
//@ needs power_of_two
// e^x - 1, 1.5 ulp: 2 (2^(n-1) (e^r - 1) + 2^(n-1) - 1/2).
fn expm1_(x: f32) -> f32 {
    let y = min(89.0f, max(-20.0f, x));
    let n = round(y * 0x1.715476p0f);
    let r = fma(n, -0x1.0bfbe8p-15f, fma(n, -0x1.62ep-1f, y));
    let p = fma(r, fma(r, 0x1.9e775cp-13f, 0x1.6d3a5ep-10f), 0x1.1112d6p-7f);
    let q = fma(r, fma(r, fma(r, p, 0x1.5554f8p-5f), 0x1.555554p-3f), 0x1p-1f);
    let scale = power_of_two(i32(n) - 1);
    let half = fma(scale, fma(r * r, q, r), scale - 0.5f);
    return select(half + half, x, abs(x) < 0x1p-25f);
}

//@ section sigmoid
//@ needs exp
// 1 / (1 + e^-x), 2 ulp: with e = e^-|x| and q = e / (1 + e) it is 1 - q on the right and e - e q on the left.
fn sigmoid_(x: f32) -> f32 {
    let e = exp_(-abs(x));
    let limit = select(1.0f, e, x < 0.0f);
    return fma(-limit, e / (1.0f + e), limit);
}

//@ section exp2_fast
// 2^x for -125 <= x <= 126, 1 ulp.
fn exp2_fast(x: f32) -> f32 {
    let n = round(x);
    let f = x - n;
    let p = fma(f, fma(f, 0x1.416d1cp-13f, 0x1.5f09a4p-10f), 0x1.3b2dep-7f);
    let q = fma(f, fma(f, fma(f, fma(f, p, 0x1.c6af7ap-5f), 0x1.ebfbdcp-3f), 0x1.62e43p-1f), 1.0f);
    return bitcast<f32>(bitcast<u32>(q) + (bitcast<u32>(i32(n)) << 23u));
}

//@ section tanh
//@ needs exp2_fast sign
// tanh x, 1.8 ulp: an odd polynomial for |x| < 0.6, else 1 - 2 / (e^(2|x|) + 1).
fn tanh_(x: f32) -> f32 {
    let a = min(9.1f, abs(x));
    let u = a * a;
    let p = fma(u, fma(u, fma(u, -0x1.8285p-8f, 0x1.54c36ap-6f), -0x1.b89ab4p-5f), 0x1.1109bep-3f);
    let odd = fma(a * u, fma(u, p, -0x1.55553ep-2f), a);
    let rest = 2.0f / (exp2_fast(a * 0x1.715476p1f) + 1.0f);
    return with_sign(select(odd, 1.0f - rest, a >= 0.6f), x);
}

//@ section erf
//@ needs exp2_fast sign
// erf x, 1.6 ulp: an odd polynomial for |x| < 1, else 1 - 2^-p(|x|). The split is that of N. Juffa's erff.
fn erf_(x: f32) -> f32 {
    let a = min(3.95f, abs(x));
    let u = a * a;
    let p = fma(u, fma(u, fma(u, 0x1.4771fep-14f, -0x1.a3515ep-11f), 0x1.53f224p-8f), -0x1.b7f71ap-6f);
    let odd = fma(u, fma(u, fma(u, p, 0x1.ce2ce6p-4f), -0x1.81273ep-2f), 0x1.06eba8p-3f);
    let q = fma(a, fma(a, fma(a, -0x1.b31d44p-10f, 0x1.5d5438p-6f), -0x1.05e39p-3f), -0x1.e37126p-1f);
    let rest = exp2_fast(fma(a, fma(a, q, -0x1.9cb45cp0f), -0x1.f90c72p-9f));
    return with_sign(select(fma(a, odd, a), 1.0f - rest, a >= 1.0f), x);
}

//@ section erf_plus_one
//@ needs exp2_fast
// 1 + erf x with an error of 1.3e-7: erfc |x| = 2^p(|x|) serves both signs.
fn erf_plus_one_(x: f32) -> f32 {
    let a = min(4.2f, abs(x));
    let p = fma(a, fma(a, fma(a, -0x1.7c7edcp-15f, 0x1.d32610p-12f), -0x1.8672cp-10f), -0x1.9620fep-11f);
    let q = fma(a, fma(a, fma(a, p, 0x1.cee886p-6f), -0x1.301722p-3f), -0x1.d63aacp-1f);
    let e = exp2_fast(a * fma(a, q, -0x1.a0be9ep+0f));
    return select(2.0f - e, select(e, 0.0f, x < -4.2f), x < 0.0f);
}

//@ section log_parts
// x = 2^e m with m in [3/4, 3/2), for positive normal x, and log(1 + f) + e ln2 for f in [-1/4, 1/2].
fn log_exponent(x: f32) -> u32 { return (bitcast<u32>(x) - 0x3f400000u) & 0xff800000u; }
fn log_sum(f: f32, e: f32) -> f32 {
    let p = fma(f, fma(f, fma(f, fma(f, -0x1.71e334p-5f, 0x1.acf4aap-4f), -0x1.0d98fp-3f), 0x1.28807ap-3f), -0x1.54ed96p-3f);
    let q = fma(f, fma(f, fma(f, p, 0x1.99699ep-3f), -0x1.00004ap-2f), 0x1.5555a4p-2f);
    let y = fma(f * f, fma(f, q, -0.5f), f);
    return fma(e, 0x1.62ep-1f, fma(e, 0x1.0bfbe8p-15f, y));
}

//@ section log
//@ needs log_parts numbers
// log x, 1 ulp.
fn log_(x: f32) -> f32 {
    let small = x < 0x1p-126f;
    let y = select(x, x * 0x1p24f, small);
    let bits = log_exponent(y);
    let e = f32(bitcast<i32>(bits) >> 23u);
    let value = log_sum(bitcast<f32>(bitcast<u32>(y) - bits) - 1.0f, select(e, e - 24.0f, small));
    if (x > 0.0f) { return select(x, value, x < infinity()); }
    return select(not_a_number(), -infinity(), x == 0.0f);
}

//@ section log1p
//@ needs log
// log(1 + x), 2 ulp: log u + (1 + x - u) / u with u the rounded 1 + x.
fn log1p_(x: f32) -> f32 {
    let u = 1.0f + x;
    if (abs(x) < 0x1p-25f) { return x; }
    if (!(u > 0.0f && u < infinity())) { return log_(u); }
    let rest = select(1.0f - (u - x), x - (u - 1.0f), abs(x) < 1.0f);
    return log_(u) + rest / u;
}

//@ section softplus
//@ needs exp log1p
// log(1 + e^x), 2 ulp.
fn softplus_(x: f32) -> f32 { return max(0.0f, x) + log1p_(exp_(-abs(x))); }

//@ section sin_cos
// sin(x + quarter pi/2), absolute error 2e-7 for |x| <= 8192; the device's own sine beyond.
fn sin_of(x: f32, quarter: i32) -> f32 {
    if (abs(x) > 8192.0f) { return sin(x + f32(quarter) * 0x1.921fb6p0f); }
    let n = round(x * 0x1.45f306p-1f);
    let r = fma(n, -0x1.4442d2p-24f, fma(n, -0x1.fb4p-12f, fma(n, -0x1.92p0f, x)));
    let u = r * r;
    let k = bitcast<u32>(i32(n) + quarter);
    let sine = fma(r * u, fma(u, fma(u, -0x1.9952f8p-13f, 0x1.110776p-7f), -0x1.555546p-3f), r);
    let c = fma(u, fma(u, 0x1.99e80cp-16f, -0x1.6c0c28p-10f), 0x1.55554ap-5f);
    let cosine = fma(u * u, c, fma(u, -0.5f, 1.0f));
    return bitcast<f32>(bitcast<u32>(select(cosine, sine, (k & 1u) == 0u)) ^ ((k & 2u) << 30u));
}

//@ section sin
//@ needs sin_cos
fn sin_(x: f32) -> f32 { return sin_of(x, 0); }

//@ section cos
//@ needs sin_cos
fn cos_(x: f32) -> f32 { return sin_of(x, 1); }

//@ section pow
//@ needs exp2 log numbers sign
// a^b with C99's special cases; relative error 3e-7 (1 + |b log a|), none where b is 0, 1 or 2.
fn pow_(a: f32, b: f32) -> f32 {
    if (b == 0.0f || a == 1.0f) { return 1.0f; }
    if (b == 1.0f) { return a; }
    if (b == 2.0f) { return a * a; }
    let size = exp2_(b * (log_(abs(a)) * 0x1.715476p0f));
    if (trunc(b) == b) { return with_sign(size, select(a, 1.0f, trunc(0.5f * b) * 2.0f == b)); }
    return select(size, not_a_number(), a < 0.0f);
}
