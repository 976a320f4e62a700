"""Programs in C and C++ with emitted files: two models in one, the C++ class, memory, threads, old processors."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import requires_tool
from emitted_files import COMPILERS, MODELS, READ, SANITIZE, Emitted, build_program, run, write_reference

from dlpack.bundle.loader import read_manifest
from dlpack.pipeline import Options, build


def test_two_models_link_into_one_program(tmp_path: Path, emitted: Callable[[str], Emitted]) -> None:
    """Two models and their classes side by side; each gives what onnxruntime gives."""
    models = [emitted("digits"), emitted("attention_net")]
    for e in models:
        write_reference(e, tmp_path)
    includes = "".join(f'#include "{e.name}.h"\n' for e in models)
    checks = "".join(
        f"""\
  {{
    const std::vector<float> in = read("{e.name}.in"), out = read("{e.name}.out");
    {e.name}::Predictor p;
    if (!p || p.status() != {e.macro}_OK) return 1;
    if (p.set_input(0, in.data(), in.size() * sizeof(float)) != {e.macro}_OK) return 2;
    if (p.run() != {e.macro}_OK || !near(p.output<float>(0), out)) return 3;
  }}
"""
        for e in models
    )
    program = build_program(tmp_path, f"{includes}{READ}int main() {{\n{checks}  return 0;\n}}\n", models)
    run(program, cwd=tmp_path)


def test_the_cxx_class_owns_and_moves(tmp_path: Path, emitted: Callable[[str], Emitted]) -> None:
    """Moved from, a predictor is false and every call on it an error; none is freed twice (under ASan)."""
    e = emitted("digits")
    write_reference(e, tmp_path)
    code = f"""\
#include <type_traits>
#include <utility>
#include "digits.h"
{READ}
using digits::Predictor;
static_assert(!std::is_copy_constructible<Predictor>::value, "");
static_assert(!std::is_copy_assignable<Predictor>::value, "");
static_assert(std::is_nothrow_move_constructible<Predictor>::value, "");
static_assert(std::is_nothrow_move_assignable<Predictor>::value, "");
int main() {{
  const std::vector<float> in = read("digits.in"), out = read("digits.out");
  const size_t bytes = in.size() * sizeof(float);
  std::vector<float> mine(out.size());
  Predictor a;
  if (!a || a.bind_input(0, in.data(), bytes) != DIGITS_OK) return 1;
  if (a.bind_output(0, mine.data(), mine.size() * sizeof(float)) != DIGITS_OK) return 2;
  Predictor b(std::move(a));
  if (a || !b || a.get() != nullptr || a.run() != DIGITS_BAD_ARGUMENT || a.output<float>(0) != nullptr) return 3;
  if (b.run() != DIGITS_OK || !near(mine.data(), out) || b.output<float>(0) != mine.data()) return 4;
  Predictor c;
  c = std::move(b);
  if (!c || c.run() != DIGITS_OK || c.output<float>(0) != mine.data()) return 5;
  Predictor& same = c;
  c = std::move(same);
  if (!c || c.run() != DIGITS_OK) return 6;
  const Predictor none("no such file");
  if (none || none.status() != DIGITS_NO_FILE) return 7;
  const Predictor wrong(in.data(), bytes);
  if (wrong || wrong.status() != DIGITS_BAD_WEIGHTS) return 8;
  return 0;
}}
"""
    run(build_program(tmp_path, code, [e], SANITIZE), cwd=tmp_path)


def test_predictors_share_what_is_computed_from_the_weights(tmp_path: Path, emitted: Callable[[str], Emitted]) -> None:
    """Winograd's weights are stored as they were, transformed once, and shared; under ASan."""
    e = emitted("winograd_net")
    m = read_manifest(e.folder)
    assert m["prepared_bytes"] > 3.9 * m["weights_bytes"] > 0
    write_reference(e, tmp_path)
    code = f"""\
#include "winograd_net.h"
{READ}
int main() {{
  const std::vector<float> in = read("winograd_net.in"), out = read("winograd_net.out");
  const size_t bytes = in.size() * sizeof(float), shared = winograd_net_shared_memory_size();
  if (winograd_net_memory_size() - shared != {m["prepared_bytes"]}) return 1;
  winograd_net::Predictor a;
  winograd_net_predictor* none = nullptr;
  if (winograd_net_create_shared(&none, nullptr, 0, nullptr) != WINOGRAD_NET_BAD_ARGUMENT || none != nullptr) return 2;
  std::vector<char> memory(shared);
  if (winograd_net_create_shared(&none, memory.data(), shared - 1, a.get()) != WINOGRAD_NET_NO_MEMORY) return 3;
  for (int round = 0; round < 2; ++round) {{
    winograd_net::Predictor b = a.share(), c = b.share();
    for (winograd_net::Predictor* p : {{&c, &a, &b}}) {{
      if (p->set_input(0, in.data(), bytes) != WINOGRAD_NET_OK || p->run() != WINOGRAD_NET_OK) return 4;
      if (!near(p->output<float>(0), out)) return 5;
    }}
    if (a.output<float>(0) == b.output<float>(0)) return 6;
  }}
  return 0;
}}
"""
    run(build_program(tmp_path, code, [e], SANITIZE), cwd=tmp_path)


