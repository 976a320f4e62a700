"""The C++ fragments of runtime_c: what vector operations, maths, checks of weights and the file mapping promise."""

from __future__ import annotations

import ctypes
import hashlib
import math
import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import processes
import pytest
from conftest import ROOT, requires_tool, skip_or_fail

from dlpack.amalgamate.fingerprint import fingerprint
from dlpack.amalgamate.runtime import Section, closure, sections
from dlpack.runtime_c import RUNTIME_FILES

FILES = ["vectors.h", "maths.h", "winograd.h", "cpu.h", "sha256.h", "fingerprint.h", "files.h"]
STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
WIDTHS = {1: "float", 4: "f32x4", 8: "f32x8", 16: "f32x16"}
ZIG = [sys.executable, "-m", "ziglang", "cc", "-x", "c++"]

Array = np.ndarray

# function: (its bound in ulp, its value in double). The bounds are those of the comments in maths.h.
FLOAT_FUNCTIONS: dict[str, tuple[float, Callable[[Array], Array]]] = {
    "abs": (0, np.abs),
    "floor": (0, np.floor),
    "ceil": (0, np.ceil),
    "round": (0, np.rint),
    "trunc": (0, np.trunc),
    "sqrt": (0.5, np.sqrt),
    "rsqrt": (1.5, lambda x: 1 / np.sqrt(x)),
    "exp": (1.2, np.exp),
    "exp2": (1.2, np.exp2),
    "expm1": (1.5, np.expm1),
    "sigmoid": (2, lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))),
    "tanh": (1.8, np.tanh),
    "erf": (1.6, lambda x: np.array([math.erf(v) for v in x])),
    "log": (1, np.log),
    "log2": (2.7, np.log2),
    "log1p": (1.3, np.log1p),
    "softplus": (1.9, lambda x: np.logaddexp(0.0, x)),
    "sin": (1.6, lambda x: np.array([math.sin(v) if math.isfinite(v) else math.nan for v in x])),
    "cos": (1.6, lambda x: np.array([math.cos(v) if math.isfinite(v) else math.nan for v in x])),
    "tan": (0.6, lambda x: np.array([math.tan(v) if math.isfinite(v) else math.nan for v in x])),
    "asin": (2.4, np.arcsin),
    "acos": (1.2, np.arccos),
    "atan": (1.5, np.arctan),
    "sinh": (2.5, np.sinh),
    "cosh": (1.6, np.cosh),
    "asinh": (2, np.arcsinh),
    "acosh": (2, np.arccosh),
    "atanh": (2.1, np.arctanh),
}
EXACT_FOR_DOUBLE = {"abs", "floor", "ceil", "round", "trunc", "sqrt", "rsqrt"}  # one section for both types

SPECIAL = np.array([
    0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3, -3, 0.1, -0.1, 0.6, 1e-3, 7, 8.5, 88, 88.7, 88.73, 89,
    -87.3, -87.4, -103.9, -104, -110, 127.5, 128, -126, -149, -149.5, -150.5, 16777216, 8388608.5, 4194304.5, 1e10,
    1e-38, 1e-40, -1e-40, 1.4e-45, -1.4e-45, 3.4e38, -3.4e38, 1e5, -1e5, 1e7, 1.5707964, 3.1415927, 6.2831855,
    np.inf, -np.inf, np.nan,
], dtype=np.float32)  # fmt: skip


def paste(*wanted: str) -> str:
    """The sections and what they need, as an emitted file has them."""
    everything = sections([(ROOT / "runtime_c" / f).read_text() for f in RUNTIME_FILES])
    parts = closure(everything, ["vectors", *wanted])
    file_scope = [s.text for s in parts if s.scope == "file"]
    inner = [s.text for s in parts if s.scope != "file"]
    return "\n\n".join(
        ["#include <stddef.h>\n#include <stdint.h>", *file_scope, "namespace {", *inner, "}  // namespace\n"]
    )


def all_sections() -> dict[str, Section]:
    return sections([(ROOT / "runtime_c" / f).read_text() for f in FILES])


def everywhere() -> list[str]:
    """The names of those that every machine may have: compilers know _Float16 for some processors alone."""
    return [name for name in all_sections() if "f16" not in name]


