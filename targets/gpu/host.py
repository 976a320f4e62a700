"""What the emitted file holds of a program for NVIDIA's GPUs beside its steps: images, launches, borders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dlpack.amalgamate.machines import Code
from dlpack.amalgamate.printer import Printer
from dlpack.amalgamate.text import bytes_literal
from dlpack.plan.program import HaloStep, LoopStep, Program, Step
from dlpack.targets.gpu.blob import pack
from dlpack.targets.gpu.nvrtc import Image, Launch, compile_images

DEFAULT_ARCHS = ("sm_53", "sm_62", "sm_72", "sm_87", "sm_90", "compute_53")
"""Jetson TX1, TX2, Xavier and Orin, Hopper, and what the driver compiles for all others from the TX1 on."""

_HALO = """\
// Fills the border of a buffer of shape n, l and h wide at each dimension's beginning and end.
extern "C" __global__ void fill_halo_@bytes@(
    @type@* data, int n0, int n1, int n2, int n3, int n4, int n5, int l0, int l1, int l2, int l3, int l4, int l5,
    int h0, int h1, int h2, int h3, int h4, int h5, @type@ value) {
    const unsigned at = blockIdx.x * 256 + threadIdx.x;
    if (at >= (unsigned)n0 * n1 * n2 * n3 * n4 * n5) return;
    unsigned rest = at;
    const int i5 = rest % n5; rest /= n5;
    const int i4 = rest % n4; rest /= n4;
    const int i3 = rest % n3; rest /= n3;
    const int i2 = rest % n2; rest /= n2;
    const int i1 = rest % n1;
    const int i0 = rest / n1;
    const bool inside = i0 >= l0 && i0 < n0 - h0 && i1 >= l1 && i1 < n1 - h1 && i2 >= l2 && i2 < n2 - h2 &&
        i3 >= l3 && i3 < n3 - h3 && i4 >= l4 && i4 < n4 - h4 && i5 >= l5 && i5 < n5 - h5;
    if (!inside) data[at] = value;
}"""
_HALO_TYPES = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long long"}


def halo_sizes(program: Program) -> list[int]:
    """The element sizes, in bytes, of the buffers whose borders the program fills."""
    found: set[int] = set()

    def look(steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, HaloStep):
                found.add(np.dtype(step.target.dtype).itemsize)
            elif isinstance(step, LoopStep):
                look(step.body)

    for s in program.shape_sets:
        look(s.steps)
    return sorted(found)


def halo_kernels(program: Program) -> list[tuple[Launch, str]]:
    """The kernels that fill the program's borders: their launch, whose grid the runtime computes, and their CUDA C."""
    return [
        (
            Launch(f"fill_halo_{n}", (1, 1, 1), (256, 1, 1)),
            _HALO.replace("@bytes@", str(n)).replace("@type@", _HALO_TYPES[n]),
        )
        for n in halo_sizes(program)
    ]


def cuda_code(
    program: Program,
    launches: Sequence[Launch],
    printer: Callable[[], Printer],
    preamble: str = "",
    archs: Sequence[str] = DEFAULT_ARCHS,
    machine: str = "cuda",
) -> Code:
    """What the emitter prints of a program for a GPU: CUDA C as `printer` writes it, for people, and its images.

    `launches` says how each of the program's kernels runs. `preamble` is the CUDA C that they are written with. The
    kernels are compiled for `archs` here; raises what `compile_images` does.
    """
    borders = halo_kernels(program)
    every = [*launches, *(launch for launch, _ in borders)]
    missing = {k.name for k in program.kernels} - {launch.kernel for launch in every}
    if missing:
        raise ValueError(f"kernels without a launch: {', '.join(sorted(missing))}")
    writing = printer()
    preamble = "\n\n".join([*([preamble] if preamble else []), *(text for _, text in borders)])
    kernels = [writing.kernel(k.kernel, k.name, k.restrict) for k in program.kernels]
    images = compile_images("\n\n".join([preamble, *kernels]) + "\n", archs, every)
    text = tables(every, images)
    return Code(
        program,
        machine,
        "defined(@NAME@_CUDA)",
        printer=printer,
        sections=(("IMAGES", f"the kernels below, compiled for {', '.join(i.name for i in images)}", text),),
        launch=launch_statement,
        conditions=frozenset({"cuda"}),
        device="defined(__CUDACC__)",
        preamble=preamble,
        addresses="device::",
    )


def launch_statement(kernel: str, arguments: Sequence[str]) -> str:
    """The C++ that launches a kernel."""
    return f"device::launch({', '.join(['p', f'launch_{kernel}', *arguments])});"


def tables(launches: Sequence[Launch], compiled: Sequence[Image]) -> str:
    """The C++ tables of launches, with what each kernel takes of a GPU, and of images; and the packed images."""
    blob = pack(compiled)

    def triple(values: tuple[int, int, int]) -> str:
        return "{" + ", ".join(map(str, values)) + "}"

    rows = [
        f'    {{"{k.kernel}", {triple(k.grid)}, {triple(k.block)}}},{taken_by(k.kernel, compiled)}' for k in launches
    ]
    images = [
        f"    {{{e.arch}, {'true' if e.kind == 'ptx' else 'false'}, {e.offset}, {e.packed}, {e.size}}},"
        for e in blob.entries
    ]
    numbers = [f"[[maybe_unused]] constexpr int32_t launch_{k.kernel} = {i};" for i, k in enumerate(launches)]
    return "\n".join(
        [
            "// Kernels, their grids and blocks, and what a thread or a block takes.",
            "constexpr cuda_kernel kLaunches[] = {",
            *rows,
            "};",
            *numbers,
            "",
            "// Architecture, whether it is PTX, where it lies packed, its bytes packed and unpacked.",
            "constexpr cuda_image kImages[] = {",
            *images,
            "};",
            f"constexpr unsigned char kPacked[{len(blob.data)} + 1] =\n{bytes_literal(blob.data)};",
            f"constexpr cuda_program kCuda = {{kLaunches, {len(launches)}, kImages, {len(blob.entries)}, kPacked}};",
        ]
    )


def taken_by(kernel: str, images: Iterable[Image]) -> str:
    """A comment behind a kernel's launch: its registers, shared memory and spilled bytes, by the assembler's report."""
    told = []
    for image in images:
        if (r := image.kernels.get(kernel)) is None:
            continue
        words = [f"{r.registers} registers"]
        words += [f"{r.shared} bytes shared"] if r.shared else []
        words += [f"{r.stack} bytes of stack"] if r.stack else []
        words += [f"{r.spills} bytes spilled"] if r.spills else []
        told.append(f"{image.name}: {', '.join(words)}")
    return f"  // {'; '.join(told)}" if told else ""
