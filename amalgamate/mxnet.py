"""[MXNET API]: MXNet's functions, the files of MXNet that they accept, and which step computes which output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlpack.amalgamate.machines import Code
from dlpack.amalgamate.text import banner
from dlpack.errors import ModelError
from dlpack.plan.program import Address, CallStep, CopyStep, HaloStep, LoopStep, Program, ShapeSet, Step


@dataclass(frozen=True)
class File:
    """A file of the model that was exported: its size in bytes and its SHA-256, as 64 hexadecimal digits."""

    size: int
    sha256: str


@dataclass(frozen=True)
class MxnetApi:
    """What MXNet's API is to accept and to give.

    `params` and `symbol` are the files that programs for MXNet pass; None: the model has none, or (the symbol alone)
    it is not known how its text was written. The first `outputs` outputs are the model's own, the others inner values.
    """

    outputs: int
    params: File | None = None
    symbol: File | None = None


def mxnet_api(metadata: Mapping[str, str], outputs: int) -> MxnetApi:
    """For a model with this ONNX metadata, whose key `dlpack.mxnet` is about MXNet's files: JSON, "params" and "symbol"
    (or null) → {"bytes", "sha256"}. Raises ModelError for what is not so."""
    if "dlpack.mxnet" not in metadata:
        return MxnetApi(outputs)
    try:
        value = json.loads(metadata["dlpack.mxnet"])
        symbol = None if value["symbol"] is None else _file(value["symbol"])
        return MxnetApi(outputs, _file(value["params"]), symbol)
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise ModelError("the model's metadata key dlpack.mxnet is not about MXNet's files: export it again") from e


def _file(value: Any) -> File:
    size, digest = value["bytes"], value["sha256"]
    if type(size) is not int or not 0 < size < 1 << 63 or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError
    return File(size, digest)


def mxnet_text(runtime: Mapping[str, str], codes: Sequence[Code], api: MxnetApi) -> list[str]:
    """The section."""
    about = "compile with -D@NAME@_MXNET_API to get the functions of MXNet's c_predict_api.h"
    tables = "\n".join([*_files(api), f"constexpr int32_t kMxOwnOutputs = {api.outputs};", "", *_output_steps(codes)])
    return [
        banner("MXNET API", about),
        runtime["mxnet.h"].strip().replace("@mxnet_tables@", tables),
        runtime["mxnet_lists.h"].strip(),
        runtime["mxnet_api.h"].strip(),
    ]


def _files(api: MxnetApi) -> list[str]:
    if api.params is None:
        return []
    lines = ["// The files that the model was built from: their sizes, 0 for one that is not known, and SHA-256."]
    for name, file in (("Symbol", api.symbol or File(0, "00" * 32)), ("Params", api.params)):
        digest = [f"0x{b:02x}" for b in bytes.fromhex(file.sha256)]
        rows = ",\n    ".join(", ".join(digest[i : i + 16]) for i in (0, 16))
        lines.append(f"constexpr size_t kMx{name}Bytes = {file.size};")
        lines.append(f"constexpr uint8_t kMx{name}Digest[32] = {{\n    {rows}}};")
    return lines


def _output_steps(codes: Sequence[Code]) -> list[str]:
    """A function that says which step of a predictor completes an output; -1 where no step is needed."""
    sets = len(codes[0].program.shape_sets)
    lines = [
        "// The step that completes an output of the model; -1: none is needed.",
        "int32_t mx_output_step([[maybe_unused]] const @name@_predictor* p, int32_t output) {",
    ]
    for code in codes:
        rows = [", ".join(map(str, last_writes(code.program, v))) for v in code.program.shape_sets]
        table, at = "steps" if len(codes) == 1 else f"steps_{code.machine}", "p->set" if sets > 1 else "0"
        lines.append(f"  static constexpr int32_t {table}[{sets}][{len(codes[0].program.outputs)}] = {{")
        lines += [f"      {{{row}}}," for row in rows]
        lines.append("  };")
        given = f"return {table}[{at}][output];"
        lines.append(
            "  " + (given if len(codes) == 1 else f'if (strcmp(p->code->name, "{code.machine}") == 0) {given}')
        )
    return [*lines, *(["  return -1;"] if len(codes) > 1 else []), "}"]


def last_writes(program: Program, variant: ShapeSet) -> list[int]:
    """For each output the number of the last step that writes to it, -1 without one."""
    written = {k.name: [p.written for p in k.kernel.params] for k in program.kernels}
    last = [-1] * len(variant.outputs)
    for number, step in enumerate(variant.steps):
        for target in _targets(step, written):
            if target.space == "output":
                last[target.index] = number
    return last


def _targets(step: Step, written: Mapping[str, Sequence[bool]]) -> Iterator[Address]:
    if isinstance(step, CallStep):
        yield from (ref for ref, writes in zip(step.arguments, written[step.kernel], strict=False) if writes)
    elif isinstance(step, HaloStep | CopyStep):
        yield step.target
    elif isinstance(step, LoopStep):
        for inner in step.body:
            yield from _targets(inner, written)
