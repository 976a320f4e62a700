"""Integers wrap, whatever is computed with them, and no value is undefined behaviour or stops the program."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conformance.batch import run_cases
from conformance.cases import Case
from conformance.harness import MACHINES
from onnx import helper, numpy_helper
from processes import run
from test_runtime_c import SANITIZE, STRICT, paste, sanitizing_compiler

DTYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
POWERS = [0, 1, 2, 3, 5, 31, 63, 64, 127]


def extremes(dtype: str) -> list[int]:
    info = np.iinfo(dtype)
    near = [info.min, info.min + 1, 0, 1, 2, 3, 7, info.max // 2, info.max - 1, info.max]
    return sorted({*near, *(-v for v in (1, 2, 3, 7) if info.min < 0)})


def wrap(value: int, dtype: str) -> int:
    info = np.iinfo(dtype)
    return (value - int(info.min)) % (1 << info.bits) + int(info.min)


def _truncdiv(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b if b else 0,
    "floormod": lambda a, b: a % b if b else 0,
    "truncdiv": _truncdiv,
    "truncmod": lambda a, b: a - b * _truncdiv(a, b) if b else 0,
}


def test_runtime_functions(tmp_path: Path) -> None:
    """At all pairs of telling values, with the sanitizers on; the results are those of Python's integers, wrapped."""
    compiler = sanitizing_compiler(tmp_path)
    lines, want = [], []
    for dtype in DTYPES:
        values = extremes(dtype)
        for name, function in BINARY.items():
            lines.append(f"  for (auto a : v_{dtype}) for (auto b : v_{dtype}) show({name}_(a, b));")
            want += [wrap(function(a, b), dtype) for a, b in itertools.product(values, values)]
        lines.append(f"  for (auto a : v_{dtype}) show(abs_(a));")
        want += [wrap(abs(a), dtype) for a in values]
        for exponents in DTYPES:
            lines.append(f"  for (auto a : v_{dtype}) for (auto n : p_{exponents}) show(integer_pow_(a, n));")
            want += [wrap(a**n, dtype) for a, n in itertools.product(values, POWERS)]
    lines.append("  for (int a : v_int32) for (int n : v_int32) if (n < 0) show(integer_pow_(a, n));")
    for a, n in itertools.product(extremes("int32"), extremes("int32")):
        if n < 0:
            want.append((a if n % 2 else 1) if a in (1, -1) else 0)
    arrays = [f"const {d}_t v_{d}[] = {{{', '.join(_literal(v, d) for v in extremes(d))}}};" for d in DTYPES]
    arrays += [f"const {d}_t p_{d}[] = {{{', '.join(map(str, POWERS))}}};" for d in DTYPES]
    sections = paste(*BINARY, "abs", "integer_pow")
    (tmp_path / "main.cc").write_text(
        "#include <stdio.h>\n"
        + sections
        + "\n".join(arrays)
        + '\ntemplate <class T> void show(T x) { printf(T(-1) < T(0) ? "%lld\\n" : "%llu\\n", '
        + "static_cast<unsigned long long>(x)); }\nint main() {\n"
        + "\n".join(lines)
        + "\n}\n"
    )
    command = [compiler, "-std=c++17", "-O1", "-Wno-format", *STRICT, *SANITIZE, "main.cc", "-o", "main"]
    run(command, cwd=tmp_path, check=True)
    done = run([tmp_path / "main"])
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == want


def _literal(value: int, dtype: str) -> str:
    if dtype == "int64" and value == -(1 << 63):
        return "INT64_MIN"
    return f"UINT64_C({value})" if dtype == "uint64" else f"INT64_C({value})" if dtype == "int64" else str(value)


@pytest.mark.parametrize("width", ["i32x4", "i32x16"])
def test_vectors_wrap_too(width: str, tmp_path: Path) -> None:
    compiler = sanitizing_compiler(tmp_path)
    (tmp_path / "main.cc").write_text(
        paste("add", "sub", "mul", "hsum", width)
        + f"""
int main() {{
  const {width} most = splat<{width}>(INT32_MAX), least = splat<{width}>(INT32_MIN);
  if (add_(most, splat<{width}>(1))[1] != INT32_MIN || sub_(least, splat<{width}>(1))[1] != INT32_MAX) return 1;
  return mul_(most, most)[1] == 1 && mul_(least, splat<{width}>(-1))[1] == INT32_MIN ? 0 : 2;
}}
"""
    )
    command = [compiler, "-std=c++17", "-O1", "-Wno-psabi", *STRICT, *SANITIZE, "main.cc", "-o", "main"]
    run(command, cwd=tmp_path, check=True)
    run([tmp_path / "main"], check=True)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint64"])
def test_comparisons_with_the_ends_of_a_type(dtype: str) -> None:
    """TVM's simplifier held no int32 for equal to the least one."""
    kind, x = helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), np.array(extremes(dtype), dtype)
    compare = {"Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater}
    nodes, constants, names, want = [], [], [], []
    for k, end in enumerate((x[0], x[1], x[-1])):
        constants.append(numpy_helper.from_array(np.array(end), f"c{k}"))
        for op, function in compare.items():
            names.append(f"{op}{k}")
            nodes.append(helper.make_node(op, ["x", f"c{k}"], names[-1:]))
            want.append(function(x, end))
    outputs = [helper.make_tensor_value_info(n, 9, x.shape) for n in names]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, x.shape)], outputs, constants)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    case = Case(dtype, "Equal", "", model, (((x,), tuple(want)),), 0, 0)
    assert [r.detail for r in run_cases([case], MACHINES["avx2"], lambda _: None)] == [""]
