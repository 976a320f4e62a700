"""What a run costs by the model's shapes, and the time of each of our kernels beside its roofline."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from bench.ceilings import Ceilings


@dataclass(frozen=True)
class Cost:
    """`flops`: two per multiply-add of convolutions, matrix products and recurrent layers, done directly.
    `weights`: bytes of weights that a run reads, without tables of embeddings, of which it reads a few rows."""

    flops: float
    weights: int


@dataclass(frozen=True)
class KernelTime:
    """A kernel of ours: `us` and the rest for all its `calls` in a run; None where the shapes do not show it.

    `of_roofline` may pass 1: Winograd's transforms need fewer multiplications than `gflops` counts.
    """

    name: str
    computes: str
    schedule: str
    calls: int
    us: float
    share: float
    gflops: float | None
    gbps: float | None
    of_roofline: float | None


_RECURRENT = ("LSTM", "GRU", "RNN")


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return int(math.prod(tensor.dims) * kind.itemsize)


class Initializers:
    """The initializers of a model by the nodes that read them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._bytes = {t.name: _tensor_bytes(t) for t in model.graph.initializer}
        self._nodes = {n.name: n for n in model.graph.node}
        read = {i for n in model.graph.node for k, i in enumerate(n.input) if not (n.op_type == "Gather" and k == 0)}
        self.total = sum(size for name, size in self._bytes.items() if name in read)

    def of_kernel(self, name: str, nodes: Sequence[str], calls: int) -> int:
        """Bytes of weights that all calls of this kernel read in a run."""
        total = 0
        for node in (self._nodes[n] for n in nodes if n in self._nodes):
            if (
                node.op_type in _RECURRENT
            ):  # in a time step the recurrent weights are read, before it those of the input
                step = "_step_" in name
                total += self._bytes.get(node.input[2 if step else 1], 0) * (calls if step else 1)
            elif node.op_type != "Gather":
                total += sum(self._bytes.get(i, 0) for i in node.input)
        return total


def model_cost(path: Path) -> Cost:
    from dlpack.inspection import inspect_path

    weights = Initializers(onnx.load(str(path), load_external_data=False))
    return Cost(2.0 * float(inspect_path(path).get("macs", 0)), weights.total)


_TYPE = re.compile(r"(bool|[a-z]*float\d+|u?int\d+)\[([\dx]*)\]")


def activation_bytes(computes: str) -> int:
    """Bytes in and out of a kernel, from the manifest's text: `MatMul: float32[1x4] -> float32[1x2]` → 24."""

    def total(text: str) -> int:
        sizes = 0
        for kind, dims in _TYPE.findall(text):
            bits = 8 if kind == "bool" else int(re.findall(r"\d+", kind)[-1])
            sizes += math.prod(int(d) for d in dims.split("x") if d) * bits // 8
        return sizes

    before, _, after = computes.rpartition("->")
    looked_up = total(after) if computes.startswith("Gather") else 0  # the rows of the table
    return total(before) + total(after) + looked_up


def profile_bundle(bundle: Path, model: Path, ceilings: Ceilings, rounds: int = 50) -> list[KernelTime]:
    """Times each kernel of a native bundle, slowest first (medians; see dlpack.timing)."""
    from dlpack.bundle.loader import read_kernels, read_manifest
    from dlpack.bundle.timing import bench_bundle

    weights = Initializers(onnx.load(str(model), load_external_data=False))
    facts = read_manifest(bundle), read_kernels(bundle)
    return kernel_times(bench_bundle(bundle, None, rounds)["kernels"], *facts, weights, ceilings)


def kernel_times(
    rows: Sequence[dict[str, Any]],
    manifest: dict[str, Any],
    described: Sequence[dict[str, Any]],
    weights: Initializers,
    ceilings: Ceilings,
) -> list[KernelTime]:
    """Joins measured `rows` (name, calls, us, share) with the bundle's description of the kernels (kernels.json)."""
    kernels = {k["name"]: k for k in described}
    arena = int(manifest["arena"]["bytes"])
    all_weights = int(manifest["weights_bytes"])
    timed = sum(kernels[r["name"]]["macs"] * r["calls"] for r in rows if r["name"] in kernels)
    told = []
    for row in rows:
        kernel = kernels.get(row["name"])
        flops, read, moved = 0.0, 0, 0
        if kernel is not None:
            flops = 2.0 * kernel["macs"] * row["calls"]
            read = weights.of_kernel(row["name"], kernel["nodes"], row["calls"])
            moved = activation_bytes(kernel["computes"]) * row["calls"]
        elif row["name"] == "loop":  # its kernels are not timed one by one: what no other kernel multiplies
            flops = 2.0 * max(0, manifest["macs"] - timed)
        floor = ceilings.roofline_ms(flops, read, all_weights, moved, arena) * 1e3
        us = row["us"]
        told.append(
            KernelTime(
                row["name"], kernel["computes"] if kernel else "", kernel["schedule"] if kernel else "",
                row["calls"], us, row["share"],
                flops / us / 1e3 if flops and us else None,
                (read + moved) / us / 1e3 if read + moved and us else None,
                floor / us if floor and us else None,
            )
        )  # fmt: skip
    return told
