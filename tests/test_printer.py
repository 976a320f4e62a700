"""The printer of kernels: what a dialect may change, and what the C++ of CPUs refuses."""

from __future__ import annotations

import pytest

from dlpack.amalgamate.cpp import CppPrinter
from dlpack.amalgamate.printer import Printer
from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    Array,
    Barrier,
    For,
    Kernel,
    Load,
    LoopAxis,
    Op,
    Param,
    Ref,
    Space,
    Store,
    expressions,
    map_stmts,
    walk,
)

ROW, COLUMN = Linear.var("i"), Linear.var("j")


def load(buffer: str, index: Linear) -> Load:
    return Load("float32", 1, buffer, index, 1)


def times(x: Load, y: Load) -> Op:
    return Op("float32", 1, "*", (x, y))


TURN = Kernel(
    (Param("x", "float32", False), Param("y", "float32", True)),
    (
        For(
            "i",
            0,
            8,
            1,
            (
                Array("tile", "float32", 32, Space.SHARED),
                For("j", 0, 32, 1, (Store("tile", COLUMN, load("x", ROW * 32 + COLUMN), 1),), LoopAxis.THREAD),
                Barrier(),
                For(
                    "j", 0, 32, 1, (Store("y", ROW * 32 + COLUMN, load("tile", COLUMN * -1 + 31), 1),), LoopAxis.THREAD
                ),
            ),
            LoopAxis.BLOCK,
        ),
    ),
)
"""Rows of 32 elements turned round, by a block of 32 threads each."""


class Cuda(CppPrinter):
    """As much of CUDA C as `TURN` needs: what it shares with C++ is not said again."""

    def head(self, kernel: Kernel, name: str, restrict: bool) -> list[str]:
        first, *rest = super().head(kernel, name, restrict)
        return [f"__global__ {first}", *rest]

    def loop(self, s: For, pad: str) -> list[str]:
        index = {LoopAxis.BLOCK: "blockIdx.x", LoopAxis.THREAD: "threadIdx.x"}.get(s.axis)
        if index is None:
            return super().loop(s, pad)
        return [f"{pad}if (const int {s.var} = {index}; {s.var} < {s.end}) {{"]

    def array(self, s: Array) -> str:
        return f"__shared__ float {s.name}[{s.size}]" if s.space is Space.SHARED else super().array(s)

    def barrier(self) -> str:
        return "__syncthreads()"


def test_a_dialect_says_who_runs_a_loop_and_where_an_array_lies() -> None:
    assert Cuda().kernel(TURN, "turn") == (
        """\
__global__ void turn(const float* __restrict x, float* __restrict y) {
    if (const int i = blockIdx.x; i < 8) {
        __shared__ float tile[32];
        if (const int j = threadIdx.x; j < 32) {
            tile[j] = x[i * 32 + j];
        }
        __syncthreads();
        if (const int j = threadIdx.x; j < 32) {
            y[i * 32 + j] = tile[-j + 31];
        }
    }
}"""
    )


class Wgsl(Printer):
    """As much of WGSL as `TURN` needs, which is not C: arrays are declared outside, types follow names."""

    POINTERS = False

    def head(self, kernel: Kernel, name: str, restrict: bool) -> list[str]:
        lines = []
        for k, p in enumerate(kernel.params):
            access = "read_write" if p.written else "read"
            lines.append(f"@group(0) @binding({k}) var<storage, {access}> {p.name}: array<{self.type(p.dtype, 1)}>;")
        lines += [f"{self.array(s)};" for s in walk(kernel.body) if isinstance(s, Array)]
        ids = "@builtin(workgroup_id) block: vec3<i32>, @builtin(local_invocation_id) thread: vec3<i32>"
        return [*lines, f"@compute @workgroup_size(32) fn {name}({ids}) {{"]

    def type(self, dtype: str, lanes: int) -> str:
        return {"float32": "f32", "int32": "i32"}[dtype]

    def loop(self, s: For, pad: str) -> list[str]:
        if s.axis is LoopAxis.SERIAL:
            return [f"{pad}for (var {s.var} = {s.begin}; {s.var} < {s.end}; {s.var} += {s.step}) {{"]
        index = f"{s.axis.value}.x"
        return [f"{pad}if ({index} < {s.end}) {{", f"{pad}    let {s.var} = {index};"]

    def array(self, s: Array) -> str:
        return f"var<workgroup> {s.name}: array<{self.type(s.dtype, 1)}, {s.size}>"

    def barrier(self) -> str:
        return "workgroupBarrier()"

    def _Array(self, s: Array, depth: int) -> list[str]:
        return []