def driver() -> str:
    """C functions over arrays for every function of the fragments."""
    out = [paste(*everywhere()), '#define EXPORT extern "C" __attribute__((visibility("default")))']
    for f in FLOAT_FUNCTIONS:
        for lanes, v in WIDTHS.items():
            out += [
                f"EXPORT void {f}_{lanes}(float* y, const float* x, int n);\n"
                f"void {f}_{lanes}(float* y, const float* x, int n) {{\n"
                f"  for (int i = 0; i < n; i += {lanes}) store(y + i, {f}_(load<{v}>(x + i)));\n}}"
            ]
        out += [
            f"EXPORT void {f}_f64(double* y, const double* x, int n);\n"
            f"void {f}_f64(double* y, const double* x, int n) {{ for (int i = 0; i < n; i++) y[i] = {f}_(x[i]); }}"
        ]
    for lanes, v in WIDTHS.items():
        out += [
            f"EXPORT void erf_plus_one_{lanes}(float* y, const float* x, int n);\n"
            f"void erf_plus_one_{lanes}(float* y, const float* x, int n) {{\n"
            f"  for (int i = 0; i < n; i += {lanes}) store(y + i, erf_plus_one_(load<{v}>(x + i)));\n}}"
        ]
    for f in ("pow", "fmod", "min", "max"):
        for lanes, v in [*WIDTHS.items(), (0, "double")]:
            t = "double" if lanes == 0 else "float"
            name = f"{f}_{lanes or 'f64'}"
            out += [
                f"EXPORT void {name}({t}* y, const {t}* a, const {t}* b, int n);\n"
                f"void {name}({t}* y, const {t}* a, const {t}* b, int n) {{\n"
                f"  for (int i = 0; i < n; i += {lanes or 1}) {{\n"
                f"    store(y + i, {f}_(load<{v}>(a + i), load<{v}>(b + i)));\n  }}\n}}"
            ]
    for v, t in VECTORS.items():
        lanes = int(v.split("x")[1])
        out += [
            f"EXPORT void partial_{v}({t}* y, const {t}* x, int count, int n);\n"
            f"void partial_{v}({t}* y, const {t}* x, int count, int n) {{\n"
            f"  store(y, load_partial<{v}>(x, count));\n  store_partial(y + {lanes}, load<{v}>(x), n);\n}}",
            f"EXPORT void reduce_{v}({t}* y, const {t}* x);\n"
            f"void reduce_{v}({t}* y, const {t}* x) {{\n  const {v} a = load<{v}>(x);\n"
            f"  y[0] = hsum(a), y[1] = hprod(a), y[2] = hmax(a), y[3] = hmin(a);\n"
            f"  store(y + 4, splat<{v}>(x[1]));\n  store(y + 4 + {lanes}, join(high(a), low(a)));\n"
            f"  store(y + 4 + 2 * {lanes}, select(a > splat<{v}>(x[0]), a, {v}{{}}));\n}}",
        ]
    out += [
        """
EXPORT void convert_all(float* y, uint8_t* q, const uint8_t* x, const float* z);
void convert_all(float* y, uint8_t* q, const uint8_t* x, const float* z) {
  store(y, convert<f32x8>(load<u8x8>(x)));
  store(y + 8, convert<f32x8>(bits_as<i8x8>(load<u8x8>(x))));
  store(q, convert<u8x8>(load<f32x8>(z)));
  store(y + 16, convert<f32x8>(convert<f64x8>(load<f32x8>(z))));
}
EXPORT void winograd(size_t edge, size_t window, float* u, const float* w, size_t i, size_t o, size_t c, size_t r);
void winograd(size_t edge, size_t window, float* u, const float* w, size_t i, size_t o, size_t c, size_t r) {
  if (edge == 4) winograd_weights<4, 8>(u, w, i, o, c, r, winograd_3x3());
  if (edge == 6 && window == 3) winograd_weights<6, 8>(u, w, i, o, c, r, winograd_3x3());
  if (edge == 8 && window == 3) winograd_weights<8, 8>(u, w, i, o, c, r, winograd_3x3());
  if (edge == 6 && window == 5) winograd_weights<6, 8>(u, w, i, o, c, r, winograd_5x5());
  if (edge == 8 && window == 5) winograd_weights<8, 8>(u, w, i, o, c, r, winograd_5x5());
}
EXPORT void digest(const uint8_t* data, size_t n, uint8_t* out);
void digest(const uint8_t* data, size_t n, uint8_t* out) { sha256(data, n, out); }
EXPORT void blocks(uint32_t state[8], const uint8_t* data, size_t n);
void blocks(uint32_t state[8], const uint8_t* data, size_t n) { sha256_blocks(state, data, n); }
EXPORT void blocks_portable(uint32_t state[8], const uint8_t* data, size_t n);
void blocks_portable(uint32_t state[8], const uint8_t* data, size_t n) { sha256_blocks_portable(state, data, n); }
EXPORT void mark(const uint8_t* data, size_t n, uint8_t* out);
void mark(const uint8_t* data, size_t n, uint8_t* out) { fingerprint(data, n, out); }
EXPORT int read_file(const char* path, uint8_t* out, size_t* size);
int read_file(const char* path, uint8_t* out, size_t* size) {
  mapped_file file;
  const bool mapped = map_file(path, &file);
  *size = file.size;
  for (size_t i = 0; i < file.size; i++) out[i] = file.data[i];
  unmap_file(&file);
  return file.data == nullptr ? mapped : -1;
}
"""
    ]
    return "\n".join(out).replace("@NAME@", "DRIVER")


