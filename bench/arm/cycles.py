"""Cycles of the innermost product loops of a bundle's kernels, by llvm-mca's models of processors."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.arm.emulated import Machine, assembly

ITERATIONS = 100

_LABEL = re.compile(r"(\.?\w+):")
_BRANCH = re.compile(r"\s+(?:b\.\w+|cbn?z|tbn?z)\s+(?:\w+,\s*)?(?:#\d+,\s*)?(\.\w+)")
_KERNEL = re.compile(r"_GLOBAL__N_1(?=\d+)\d+?(k\d\d+_[a-z_0-9]*[a-z0-9])E")
"""In a function's mangled name."""


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions, the branch back the last, how many of them are FMAs of vectors, and the
    kernel that it is of."""

    lines: tuple[str, ...]
    fmas: int
    kernel: str

    @property
    def share(self) -> float:
        return self.fmas / len(self.lines)


def product_loops(text: str) -> list[Loop]:
    """The innermost loops of AArch64 assembly in which every fourth instruction is an FMA; equal ones once."""
    found: dict[str, Loop] = {}
    for kernel, lines in _innermost(text.splitlines()):
        fmas = sum(line.startswith(("fmla", "vfma", "vmla")) for line in lines)
        if fmas >= 12 and fmas > len(lines) / 4:
            same = re.sub(r"#-?\d+|\.\w+", "", "\n".join(lines))
            found.setdefault(same, Loop(tuple(lines), fmas, kernel))
    return sorted(found.values(), key=lambda loop: -loop.fmas)


def _innermost(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The innermost loops, with the kernel that each is of ("": the compiler has put it into another function)."""
    labels: dict[str, int] = {}
    kernel = ""
    for number, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = number
            if not label[1].startswith("."):
                named = _KERNEL.search(label[1])
                kernel = named[1] if named else ""
        branch = _BRANCH.match(line)
        if branch is None or branch[1] not in labels:
            continue
        body = [x.split("//")[0].strip() for x in lines[labels[branch[1]] + 1 : number + 1] if x.startswith("\t")]
        body = [x for x in body if x and not x.startswith(".")]
        if not any(re.match(r"b[. ]|b\t|cbn?z|tbn?z|ret", x) for x in body[:-1]):
            yield kernel, body


def cycles(loop: Loop, cpu: str, mca: Sequence[str]) -> float:
    """Cycles of a trip on LLVM's `cpu`; `mca` is the command of llvm-mca. Raises CalledProcessError."""
    text = ".loop:\n" + "\n".join(re.sub(r"\.LBB\w+", ".loop", line) for line in loop.lines)
    command = [*mca, "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
    told = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    total = re.search(r"Total Cycles:\s+(\d+)", told)
    assert total is not None, told
    return int(total[1]) / ITERATIONS


def table(bundle: Path, machine: Machine, cpus: Sequence[str], mca: Sequence[str]) -> list[str]:
    """Rows of Markdown: for each loop its kernel, its instructions and FMAs, and FMAs per cycle on each of `cpus`."""
    rows = []
    for loop in product_loops(assembly(bundle, machine)):
        speeds = [f"{loop.fmas / cycles(loop, cpu, mca):.2f}" for cpu in cpus]
        rows.append(f"| {' | '.join([bundle.name, loop.kernel, str(len(loop.lines)), str(loop.fmas), *speeds])} |")
    return rows
