"""A small program with everything that the host's side of GPUs meets, its kernels written by hand: CUDA C and C++.

It computes y[i, j] = the 3 x 3 sums around (i, j) of x * w, with 0.5 around them, plus 1; z is a copy of y.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dlpack.amalgamate.document import Provenance, emit_header, emit_source
from dlpack.amalgamate.machines import Code
from dlpack.amalgamate.printer import Printer
from dlpack.bundle.manifest import manifest_of
from dlpack.loops.ir import Kernel, Param
from dlpack.plan.memory import Arena
from dlpack.plan.program import (
    Address,
    CallStep,
    CopyStep,
    HaloStep,
    LoopStep,
    NamedKernel,
    Place,
    Program,
    ShapeSet,
    Tensor,
)
from dlpack.runtime_c import read_runtime
from dlpack.targets.gpu.host import cuda_code, halo_kernels
from dlpack.targets.gpu.nvrtc import Launch

ROWS, COLUMNS = 4, 6
WEIGHTS = np.array([1, -2, 0.5, 4, 0.25, -1], np.float32)

CUDA = {
    "scale": """\
extern "C" __global__ void scale(const float* __restrict__ x, const float* __restrict__ w, float* __restrict__ padded) {
    const int row = blockIdx.y, column = blockIdx.x * 4 + threadIdx.x;
    if (column < 6) padded[(row + 1) * 8 + column + 1] = x[row * 6 + column] * w[column];
}""",
    "sums": """\
extern "C" __global__ void sums(const float* __restrict__ padded, float* __restrict__ y) {
    const int row = threadIdx.y, column = threadIdx.x;
    float sum = 0.0f;
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) sum += padded[(row + i) * 8 + column + j];
    y[row * 6 + column] = sum;
}""",
    "increment": """\
extern "C" __global__ void increment(float* y) {
    y[threadIdx.x] += 1.0f;
}""",
}
LAUNCHES = [
    Launch("scale", (2, 4, 1), (4, 1, 1)),
    Launch("sums", (1, 1, 1), (6, 4, 1)),
    Launch("increment", (1, 1, 1), (12, 1, 1)),
]
CPLUSPLUS = {
    "scale": """\
void scale(const float* x, const float* w, float* padded) {
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 6; ++j) padded[(i + 1) * 8 + j + 1] = x[i * 6 + j] * w[j];
}""",
    "sums": """\
void sums(const float* padded, float* y) {
    for (int i = 0; i < 24; ++i) {
        y[i] = 0;
        for (int k = 0; k < 9; ++k) y[i] += padded[(i / 6 + k / 3) * 8 + i % 6 + k % 3];
    }
}""",
    "increment": """\