def test_weights_may_come_piece_by_piece(tmp_path: Path, model_files: dict[str, Path]) -> None:
    """What hangs on weights is computed as they come, from those that are there; no run before the last; under ASan."""
    folder = build(model_files["winograd_net"], tmp_path / "net", Options(weights="file"))
    m = read_manifest(folder)
    e = Emitted(m["name"], folder, folder / m["source"], folder / m["library"], m["name"].upper())
    write_reference(e, tmp_path)
    code = f"""\
#include "winograd_net.h"
#include <string.h>
{READ}
#define EXPECT(status, call) if ((call) != WINOGRAD_NET_##status) return printf("line %d\\n", __LINE__), 1
int main() {{
  const std::vector<float> in = read("winograd_net.in"), out = read("winograd_net.out");
  const std::vector<float> file = read("net/winograd_net.weights");
  const size_t bytes = file.size() * sizeof(float);
  const std::vector<size_t> steps = {{13, bytes / 97, bytes / 2, bytes}};
  for (size_t step : steps) {{
    std::vector<float> weights(file.size(), 1e30f);
    winograd_net_predictor *p = nullptr, *q = nullptr;
    EXPECT(NO_WEIGHTS, winograd_net_create_early(&p, nullptr, 0, nullptr, 0));
    EXPECT(BAD_WEIGHTS, winograd_net_create_early(&p, nullptr, 0, weights.data(), bytes - 4));
    EXPECT(OK, winograd_net_create_early(&p, nullptr, 0, weights.data(), bytes));
    EXPECT(OK, winograd_net_set_input(p, 0, in.data(), in.size() * sizeof(float)));
    for (size_t at = 0, next; at < bytes; at = next) {{
      EXPECT(NO_WEIGHTS, winograd_net_run(p));
      EXPECT(NO_WEIGHTS, winograd_net_run_step(p, 0));
      EXPECT(NO_WEIGHTS, winograd_net_create_shared(&q, nullptr, 0, p));
      next = at + step < bytes ? at + step : bytes;
      memcpy(reinterpret_cast<char*>(weights.data()) + at, reinterpret_cast<const char*>(file.data()) + at, next - at);
      EXPECT(OK, winograd_net_weights_arrived(p, next));
      EXPECT(BAD_ARGUMENT, winograd_net_weights_arrived(p, next - 1));
    }}
    EXPECT(BAD_ARGUMENT, winograd_net_weights_arrived(p, bytes + 1));
    EXPECT(BAD_ARGUMENT, winograd_net_weights_arrived(nullptr, bytes));
    EXPECT(OK, winograd_net_run(p));
    if (!near(static_cast<const float*>(winograd_net_output_data(p, 0)), out)) return 2;
    winograd_net_destroy(p);
  }}
  return 0;
}}
"""
    run(build_program(tmp_path, code, [e], SANITIZE), cwd=tmp_path)


