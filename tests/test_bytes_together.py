"""Integers that are narrowed to bytes together: as each by itself, also where their sums are ties or next to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import run

from dlpack.amalgamate.runtime import closure, sections
from dlpack.loops.bytes_together import bytes_together
from dlpack.loops.index import Linear
from dlpack.loops.ir import Const, Expr, Kernel, Load, Op, Param, Ref, Stmt, Store
from dlpack.runtime_c import read_runtime
from dlpack.targets.toolchains.compiler import zig_command
from dlpack.targets.toolchains.host import cpu_features

PROGRAM = """
typedef vec<float, W> V;
typedef vec<int32_t, W> I;
static V all(float x) { return splat<V>(x); }
static uint32_t state = 1;
static int32_t any_of(int32_t n) { return static_cast<int32_t>((state = state * 1664525u + 1013904223u) >> 8) % n; }
template <class P, class... R> static void compare(float first, float last, float zero, P p, R... rest) {
  constexpr int count = 1 + sizeof...(R);
  const P each[] = {p, rest...};
  const auto got = requantized_bytes_(all(first), all(last), all(zero), p, rest...);
  for (int k = 0; k < count; ++k) {
    const V want = rounded_exactly(each[k], all(first), all(last), all(zero));
    for (int i = 0; i < W; ++i) wrong += got[k * W + i] != static_cast<uint8_t>(static_cast<int>(want[i])), ++compared;
  }
}
template <class P> static void compare_all(P a, P b, P c, P d) {
  static const float ends[][3] = {{0, 255, 0},      {-128, 127, 0}, {-101, 154, 101},
                                  {-28, 127, -100}, {0, 127, 0},    {3, 9, 2}};
  for (const auto& e : ends) {
    compare(e[0], e[1], e[2], a, b, c, d), compare(e[0], e[1], e[2], b, c);
    compare(e[0], e[1], e[2], d);
  }
}
int main() {
  static const double scales[] = {0.5, 0.25, 1.5, 1.0 / 3, 0.1, 0.4999999999, 0.50000000001, 1.0, 2.5e-4, 3.9};
  for (double scale : scales) {
    for (double other : scales) {
      const V high = all(static_cast<float>(scale)), low = all(static_cast<float>(scale - static_cast<float>(scale)));
      const V more = all(static_cast<float>(other)), rest = all(static_cast<float>(other - static_cast<float>(other)));
      for (int round = 0; round < 200; ++round) {
        I x[4];
        V y[4], z[4];
        for (int k = 0; k < 4; ++k)
          for (int i = 0; i < W; ++i)
            x[k][i] = round % 2 ? any_of(4000) - 2000 : any_of(1 << 19) - (1 << 18),
            y[k][i] = static_cast<float>(any_of(256) - 128), z[k][i] = static_cast<float>(any_of(256));
        compare_all(product_of_(x[0], high, low), product_of_(x[1], high, low), product_of_(x[2], high, low),
                    product_of_(x[3], high, low));
        if (scale > 2 || other > 2) continue;
        compare_all(sum_of_(y[0], high, low, z[0], more, rest), sum_of_(y[1], high, low, z[1], more, rest),
                    sum_of_(y[2], high, low, z[2], more, rest), sum_of_(y[3], high, low, z[3], more, rest));
        const auto residual = [&](int k) {
          return sum_of_rounded_(x[k], more, rest, all(-131), all(124), high, low, z[k], more, rest);
        };
        compare_all(residual(0), residual(1), residual(2), residual(3));
      }
    }
  }
  printf("%ld %ld\\n", wrong, compared);
}
"""


@pytest.mark.parametrize(
    ("lanes", "flag", "feature"),
    [
        (8, "-mcpu=x86_64_v3", "avx2"),
        (16, "-mcpu=x86_64_v4", "avx512f"),
        (4, "-mcpu=x86_64", "sse2"),
    ],
    ids=["avx2", "avx512", "one by one"],
)
def test_bytes_are_those_of_arithmetic_in_double(lanes: int, flag: str, feature: str, tmp_path: Path) -> None:
    if feature not in cpu_features():
        pytest.skip(f"this processor has no {feature}")
    known = sections(list(read_runtime().values()))
    text = "\n\n".join(s.text for s in closure(known, {"vectors", "requantized_bytes"}))
    head = "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n"
    head += f"static constexpr int W = {lanes};\nstatic long wrong, compared;\n"
    (tmp_path / "bytes.cc").write_text(head + text + PROGRAM)
    words = [w for w in zig_command("") if w != "-nostdlib++"]
    run([*words, "-O2", "-std=c++17", "-Wno-psabi", flag, "bytes.cc", "-o", "bytes"], cwd=tmp_path, check=True)
    wrong, compared = map(int, run(["./bytes"], cwd=tmp_path, check=True).stdout.split())
    assert wrong == 0 and compared > 1_000_000


ENDS = tuple(Op("float32", 16, "splat", (Const("float32", 1, v),)) for v in (-3.0, 252.0, 3.0))


def stores(count: int, kind: str, ends: tuple[Expr, ...] = ENDS, first: int = 0) -> list[Stmt]:
    made: list[Stmt] = []
    for k in range(first, first + count):
        x, scale = Ref("int32", 16, f"acc{k}"), Load("float32", 16, "s", Linear(16 * k), 16)
        byte = Op("int32", 16, "requantized_byte_", (x, scale, scale, *ends))
        made.append(Store("y", Linear(16 * k), Op(kind, 16, "cast", (byte,)), 16))
    return made


def joined(stmts: list[Stmt]) -> list[int]:
    """The lanes of what is stored."""
    kernel = Kernel((Param("s", "float32", False), Param("y", "uint8", True)), tuple(stmts))
    return [s.value.lanes for s in bytes_together(kernel).body if isinstance(s, Store)]


def test_four_or_two_neighbours_are_one_store() -> None:
    assert joined(stores(7, "uint8")) == [64, 32, 16]
    assert joined(stores(2, "int8")) == [32]


def test_others_stay_apart() -> None:
    assert joined(stores(1, "uint8") + stores(1, "uint8", first=2)) == [16, 16], "a gap"
    assert joined(stores(1, "uint8") + stores(1, "uint8", ENDS[::-1], first=1)) == [16, 16], "other ends"
    partial = [Store(s.buffer, s.index, s.value, 9) for s in stores(2, "uint8") if isinstance(s, Store)]
    assert joined(partial) == [16, 16], "vectors in part"