void increment(float* y) {
    for (int i = 0; i < 12; ++i) y[i] += 1;
}""",
}
PARAMETERS = {"scale": "xwp", "sums": "py", "increment": "y"}


class Written(Printer):
    """Prints kernels that are written already."""

    texts: dict[str, str]

    def needs(self) -> set[str]:
        return set()

    def overloads(self) -> set[str]:
        return set()

    def kernel(self, kernel: Kernel, name: str, restrict: bool = True) -> str:
        del kernel, restrict
        return self.texts[name]


class WrittenCuda(Written):
    texts = CUDA


class WrittenCplusplus(Written):
    texts = CPLUSPLUS


def expected(x: np.ndarray) -> np.ndarray:
    padded = np.full((ROWS + 2, COLUMNS + 2), 0.5, np.float32)
    padded[1:-1, 1:-1] = x * WEIGHTS
    return sum(padded[i : i + ROWS, j : j + COLUMNS] for i in range(3) for j in range(3)) + np.float32(1)


def program(several_shapes: bool = False) -> Program:
    """With `several_shapes` there is a second set, in which z is missing a row, to have another shape."""

    def address(space: str, index: int = 0, steps: tuple[int, ...] = ()) -> Address:
        return Address(space, 0, "float32", index, steps)

    x, w, y = address("input"), address("weights"), address("output")
    kernels = {
        "x": Param("x", "float32", False), "w": Param("w", "float32", False), "p": Param("padded", "float32", True),
        "y": Param("y", "float32", True),
    }  # fmt: skip

    def steps(copied: int, padded: Address) -> tuple:
        return (
            HaloStep(padded, (ROWS + 2, COLUMNS + 2), (1, 1), (1, 1), 0.5),
            CallStep("scale", (x, w, padded)),
            CallStep("sums", (padded, y)),
            LoopStep(2, (CallStep("increment", (address("output", steps=(48,)),)),)),
            CopyStep(y, address("output", 1), copied),
        )

    def shape_set(rows_of_z: int) -> ShapeSet:
        key = f"padded{rows_of_z}"
        arena = Arena({key: 0}, 192, 192, 192, "by hand")
        place = Place(key, "padded", 0, 192, ("padded",), "float32", (6, 8), (0, 1), (), 0, 2)
        z = Tensor("z", "float32", (rows_of_z, COLUMNS))
        outputs = (Tensor("y", "float32", (ROWS, COLUMNS)), z)
        inputs = (Tensor("x", "float32", (ROWS, COLUMNS)),)
        copied = rows_of_z * COLUMNS * 4
        return ShapeSet(inputs, outputs, steps(copied, replace(address("arena"), place=key)), arena, 24, (place,))

    named = tuple(
        NamedKernel(name, Kernel(tuple(kernels[p] for p in of), ()), f"{name}, by hand", "by hand", (), 0, True)
        for name, of in PARAMETERS.items()
    )
    sets = (shape_set(ROWS), shape_set(ROWS - 1)) if several_shapes else (shape_set(ROWS),)
    place = Place("w", "w", 0, 24, ("w",), "float32", (6,), (0,))
    return Program("sample", sets, named, WEIGHTS.tobytes(), weight_places=(place,))


def codes(archs: Sequence[str], several_shapes: bool = False) -> list[Code]:
    """The GPU's code, and the processor's."""
    p = program(several_shapes)
    return [cuda_code(p, LAUNCHES, WrittenCuda, "", archs), Code(p, "plain", printer=WrittenCplusplus)]


def host_kernels(p: Program, shim: str) -> str:
    """The CUDA C for the CPU: `shim` is the header by which it compiles there. With what fake_cuda.cc looks up."""
    borders = halo_kernels(p)
    lines = [f'#include "{shim}"', *CUDA.values(), *(text for _, text in borders)]
    sizes = {
        1: ("c", "unsigned char"),
        2: ("h", "unsigned short"),
        4: ("i", "unsigned"),
        8: ("l", "unsigned long long"),
    }
    parameters = {name: [("p", "float*")] * len(of) for name, of in PARAMETERS.items()}
    for launch, _ in borders:
        size = sizes[int(launch.kernel.rsplit("_", 1)[1])]
        parameters[launch.kernel] = [("p", f"{size[1]}*"), *[("i", "int")] * 18, size]
    for name, kinds in parameters.items():
        arguments = ", ".join(f"*({kind}*)a[{k}]" for k, (_, kind) in enumerate(kinds))
        lines.append(f'extern "C" __global__ void run_{name}(void** a) {{ {name}({arguments}); }}')
        letters = "".join(letter for letter, _ in kinds)
        lines.append(f'extern "C" __global__ const char kinds_{name}[] = "{letters}";')
    return "\n".join(lines) + "\n"


def write_bundle(folder: Path, archs: Sequence[str], several_shapes: bool = False, embed: bool = True) -> Path:
    """sample.cc, sample.h and a manifest; what compiles them writes libsample.so."""
    folder.mkdir(parents=True, exist_ok=True)
    both = codes(archs, several_shapes)
    text = emit_source(both, read_runtime(), Provenance("", "", "", "", "", ""), embed, ())
    (folder / "sample.cc").write_text(text)
    (folder / "sample.h").write_text(emit_header(both, read_runtime()))
    if not embed:
        (folder / "sample.weights").write_bytes(both[0].program.weights)
    manifest = manifest_of({c.machine: c.program for c in both}, "cuda", "", "")
    manifest["library"] = "libsample.so"
    if not embed:
        manifest["weights"] = {"file": "sample.weights"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def damaged(folder: Path) -> None:
    """Changes a byte of every packed image in sample.cc."""
    text = (folder / "sample.cc").read_text()
    start = text.index("kPacked[")
    end = text.index("constexpr cuda_program")
    (folder / "sample.cc").write_text(text[:start] + text[start:end].replace("\\000", "\\001", 400) + text[end:])