def test_memory_of_the_caller_and_bad_arguments(tmp_path: Path, emitted: Callable[[str], Emitted]) -> None:
    """A predictor in a static, misaligned array, without a C library's malloc; and every wrong call is a status."""
    e = emitted("digits")
    write_reference(e, tmp_path)
    code = f"""\
#include <string.h>
#include "digits.h"
{READ}
#define EXPECT(status, call) if ((call) != DIGITS_##status) return printf("line %d\\n", __LINE__), 1
static unsigned char memory[1 << 16];
int main() {{
  const std::vector<float> in = read("digits.in"), out = read("digits.out");
  const size_t bytes = in.size() * sizeof(float), out_bytes = out.size() * sizeof(float), need = digits_memory_size();
  if (need + 3 > sizeof memory) return 2;
  digits_predictor* p = nullptr;
  EXPECT(BAD_ARGUMENT, digits_create(nullptr, memory, need, nullptr, 0));
  EXPECT(NO_MEMORY, digits_create(&p, memory, need - 1, nullptr, 0));
  EXPECT(NO_MEMORY, digits_create(&p, nullptr, 0, nullptr, 0));
  EXPECT(BAD_WEIGHTS, digits_create(&p, memory, need, in.data(), bytes));
  EXPECT(BAD_ARGUMENT, digits_create(&p, memory, need, memory + 1, digits_weights_size()));
  EXPECT(NO_FILE, digits_create_from_file(&p, "digits.in"));
  if (p != nullptr) return 3;
  memset(memory, 0xff, sizeof memory);
  EXPECT(OK, digits_create(&p, memory + 1, need, nullptr, 0));
  EXPECT(OK, digits_set_input(p, 0, in.data(), bytes));
  EXPECT(OK, digits_run(p));
  std::vector<float> got(out.size());
  EXPECT(OK, digits_get_output(p, 0, got.data(), out_bytes));
  if (!near(got.data(), out) || !near(static_cast<const float*>(digits_output_data(p, 0)), out)) return 4;
  for (size_t i = 0; i < sizeof memory; ++i)
    if ((i < 1 || i >= 1 + need) && memory[i] != 0xff) return 5;
  EXPECT(BAD_ARGUMENT, digits_set_input(p, 0, in.data(), bytes - 1));
  EXPECT(BAD_ARGUMENT, digits_set_input(p, 1, in.data(), bytes));
  EXPECT(BAD_ARGUMENT, digits_set_input(p, -1, in.data(), bytes));
  EXPECT(BAD_ARGUMENT, digits_set_input(p, 0, nullptr, bytes));
  EXPECT(BAD_ARGUMENT, digits_set_input(nullptr, 0, in.data(), bytes));
  EXPECT(BAD_ARGUMENT, digits_bind_input(p, 0, in.data(), bytes + 1));
  EXPECT(BAD_ARGUMENT, digits_bind_input(p, 0, reinterpret_cast<const char*>(in.data()) + 1, bytes));
  EXPECT(BAD_ARGUMENT, digits_bind_output(p, 0, reinterpret_cast<char*>(got.data()) + 1, out_bytes));
  EXPECT(BAD_ARGUMENT, digits_bind_output(p, 1, got.data(), out_bytes));
  EXPECT(BAD_ARGUMENT, digits_get_output(p, 0, got.data(), out_bytes + 1));
  EXPECT(BAD_ARGUMENT, digits_run(nullptr));
  EXPECT(BAD_ARGUMENT, digits_run_step(p, digits_step_count()));
  EXPECT(BAD_ARGUMENT, digits_run_step(p, -1));
  if (digits_input(1) != nullptr || digits_output(-1) != nullptr || digits_step_name(-1) != nullptr) return 6;
  if (digits_output_data(p, 1) != nullptr || digits_output_data(nullptr, 0) != nullptr) return 7;
  if (digits_input_count() != 1 || strcmp(digits_input(0)->name, "image") != 0 || digits_input(0)->rank != 4) return 8;
  if (strcmp(digits_input(0)->dtype, "float32") != 0 || digits_input(0)->bytes != bytes) return 9;
  EXPECT(OK, digits_run(p));
  digits_destroy(p);
  digits_destroy(nullptr);
  for (int s = -1; s < 8; ++s)
    if (digits_error_text(s) == nullptr) return 10;
  return 0;
}}
"""
    program = build_program(tmp_path, code, [e], SANITIZE, ["DIGITS_FREESTANDING"])
    assert run(program, cwd=tmp_path) == ""


