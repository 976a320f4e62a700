"""Weights of four bits that stay two to a byte in memory, which kernels take apart in registers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlpack.loops.dots import NIBBLE_DOT, UNSIGNED_DOT
from dlpack.loops.index import Linear
from dlpack.loops.ir import Assign, Declare, Expr, For, Kernel, Load, Op, Param, Prefetch, Ref, Stmt, Store
from dlpack.loops.nibbles import with_nibbles
from dlpack.plan.memory import Arena
from dlpack.plan.nibbles import in_nibbles
from dlpack.plan.program import Address, CallStep, NamedKernel, Place, Program, ShapeSet
from dlpack.plan.weight_steps import DequantizeStep, PackedDim
from dlpack.targets.cpu.machine import AVX2, AVX512, AVX512VNNI, NEON, WASM
from dlpack.targets.cpu.schedule import CpuBackend

LANES = 4
ACC = Ref("float32", LANES, "acc")


def load(dtype: str, const: int, each: int) -> Load:
    return Load(dtype, LANES, "w", Linear.var("row") * each + const, LANES)


def kernel(*stmts: Stmt) -> Kernel:
    return Kernel((Param("w", "int8", False),), (For("row", 0, 8, 1, stmts),))


def added(e: Expr) -> Stmt:
    return Assign("acc", Op("float32", LANES, "+", (ACC, e)))


def cast(e: Expr) -> Expr:
    return Op("float32", LANES, "cast", (e,))


def test_two_vectors_share_a_load() -> None:
    second = Ref("int8", LANES, "v")
    found = with_nibbles(
        kernel(
            *(Prefetch("w", Linear.var("row") * 16 + at) for at in (256, 320)),
            Declare("v", "int8", LANES, load("int8", 12, 16)),
            added(cast(load("int8", 8, 16))),
            added(cast(second)),
        ),
        0,
        LANES,
    )
    low, high = (Op("float32", LANES, f"{half}_nibbles_", (load("uint8", 4, 8),)) for half in ("low", "high"))
    assert found is not None and found.params == (Param("w", "uint8", False),)
    (loop,) = found.body
    assert isinstance(loop, For) and loop.body == (
        Prefetch("w", Linear.var("row") * 8 + 128),  # the line that follows would be half as far away: it is this one
        Declare("v", "float32", LANES, high),
        added(low),
        added(replace(second, dtype="float32")),
    )


def dotted(w: Expr) -> Stmt:
    acc, x = Ref("int32", LANES // 4, "acc"), Load("int8", 4, "x", Linear.var("row") * 4, 4)
    return Assign("acc", Op("int32", LANES // 4, UNSIGNED_DOT, (acc, x, w)))


def test_dot_products_take_two_vectors_of_a_load() -> None:
    """Of numbers without a sign, which stay bytes; one of them by a name."""
    second = Ref("uint8", LANES, "v")
    body = Declare("v", "uint8", LANES, load("uint8", 4, 8)), dotted(load("uint8", 0, 8)), dotted(second)
    whole = replace(kernel(*body), params=(Param("w", "uint8", False),))
    found = with_nibbles(whole, 0, LANES)
    low, high = (Op("uint8", LANES, f"{half}_bits_", (load("uint8", 0, 4),)) for half in ("low", "high"))
    assert found is not None and found.params == whole.params
    (loop,) = found.body
    assert isinstance(loop, For)
    assert loop.body[0] == Declare("v", "uint8", LANES, high)
    for s, w in zip(loop.body[1:], (low, second), strict=True):
        assert isinstance(s, Assign) and isinstance(s.value, Op)
        assert (s.value.op, s.value.args[-1]) == (NIBBLE_DOT, w)
    stored = Store("y", Linear(0), load("uint8", 0, 8), LANES)
    assert with_nibbles(replace(whole, body=(*whole.body, stored)), 0, LANES) is None


@pytest.mark.parametrize(
    "e",
    [
        cast(load("int8", 0, LANES)),  # from trip to trip another of a pair's vectors
        cast(load("int8", 2, 2 * LANES)),  # parts of two
        cast(replace(load("int8", 0, 2 * LANES), lanes=LANES // 2, valid=LANES // 2)),
        cast(replace(load("int8", 0, 2 * LANES), valid=LANES - 1)),
        load("int8", 0, 2 * LANES),
    ],
)
def test_kernels_that_read_otherwise_stay(e: Expr) -> None:
    assert with_nibbles(kernel(added(e)), 0, LANES) is None


def program(zeros: bool = False, other: Expr | None = None, shared: str = "") -> Program:
    """A kernel that reads the first of two weights, one that reads the second (`other` of it), and one that is called
    with the weights in `shared`; a float lies between the weights."""
    pair = (added(cast(load("int8", 0, 2 * LANES))), added(cast(load("int8", LANES, 2 * LANES))))
    kernels = {"a": kernel(*pair), "b": kernel(added(other)) if other else kernel(*pair), "c": kernel(*pair)}
    at = {"a": 0, "b": 128}
    calls = [*at, *(("c", weight) for weight in shared)]
    table, scales = Address("weights", 0, "float32"), Address("weights", 64, "float32")
    codes = [Address("weights", 128 + 64 * k, "uint8") for k in range(2)]
    zero = Address("weights", 256, "uint8") if zeros else None
    dims = (PackedDim(64, 0, 1),)
    return Program(
        "net",
        (
            ShapeSet(
                (),
                (),
                tuple(
                    CallStep(c[0], (Address("prepared", at[c[-1]], "int8"), Address("prepared", 64, "float32")))
                    for c in calls
                ),
                Arena({}, 0, 0, 0, ""),
                0,
            ),
        ),
        tuple(NamedKernel(name, k, "", "", (), 0, True) for name, k in kernels.items()),
        np.arange(-8, 8, dtype=np.float32).tobytes(),
        tuple(
            DequantizeStep(
                code, table, scales, zero, Address("prepared", start, "int8"), 4, (64,), (1,), (0,), dims, 32, 1, 64
            )
            for code, start in zip(codes, at.values(), strict=True)
        ),
        192,
        prepared_places=tuple(
            Place(str(start), f"w{start}", start, 64, (), "int8" if start in at.values() else "float32", (64,), (0,))
            for start in (0, 64, 128)
        ),
    )


def test_what_lies_behind_packed_weights_moves_up() -> None:
    made = in_nibbles(program(shared="ab"), LANES)
    assert [(p.offset, p.nbytes, p.dtype) for p in made.prepared_places] == [
        (0, 32, "int4"),
        (64, 64, "float32"),
        (128, 32, "int4"),
    ]
    assert [(s.target.offset, s.written, s.pairs) for s in made.prepare if isinstance(s, DequantizeStep)] == [
        (0, 32, LANES),
        (128, 32, LANES),
    ]
    assert all(k.kernel.params[0].dtype == "uint8" for k in made.kernels)
    calls = [s for s in made.shape_sets[0].steps if isinstance(s, CallStep)]
    assert {s.arguments[0] for s in calls} == {Address("prepared", at, "uint8") for at in (0, 128)}
    assert {s.arguments[1] for s in calls} == {Address("prepared", 64, "float32")}


@pytest.mark.parametrize(("shared", "packed"), [("", [True, False]), ("a", [True, False]), ("ab", [False, False])])
def test_weights_that_share_a_kernel_are_packed_together_or_not(shared: str, packed: list[bool]) -> None:
    made = in_nibbles(program(other=load("int8", 0, 2 * LANES), shared=shared), LANES)
    assert [s.pairs > 0 for s in made.prepare if isinstance(s, DequantizeStep)] == packed
    types = {k.name: k.kernel.params[0].dtype for k in made.kernels}
    assert types["a"] == ("uint8" if packed[0] else "int8") and types["b"] == "int8"


def test_bytes_stay_where_four_bits_do_not_hold_them_or_do_not_pay() -> None:
    assert in_nibbles(program(zeros=True), LANES) == program(zeros=True)
    assert in_nibbles(program(), 0) == program()
    assert [CpuBackend(m).layouts.nibbles for m in (AVX512, AVX512VNNI, AVX2, NEON, WASM)] == [16, 16, 0, 0, 0]