def test_a_dialect_need_not_be_c() -> None:
    lines = Wgsl().kernel(TURN, "turn").splitlines()
    assert lines[:3] == [
        "@group(0) @binding(0) var<storage, read> x: array<f32>;",
        "@group(0) @binding(1) var<storage, read_write> y: array<f32>;",
        "var<workgroup> tile: array<f32, 32>;",
    ]
    assert lines[4:] == (
        """\
    if (block.x < 8) {
        let i = block.x;
        if (thread.x < 32) {
            let j = thread.x;
            tile[j] = x[i * 32 + j];
        }
        workgroupBarrier();
        if (thread.x < 32) {
            let j = thread.x;
            y[i * 32 + j] = tile[-j + 31];
        }
    }
}""".splitlines()
    )


@pytest.mark.parametrize("axis", [LoopAxis.BLOCK, LoopAxis.THREAD])
def test_a_cpu_has_no_blocks_of_threads(axis: LoopAxis) -> None:
    kernel = Kernel((Param("y", "float32", True),), (For("i", 0, 4, 1, (Store("y", ROW, load("y", ROW), 1),), axis),))
    with pytest.raises(NotImplementedError, match=f"CppPrinter has no loops whose axis is {axis.value}"):
        CppPrinter().kernel(kernel, "k")


def test_what_a_dialect_does_not_say_is_refused_by_name() -> None:
    class Empty(Printer):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no heads of kernels"):
        Empty().kernel(TURN, "turn")
    with pytest.raises(NotImplementedError, match="CppPrinter has no barriers"):
        CppPrinter().block((Barrier(),), 0)


def test_a_shared_loop_runs_a_part_of_its_trips() -> None:
    body = (For("i", 2, 6, 1, (Store("y", ROW, load("x", ROW), 1),), LoopAxis.PARALLEL),)
    kernel = Kernel((Param("x", "float32", False), Param("y", "float32", True)), body, trips=8)
    assert CppPrinter().kernel(kernel, "k", restrict=False) == (
        """\
void k(const float* x, float* y, int begin, int end) {
    for (int i = begin > 2 ? begin : 2; i < (end < 6 ? end : 6); ++i) {
        y[i] = x[i];
    }
}"""
    )


def test_the_walker_sees_and_rebuilds_every_statement() -> None:
    kinds = [type(s).__name__ for s in walk(TURN.body)]
    assert kinds == ["For", "Array", "For", "Store", "Barrier", "For", "Store"]
    assert [e.buffer for e in expressions(TURN.body) if isinstance(e, Load)] == ["x", "tile"]
    assert map_stmts(TURN.body, lambda s: [s], lambda e: e) == TURN.body
    squared = map_stmts(TURN.body, lambda s: [s], lambda e: times(e, e) if isinstance(e, Load) else e)
    assert sum(isinstance(e, Load) for e in expressions(squared)) == 4


def test_a_vector_that_is_not_chosen_is_not_loaded() -> None:
    chosen, other = (Load("float32", 4, name, Linear(0), 3) for name in ("a", "b"))
    truth = Ref("bool", 1, "inside")
    text = CppPrinter().expr(Op("float32", 4, "select", (truth, chosen, other)))
    assert text.startswith("inside ? load_partial")