def test_nothing_is_allocated_after_create(tmp_path: Path, emitted: Callable[[str], Emitted]) -> None:
    """malloc, calloc, realloc, free and operator new are counted; create makes one block, destroy frees it."""
    models = [emitted(m) for m in MODELS]
    includes = "".join(f'#include "{e.name}.h"\n' for e in models)
    checks = "".join(
        f"""\
  {{
    count = 0;
    {e.name}_predictor* p = nullptr;
    if ({e.name}_create(&p, nullptr, 0, nullptr, 0) != {e.macro}_OK || count != 1) return 1;
    static float buffer[1 << 16];
    if ({e.name}_input(0)->bytes > sizeof buffer || {e.name}_output(0)->bytes > sizeof buffer) return 2;
    count = 0;
    {e.name}_status bad = {e.macro}_OK;
    for (int i = 0; i < 3; ++i) {{
      bad |= {e.name}_set_input(p, 0, buffer, {e.name}_input(0)->bytes);
      bad |= {e.name}_run(p);
      for (int k = 0; k < {e.name}_step_count(); ++k) bad |= {e.name}_run_step(p, k);
      bad |= {e.name}_get_output(p, 0, buffer, {e.name}_output(0)->bytes);
      bad |= {e.name}_bind_input(p, 0, buffer, {e.name}_input(0)->bytes);
      bad |= {e.name}_run(p);
    }}
    if (bad != {e.macro}_OK || count != 0) return 3;
    {e.name}_destroy(p);
    if (count != 1) return 4;
  }}
"""
        for e in models
    )
    code = f"""\
#include <stdlib.h>
#include <new>
{includes}
static int count = 0;
extern "C" {{
void* __real_malloc(size_t);
void* __real_calloc(size_t, size_t);
void* __real_realloc(void*, size_t);
void __real_free(void*);
void* __wrap_malloc(size_t n);
void* __wrap_calloc(size_t n, size_t m);
void* __wrap_realloc(void* p, size_t n);
void __wrap_free(void* p);
void* __wrap_malloc(size_t n) {{ return ++count, __real_malloc(n); }}
void* __wrap_calloc(size_t n, size_t m) {{ return ++count, __real_calloc(n, m); }}
void* __wrap_realloc(void* p, size_t n) {{ return ++count, __real_realloc(p, n); }}
void __wrap_free(void* p) {{ ++count, __real_free(p); }}
}}
void* operator new(size_t n) {{ return ++count, __real_malloc(n); }}
void operator delete(void* p) noexcept {{ __real_free(p); }}
void operator delete(void* p, size_t) noexcept {{ __real_free(p); }}
int main() {{
{checks}  return 0;
}}
"""
    program = build_program(
        tmp_path, code, models, [f"-Wl,{','.join(f'--wrap={f}' for f in ('malloc', 'calloc', 'realloc', 'free'))}"]
    )
    run(program)


@pytest.mark.parametrize("model", MODELS)
def test_eight_threads_with_a_handle_each(tmp_path: Path, emitted: Callable[[str], Emitted], model: str) -> None:
    """Each on inputs of its own, with the same weights; bit for bit what one thread computes."""
    e = emitted(model)
    code = f"""\
#include <string.h>
#include <thread>
#include <vector>
#include "{e.name}.h"
static bool compute(int seed, int rounds, std::vector<float>* out) {{
  {e.name}::Predictor p;
  std::vector<float> in({e.name}_input(0)->bytes / sizeof(float));
  size_t n = static_cast<size_t>(seed) * 11;
  for (float& x : in) x = static_cast<float>((n += 37) % 101) / 101.0f;
  if (!p || p.set_input(0, in.data(), in.size() * sizeof(float)) != {e.macro}_OK) return false;
  out->resize({e.name}_output(0)->bytes / sizeof(float));
  for (int r = 0; r < rounds; ++r) {{
    if (p.run() != {e.macro}_OK) return false;
    if (r > 0 && memcmp(out->data(), p.output<float>(0), {e.name}_output(0)->bytes) != 0) return false;
    memcpy(out->data(), p.output<float>(0), {e.name}_output(0)->bytes);
  }}
  return true;
}}
int main() {{
  std::vector<float> want[8], got[8];
  bool good[8] = {{}};
  for (int k = 0; k < 8; ++k)
    if (!compute(k, 1, &want[k])) return 1;
  std::vector<std::thread> threads;
  for (int k = 0; k < 8; ++k) threads.emplace_back([&, k] {{ good[k] = compute(k, 200, &got[k]); }});
  for (std::thread& t : threads) t.join();
  for (int k = 0; k < 8; ++k)
    if (!good[k] || got[k] != want[k]) return 2;
  return want[0] == want[1] ? 3 : 0;
}}
"""
    run(build_program(tmp_path, code, [e], ["-pthread"]), cwd=tmp_path)