VECTORS = {"f32x2": "float", "f32x4": "float", "f32x8": "float", "f32x16": "float", "f64x4": "double"}
VECTORS |= {"i32x4": "int32_t", "i32x16": "int32_t", "u8x16": "uint8_t", "i64x8": "int64_t"}
DTYPES = {"float": np.float32, "double": np.float64, "int32_t": np.int32, "uint8_t": np.uint8, "int64_t": np.int64}


def first_compiler() -> list[str]:
    if processes.run([sys.executable, "-c", "import ziglang"]).returncode == 0:
        return ZIG
    return [next((c for c in ("g++", "clang++") if shutil.which(c)), requires_tool("g++"))]


@pytest.fixture(scope="module", params=["native", "baseline"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The driver, compiled for this machine, and for the least of its kind (on x86: no FMA, no SSE4.1)."""
    folder = tmp_path_factory.mktemp("runtime_c")
    (folder / "driver.cc").write_text(driver())
    compiler = first_compiler()
    others = ["-march=native"] if request.param == "native" else []
    flags = [f"-mcpu={request.param}"] if compiler == ZIG else others
    command = [*compiler, "-std=c++17", "-O2", "-g0", "-shared", "-fPIC", "-DHOSTED_FILES", *flags, "driver.cc"]
    run([*command, "-o", "driver.so"], folder)
    return ctypes.CDLL(str(folder / "driver.so"))


def run(command: list[str], folder: Path) -> str:
    """What the command prints; fails if the command does."""
    done = processes.run(command, cwd=folder)
    assert done.returncode == 0, " ".join(command) + "\n" + done.stderr[:4000]
    return done.stdout


def call(function: Callable[..., None], *arrays: Array) -> Array:
    """The function's output array for input arrays of one length and type."""
    y = np.empty_like(arrays[0])
    function(*(a.ctypes.data_as(ctypes.c_void_p) for a in (y, *arrays)), len(y))
    return y


def floats() -> Array:
    """Special values, floats of every exponent and sign, dense ones about zero; a multiple of 16 of them."""
    spread = np.arange(0, 2**32, 140_009, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([SPECIAL, spread, np.linspace(-12, 12, 20_000, dtype=np.float32)])
    return np.concatenate([x, np.zeros(-len(x) % 16, np.float32)])


def check(x: Array, y: Array, want: Array, ulps: float) -> None:
    """y is within so many units in the last place of want; NaN, infinity and signed zero are as wanted."""
    info = np.finfo(y.dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(y.dtype)
        exponent = np.maximum(np.frexp(want.astype(np.float64))[1] - 1, info.minexp)
        error = np.abs(y.astype(want.dtype) - want) / np.ldexp(1.0, exponent - info.nmant)
    finite = np.isfinite(rounded)
    overflow = np.isinf(y) & ~np.isnan(want) & (np.abs(want) > 0.9999999 * info.max) & (np.sign(y) == np.sign(want))
    same = (y == rounded) & (np.signbit(y) == np.signbit(rounded)) | (np.isnan(y) & np.isnan(rounded))
    ok = np.where(finite & (want != 0), error <= ulps, same) | overflow
    wrong = np.flatnonzero(~ok)
    assert len(wrong) == 0, [(x[i].item(), y[i].item(), want[i].item(), error[i].item()) for i in wrong[:5]]


@pytest.mark.parametrize("name", FLOAT_FUNCTIONS)
def test_float_functions_keep_their_bounds_in_every_width(library: ctypes.CDLL, name: str) -> None:
    ulps, reference = FLOAT_FUNCTIONS[name]
    x = floats()
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
    for lanes in WIDTHS:
        check(x, call(library[f"{name}_{lanes}"], x), want, ulps)


@pytest.mark.parametrize("name", FLOAT_FUNCTIONS)
def test_double_functions_have_twelve_digits(library: ctypes.CDLL, name: str) -> None:
    _, reference = FLOAT_FUNCTIONS[name]
    limit = 2.0**20 if name in ("sin", "cos", "tan") else 1e300
    x = np.concatenate([SPECIAL.astype(np.float64), np.linspace(-750, 750, 5000), np.linspace(-3, 3, 5000)])
    x = np.concatenate([x, np.geomspace(1e-300, limit, 3000), -np.geomspace(1e-300, limit, 3000)])
    x = x[(np.abs(x) <= limit) | ~np.isfinite(x)] if limit < 1e300 else x
    with np.errstate(all="ignore"):
        want = reference(x)
    y = call(library[f"{name}_f64"], x)
    if name in EXACT_FOR_DOUBLE:
        check(x, y, want, 1.5)
        return
    same = (y == want) & (np.signbit(y) == np.signbit(want)) | (np.isnan(y) & np.isnan(want))
    if limit < 1e300:  # near their zeros the error is absolute: the reference has it too
        same |= np.abs(y - want) <= 1e-12
    with np.errstate(all="ignore"):
        near = np.abs(y - want) <= 1e-12 * np.abs(want) + 5e-324
    wrong = np.flatnonzero(~(same | near))
    assert len(wrong) == 0, [(x[i], y[i], want[i]) for i in wrong[:5]]


def pairs(dtype: type) -> tuple[Array, Array]:
    a, b = (v.ravel().astype(dtype) for v in np.meshgrid(SPECIAL, SPECIAL))
    rng = np.random.default_rng(1)
    a = np.concatenate([a, rng.uniform(-30, 30, 20_000).astype(dtype), rng.uniform(0, 3, 20_000).astype(dtype)])
    b = np.concatenate([b, rng.integers(-20, 20, 20_000).astype(dtype), rng.uniform(-99, 99, 20_000).astype(dtype)])
    n = len(a) // 16 * 16
    return np.ascontiguousarray(a[:n]), np.ascontiguousarray(b[:n])


def test_pow_fmod_min_and_max_of_floats(library: ctypes.CDLL) -> None:
    a, b = pairs(np.float32)
    with np.errstate(all="ignore"):
        power, rest = np.power(a.astype(np.float64), b.astype(np.float64)), np.fmod(a, b)
        least, largest = np.minimum(a, b), np.maximum(a, b)
    for lanes in WIDTHS:
        check(a, call(library[f"pow_{lanes}"], a, b), power, 0.6)
        check(a, call(library[f"fmod_{lanes}"], a, b), rest, 0)
        np.testing.assert_array_equal(call(library[f"min_{lanes}"], a, b), least)
        np.testing.assert_array_equal(call(library[f"max_{lanes}"], a, b), largest)


def test_pow_and_fmod_of_doubles(library: ctypes.CDLL) -> None:
    a, b = pairs(np.float64)
    with np.errstate(all="ignore"):
        power, rest = np.power(a, b), np.fmod(a, b)
        y = call(library["pow_f64"], a, b)
    check(a, call(library["fmod_f64"], a, b), rest, 0)
    np.testing.assert_allclose(y, power, rtol=1e-12, atol=5e-324)
    np.testing.assert_array_equal(np.signbit(y) & ~np.isnan(y), np.signbit(power) & ~np.isnan(power))


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(library: ctypes.CDLL, vector: str) -> None:
    lanes, dtype = int(vector.split("x")[1]), DTYPES[VECTORS[vector]]
    x = np.arange(3, 3 + lanes).astype(dtype)
    for n in range(-1, lanes + 2):
        got = min(max(n, 0), lanes)
        y = np.full(3 * lanes, 77, dtype)
        source = np.ascontiguousarray(x[: max(got, 1)])
        library[f"partial_{vector}"](
            y.ctypes.data_as(ctypes.c_void_p), np.concatenate([source, x[got:]]).ctypes.data_as(ctypes.c_void_p), n, n
        )
        np.testing.assert_array_equal(y[:lanes], np.where(np.arange(lanes) < got, x, 0))
        np.testing.assert_array_equal(y[lanes : lanes + got], x[:got])
        assert (y[lanes + got :] == 77).all()
    x[1:] = x[1:] % 3 + 1
    x[0] = 2
    y = np.empty(4 + 3 * lanes, dtype)
    library[f"reduce_{vector}"](y.ctypes.data_as(ctypes.c_void_p), x.ctypes.data_as(ctypes.c_void_p))
    assert y[:4].tolist() == [x.sum(dtype=dtype), x.prod(dtype=dtype), x.max(), x.min()]
    np.testing.assert_array_equal(y[4 : 4 + lanes], np.full(lanes, x[1]))
    np.testing.assert_array_equal(y[4 + lanes : 4 + 2 * lanes], np.concatenate([x[lanes // 2 :], x[: lanes // 2]]))
    np.testing.assert_array_equal(y[4 + 2 * lanes :], np.where(x > 2, x, 0))


def test_conversions(library: ctypes.CDLL) -> None:
    x = np.array([0, 1, 2, 127, 128, 200, 254, 255], np.uint8)
    z = np.array([0, 0.9, 1.5, 127.9, 128, 200, 254.5, 255], np.float32)
    y, q = np.empty(24, np.float32), np.empty(8, np.uint8)
    library.convert_all(*(a.ctypes.data_as(ctypes.c_void_p) for a in (y, q, x, z)))
    np.testing.assert_array_equal(y, np.concatenate([x, x.view(np.int8), z]).astype(np.float32))
    np.testing.assert_array_equal(q, z.astype(np.uint8))


@pytest.mark.parametrize(("edge", "window"), [(4, 3), (6, 3), (8, 3), (6, 5), (8, 5)])
@pytest.mark.parametrize(("outputs", "columns", "room"), [(24, 24, 24), (37, 24, 24), (5, 12, 16), (16, 8, 8)])
def test_winograd_weights(library: ctypes.CDLL, edge: int, window: int, outputs: int, columns: int, room: int) -> None:
    """G w G^T, in blocks of columns, to 4 ulp of its largest element; zeros where a block is not filled."""
    inputs, blocks = 3, -(-outputs // columns)
    w = np.random.default_rng(outputs).standard_normal((window, window, inputs, outputs)).astype(np.float32)
    zero, *factors = {4: (1, 1 / 2), 6: (1 / 4, -1 / 6, 1 / 24), 8: (1, -2 / 9, 1 / 90, 1 / 45)}[edge]
    points = [(zero, 0.0), *((f, s * p) for f, p in zip(factors, (1, 2, 1 / 2), strict=False) for s in (1, -1))]
    g = np.array([[f * p**k for k in range(window)] for f, p in points] + [[0] * (window - 1) + [1]])
    full = np.zeros((edge, edge, inputs, blocks * columns))
    full[..., :outputs] = np.einsum("iy,jx,yxco->ijco", g, g, w.astype(np.float64))
    want = np.zeros((edge, edge, blocks, inputs, room))
    want[..., :columns] = full.reshape(edge, edge, inputs, blocks, columns).transpose(0, 1, 3, 2, 4)
    u = np.full(want.shape, np.nan, np.float32)
    tile, sizes = ([ctypes.c_size_t(n) for n in ns] for ns in ((edge, window), (inputs, outputs, columns, room)))
    library.winograd(*tile, *(a.ctypes.data_as(ctypes.c_void_p) for a in (u, w)), *sizes)
    assert np.abs(u - want).max() <= 4 * np.spacing(np.float32(np.abs(want).max()))
    assert not u[want == 0].any()


def test_erf_plus_one(library: ctypes.CDLL) -> None:
    """The error is absolute; far negative numbers, infinities and NaN are right too."""
    x = np.concatenate([np.linspace(-9, 9, 100_001), [-np.inf, np.inf, np.nan, -0.0, 0, 3e38, -3e38, 1e-40]])
    x = np.resize(x, -(-x.size // 16) * 16).astype(np.float32)
    want = np.array([1 + math.erf(v) for v in x])
    for lanes in WIDTHS:
        y = call(library[f"erf_plus_one_{lanes}"], x)
        finite = np.isfinite(want)
        assert not y[x < -4.2].any()  # Gelu multiplies by x
        assert np.abs(y - want)[finite].max() <= 1.3e-7
        assert np.isnan(y[~finite]).all()


def test_sha256(library: ctypes.CDLL) -> None:
    data = np.random.default_rng(2).bytes(1_000_003)
    library.digest.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
    for n in [*range(200), 1_000_003]:
        out = ctypes.create_string_buffer(32)
        library.digest(data[:n], n, out)
        assert out.raw == hashlib.sha256(data[:n]).digest(), n


def test_sha256_with_instructions_and_without(library: ctypes.CDLL) -> None:
    data = np.random.default_rng(3).bytes(64 * 50)
    states = []
    for blocks in (library.blocks, library.blocks_portable):
        state = (ctypes.c_uint32 * 8)(*range(8))
        blocks(state, data, ctypes.c_size_t(50))
        states.append(list(state))
    assert states[0] == states[1]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86's SHA instructions")
@pytest.mark.parametrize("flags", [["-march=x86-64-v3"], ["-march=x86-64-v4"]], ids=["v3", "v4"])
def test_sha256_leaves_the_upper_halves_of_registers_alone(flags: list[str], tmp_path: Path) -> None:
    """Intel's CPUs run SHA instructions 20 times slower while the upper half of a vector register is in use."""
    (tmp_path / "driver.cc").write_text(driver())
    run([requires_tool("g++"), "-std=c++17", "-O2", "-c", *flags, "driver.cc", "-o", "driver.o"], tmp_path)
    listing = run(["objdump", "-d", "--no-show-raw-insn", "driver.o"], tmp_path)
    code = next(part for part in listing.split("\n\n") if "sha256_blocks_x86" in part.splitlines()[0])
    instructions = code.split("\n", 1)[1]
    assert "vzeroupper" in instructions[: instructions.index("sha256rnds2")]
    assert not re.search(r"%[yz]mm", code)


def test_fingerprint(library: ctypes.CDLL) -> None:
    data = np.random.default_rng(4).bytes(131372)
    out = ctypes.create_string_buffer(32)
    for n in [*range(20), 255, 256, 257, 65535, 65536, 65537, 65792, len(data)]:
        library.mark(data[:n], ctypes.c_size_t(n), out)
        assert out.raw == fingerprint(data[:n]), n


@pytest.mark.skipif(sys.platform == "win32", reason="files are mapped on POSIX systems only")
def test_files(library: ctypes.CDLL, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"0123456789")
    (tmp_path / "empty").write_bytes(b"")
    out, size = ctypes.create_string_buffer(10), ctypes.c_size_t()
    for name, mapped, content in [("weights", 1, b"0123456789"), ("empty", 1, b""), ("absent", 0, b""), ("", 0, b"")]:
        assert library.read_file(str(tmp_path / name).encode(), out, ctypes.byref(size)) == mapped, name
        assert out.raw[: size.value] == content


def test_every_section_needs_only_earlier_ones_and_compiles_with_them_alone(tmp_path: Path) -> None:
    everything = all_sections()
    order = [*everything]
    assert all(order.index(n) < order.index(s.name) for s in everything.values() for n in s.needs)
    alone = ["#include <stddef.h>\n#include <stdint.h>", *(s.text for s in everything.values() if s.scope == "file")]
    for s in everything.values():
        inner = [p.text for p in closure(everything, ["vectors", s.name]) if p.scope != "file"]
        function = re.search(rf"\b{s.name.removesuffix('_f64')}_\((?:V|double) x\)", "\n".join(inner))
        value = "double" if s.name.endswith("_f64") else "float"
        use = f"{value} use({value} x);\n{value} use({value} x) {{ return {s.name.removesuffix('_f64')}_(x); }}"
        alone += [f"namespace alone_{s.name} {{\nnamespace {{", *inner, "}", use if function else "", "}"]
    (tmp_path / "alone.cc").write_text("\n".join(alone))
    run([*first_compiler(), "-std=c++17", "-O1", "-g0", *STRICT, "-c", "-o", "o", "alone.cc"], tmp_path)


@pytest.mark.parametrize("standard", ["c++17", "c++20"])
@pytest.mark.parametrize("compiler", ["ziglang", "g++", "clang++"])
def test_no_warnings(compiler: str, standard: str, tmp_path: Path) -> None:
    found = first_compiler() if compiler == "ziglang" else [requires_tool(compiler)]
    hosted = ["-DHOSTED_FILES"] if standard == "c++20" else []
    # The driver has vectors of all widths, and GCC warns of those for which the machine has no registers.
    native = ["-march=native", "-Wno-psabi"] if compiler == "g++" else []
    (tmp_path / "driver.cc").write_text(driver())
    run([*found, f"-std={standard}", "-O2", *STRICT, *native, *hosted, "-c", "-o", "o", "driver.cc"], tmp_path)


@pytest.mark.parametrize(
    "target",
    [
        ["-target", "aarch64-linux-gnu.2.23"],
        ["-target", "arm-linux-gnueabihf"],
        ["-target", "wasm32-freestanding", "-mcpu=generic+simd128+relaxed_simd+bulk_memory"],
        ["-target", "wasm32-freestanding", "-mcpu=generic+simd128+relaxed_simd+bulk_memory", "-DDRIVER_DOTS"],
        ["-target", "wasm32-freestanding", "-mcpu=generic+simd128+bulk_memory"],
    ],
    ids=lambda t: "-".join(t[1:]),
)
def test_other_machines(target: list[str], tmp_path: Path) -> None:
    if first_compiler() != ZIG:
        skip_or_fail("ziglang is not installed")
    (tmp_path / "driver.cc").write_text(driver())
    command = [*ZIG, "-std=c++17", "-O2", "-g0", *STRICT, *target]
    if "wasm32-freestanding" in target:  # linking shows that no libm and no libc is called
        run([*command, "-nostdlib", "-Wl,--no-entry", "-Wl,--export-dynamic", "-o", "o.wasm", "driver.cc"], tmp_path)
    else:
        run([*command, "-c", "-o", "o", "driver.cc"], tmp_path)


SANITIZE = ["-fsanitize=undefined,address", "-fno-sanitize-recover=all"]


def sanitizing_compiler(folder: Path) -> str:
    (folder / "empty.cc").write_text("int main() {}\n")
    for name in ("clang++", "g++"):
        if shutil.which(name):
            command = [name, *SANITIZE, "empty.cc", "-o", "empty"]
            if processes.run(command, cwd=folder).returncode == 0:
                return name
    skip_or_fail("no compiler has the sanitizers' libraries")


def test_no_undefined_behaviour_and_no_access_outside(tmp_path: Path) -> None:
    """All functions at all special values, and partial loads and stores at the end of arrays, under UBSan and ASan."""
    compiler = sanitizing_compiler(tmp_path)
    values = '__builtin_nanf(""), __builtin_inff(), -__builtin_inff(), '
    values += ", ".join(v.hex() + "f" for v in SPECIAL.tolist() if math.isfinite(v))
    calls = "\n".join(
        f"  for (const float v : values) store(y, {f}_(splat<{t}>(v))), sink += y[0];\n"
        f"  for (const float v : values) sink += {f}_(double(v));"
        for f in FLOAT_FUNCTIONS
        for t in ("float", "f32x4", "f32x16")
    )
    both = "\n".join(
        f"  for (const float v : values) for (const float w : values) {{\n"
        f"    store(y, {f}_(splat<f32x4>(v), splat<f32x4>(w)));\n"
        f"    sink += y[0] + {f}_(v, w) + {f}_(double(v), double(w));\n  }}"
        for f in ("pow", "fmod")
    )
    partial = "\n".join(
        f"  for (int n = 0; n <= {v.split('x')[1]}; n++) {{\n"
        f"    {t}* const a = new {t}[n]();\n    store_partial(a, load_partial<{v}>(a, n), n);\n    delete[] a;\n  }}"
        for v, t in VECTORS.items()
    )
    (tmp_path / "main.cc").write_text(
        f"{paste(*everywhere())}\nint main() {{\n  const float values[] = {{{values}}};\n  float y[16];\n"
        f"  double sink = 0;\n{calls}\n{both}\n{partial}\n  return sink == 1;\n}}\n"
    )
    run([compiler, "-std=c++17", "-O1", "-Wno-psabi", *SANITIZE, "main.cc", "-o", "main"], tmp_path)
    run([str(tmp_path / "main")], tmp_path)
