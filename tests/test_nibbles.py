"""Weights of four bits that stay two to a byte in memory, which kernels take apart in registers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from decoders import Decoder

from dlpack.loops.index import Linear
from dlpack.loops.ir import Assign, Declare, Expr, For, Kernel, Load, Op, Param, Prefetch, Ref, Stmt
from dlpack.loops.nibbles import with_nibbles
from dlpack.plan.compiler import compile_graph
from dlpack.plan.program import DequantizeStep, Program
from dlpack.stages.prepare import clean_graph
from dlpack.targets.cpu.machine import AVX2, AVX512, Machine
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


def program_for(machine: Machine) -> Program:
    model = Decoder(layers=1, width=64, heads=2, kv=2, hidden=64, vocabulary=11, positions=16, bits=4).model()
    return compile_graph(clean_graph(model, {}, past=(1, 4))[1], "net", CpuBackend(machine))