MAIN_ON_AN_OLD_CPU = r"""
#include <stdio.h>
#include "digits.h"
int main(int argc, char** argv) {
  digits_predictor* p = (digits_predictor*)argv;
  const void* weights;
  size_t bytes;
  printf("%d", (int)digits_create_from_file(&p, argv[argc - 1]));
  printf(" %d", p == NULL);
  printf(" %d", (int)digits_map_weights(argv[argc - 1], &weights, &bytes));
  printf(" %d", (int)digits_create_early(&p, NULL, 0, NULL, digits_memory_size() & 0));
  printf(" %d", (int)digits_create_shared(&p, NULL, 0, NULL));
  printf(" %s\n", digits_error_text(digits_create(&p, NULL, 0, NULL, 0)));
  return 0;
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 alone has such levels")
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_a_cpu_that_is_too_old_is_told(tmp_path: Path, side_file_bundle: Path, compiler: str, level: str) -> None:
    """Compiled for one with AVX2, run on others."""
    (tmp_path / "main.c").write_text(MAIN_ON_AN_OLD_CPU)
    qemu = requires_tool("qemu-x86_64")
    run(requires_tool("gcc"), f"-I{side_file_bundle}", "-c", tmp_path / "main.c", "-o", tmp_path / "main.o")
    avx2 = ["-march=x86-64-v3", level, "-Wno-psabi"]
    source, program = side_file_bundle / "digits.cc", tmp_path / "program"
    run(requires_tool(compiler), "-std=c++17", *avx2, "-c", source, "-o", tmp_path / "digits.o")
    run("g++", "-static", tmp_path / "main.o", tmp_path / "digits.o", "-o", program)
    for cpu in ("qemu64", "Nehalem", "max,-fma"):
        told = run(qemu, "-cpu", cpu, program, side_file_bundle / "digits.weights")
        assert told.startswith("6 1 6 6 6 this code was compiled for a CPU with AVX2 and FMA"), cpu
    assert run(qemu, "-cpu", "max", program, side_file_bundle / "digits.weights").startswith("0 0 0 3 1 no weights")


def test_a_program_in_c(tmp_path: Path, emitted: Callable[[str], Emitted]) -> None:
    """The API from C, linked by the C compiler alone: no C++ library is needed."""
    e = emitted("digits")
    (tmp_path / "main.c").write_text(
        """\
#include "digits.h"
int main(void) {
  digits_predictor* p = NULL;
  const float* y;
  if (digits_create(&p, NULL, 0, NULL, 0) != DIGITS_OK || digits_run(p) != DIGITS_OK) return 1;
  y = (const float*)digits_output_data(p, 0);
  if (!(y[0] >= 0.0f && y[0] <= 1.0f)) return 2;
  digits_destroy(p);
  return 0;
}
"""
    )
    shutil.copy(e.source, tmp_path / "digits.cc")
    run(requires_tool("g++"), "-O1", "-march=native", "-c", "digits.cc", cwd=tmp_path)
    run(requires_tool("gcc"), "-std=c99", f"-I{e.folder}", "main.c", "digits.o", "-o", "program", cwd=tmp_path)
    run(tmp_path / "program")
