"""[MACHINE ...]: kernels for several machines in one file, each in a namespace of its own, and how one is chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from dlpack.amalgamate.cpp import CppPrinter
from dlpack.amalgamate.printer import Printer
from dlpack.amalgamate.text import banner
from dlpack.plan.program import Program


def called(kernel: str, arguments: Sequence[str]) -> str:
    """The call of a kernel that is a C++ function."""
    return f"{kernel}({', '.join(arguments)});"


@dataclass(frozen=True)
class Code:
    """A program, the machine that its kernels are for, and what prints them.

    `machine` is a C++ identifier. Where a file has code for several machines, `condition` is the preprocessor's for the
    architecture (empty: any), and `instructions` names the sets of instructions, as GCC and Clang do, that the compiler
    may use in it beyond those that it may use anyway; the predictor takes the first machine whose instructions the
    processor has.

    `sections` are texts of the machine's own that stand before its kernels: name, subject, text. `launch` makes the
    statement that runs a kernel, of its name and the C++ expressions of its arguments. The lines of the runtime between
    ``//@ condition`` and ``//@ end`` are kept for the `conditions`.

    Where the kernels are for another processor than the one that runs the file, `device` is the preprocessor's
    condition under which that one's compiler reads them, `preamble` what they are written with, and `addresses` the
    namespace of the functions that give its addresses.
    """

    program: Program
    machine: str = "machine"
    condition: str = ""
    instructions: tuple[str, ...] = ()
    printer: Callable[[], Printer] = field(default=CppPrinter)
    sections: tuple[tuple[str, str, str], ...] = ()
    launch: Callable[[str, Sequence[str]], str] = field(default=called)
    conditions: frozenset[str] = frozenset()
    device: str = ""
    preamble: str = ""
    addresses: str = ""


SHARE_TRIPS = "void share_trips(const @name@_predictor& p, int32_t index, int32_t trips, size_t trip = 0);"
"""Declared before the regions, defined behind them."""


_OF_DEVICE = "bool cpu_suffices() { return false; }  // it takes more than a processor"


def region(code: Code, parts: Iterable[str], processor: str) -> str:
    """A machine's part of the file: `parts` are what it is made of, `processor` the runtime's section `cpu`."""
    ranges, first = [], 0
    for s in code.program.own_sets:
        ranges.append(f"{{{first}, {len(s.steps)}}}")
        first += len(s.steps)
    share = ["//@ threads", "    run_part,", "//@ end"]
    table = [
        f"constexpr step_range kSteps[] = {{{', '.join(ranges)}}};",
        "constexpr machine_code kCode = {",
        f'    "{code.machine}", cpu_suffices, kStepNames, kSteps, run_step,',
        *share,
        "    prepare,",
        "//@ staged",
        "    kPlaces[0], sizeof kPlaces[0] / sizeof kPlaces[0][0],",
        "//@ end",
        "//@ cuda",
        "    &kCuda," if "cuda" in code.conditions else "    nullptr,",
        "//@ end",
        "};",
    ]
    inside = "\n\n".join(
        [
            f"namespace {code.machine} {{",
            _OF_DEVICE if code.device else _allowed(processor, code.instructions),
            *_opened(code.instructions),
            *(_allowed(part, code.instructions) for part in parts),
            "\n".join(table),
            *_closed(code.instructions),
            f"}}  // namespace {code.machine}",
        ]
    )
    about = f"the runtime, kernels and steps for {code.machine}"
    guarded = [f"#if {code.condition}", inside, f"#endif  // {code.condition}"] if code.condition else [inside]
    return "\n".join([banner(f"MACHINE {code.machine}", about), *guarded])


def table(codes: Sequence[Code]) -> str:
    """The machines that the file has kernels for where it is compiled, the best first."""
    lines = ["constexpr const machine_code* kMachines[] = {"]
    for condition, group in groupby(codes, key=lambda c: c.condition):
        rows = [f"    &{c.machine}::kCode," for c in group]
        lines += [f"#if {condition}", *rows, "#endif"] if condition else rows
    lines += ["    nullptr};"]
    processors = [c for c in codes if not c.device]
    conditions = list(dict.fromkeys(c.condition for c in processors))
    if "" not in conditions:
        lines = [
            f"#if !({' || '.join(conditions)})",
            '#error "this file has no kernels for this processor; build it for that machine too (--machine)"',
            "#endif",
            *lines,
        ]
    names = ", ".join(c.machine for c in processors)
    return "\n".join([*lines, f'#define @NAME@_CPU_NEEDED "what one of these needs: {names}"'])


_MACROS = {
    "dotprod": "__ARM_FEATURE_DOTPROD",
    "i8mm": "__ARM_FEATURE_MATMUL_INT8",
    "fp16": "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC",
    "v": "__riscv_vector",
}
"""By extension of Arm and RISC-V, whose instructions are named by architecture: arch=armv8.2-a+dotprod."""


def _macros(instructions: str) -> list[str]:
    """The macros that compilers define where they may use sets of instructions."""
    if instructions.startswith("arch="):
        return [_MACROS[extension] for extension in instructions.split("+")[1:]]
    return [f"__{instructions.upper().replace('.', '_')}__"]


def _allowed(text: str, instructions: Iterable[str]) -> str:
    """The text as if the instructions' macros were defined: Clang does not define them for a part of a file."""
    macros = {m for i in instructions for m in _macros(i)}

    def known(match: re.Match[str]) -> str:
        return "1" if match[1] in macros else match[0]

    return re.sub(r"\bdefined\((__\w+)\)", known, re.sub(r"@NAME@_ALLOWED\((__\w+__)\)", _one(macros), text))


def _one(macros: set[str]) -> Callable[[re.Match[str]], str]:
    return lambda match: "1u" if match[1] in macros else match[0]


def _opened(instructions: Sequence[str]) -> list[str]:
    if not instructions:
        return []
    names = ",".join(instructions)
    return [
        "#if defined(__clang__)\n"
        f'#pragma clang attribute push(__attribute__((target("{names}"))), apply_to = function)\n'
        "#else\n"
        "#pragma GCC push_options\n"
        f'#pragma GCC target("{names}")\n'
        "#endif"
    ]


def _closed(instructions: Sequence[str]) -> list[str]:
    if not instructions:
        return []
    return ["#if defined(__clang__)\n#pragma clang attribute pop\n#else\n#pragma GCC pop_options\n#endif"]
