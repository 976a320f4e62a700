"""What is emitted for small models, to be read: tests/golden/ holds the memory, kernels and steps of each file.

Each is compiled, run and compared with onnxruntime before its text is compared. After a change that is meant to change
emitted code, ``pytest tests/test_golden.py --update-golden`` writes the texts anew; the difference is to be reviewed.
"""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Callable
from pathlib import Path

import nets
import numpy as np
import onnx
import onnxruntime
import processes
import pytest
from conftest import DIGITS, requires_tool
from onnx import ModelProto, helper

from dlpack.amalgamate.document import Provenance, emit_source
from dlpack.kernels.backend import Layer
from dlpack.plan.compiler import compile_graph
from dlpack.plan.program import Program
from dlpack.runtime_c import read_runtime
from dlpack.stages.prepare import clean_graph
from dlpack.targets.base import processor_code
from dlpack.targets.cpu.machine import AVX2, SCALAR, WASM, Machine
from dlpack.targets.cpu.schedule import CpuBackend

GOLDEN = Path(__file__).parent / "golden"
MACHINES = {"avx2": AVX2, "wasm": WASM, "scalar": SCALAR}
GPU_LANGUAGES = ("cuda", "wgsl")
"""Of the texts that test_golden_gpu.py compares."""
HEAD = "// Sections of the file that dlpack emits; written by pytest tests/test_golden.py --update-golden\n"


def attention() -> ModelProto:
    """One head of attention over 5 tokens of 16 numbers, with a residual and a normalisation."""
    node = helper.make_node
    return nets.model(
        [
            node("MatMul", ["tokens", "wq"], ["q"], "query"),
            node("MatMul", ["tokens", "wk"], ["k"], "key"),
            node("Transpose", ["k"], ["turned"], "turn", perm=[0, 2, 1]),
            node("MatMul", ["q", "turned"], ["scores"], "scores"),
            node("Softmax", ["scores"], ["attention"], "softmax", axis=-1),
            node("MatMul", ["attention", "tokens"], ["mixed"], "mix"),
            node("Add", ["mixed", "tokens"], ["residual"], "residual"),
            node("LayerNormalization", ["residual", "gamma", "beta"], ["y"], "norm", axis=-1),
        ],
        {"tokens": (1, 5, 16)},
        {"y": (1, 5, 16)},
        weights(5, wq=(16, 16), wk=(16, 16), gamma=(16,), beta=(16,)),
    )


def winograd() -> ModelProto:
    """A 3x3 convolution of 8 channels with a bias and Relu."""
    conv = helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    relu = helper.make_node("Relu", ["c"], ["y"], "relu")
    shape = {"x": (1, 8, 6, 5)}
    return nets.model([conv, relu], shape, {"y": (1, 8, 6, 5)}, weights(6, w=(8, 8, 3, 3), b=(8,)))


def weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


MODELS: dict[str, Callable[[], ModelProto]] = {
    "digits": lambda: onnx.load(DIGITS),
    "attention": attention,
    "winograd": winograd,
}


def compiled(name: str, machine: Machine) -> Program:
    """The program of a model; the convolution of `winograd` by F(2x2, 3x3), small as it is, where there are vectors."""
    _, graph = clean_graph(MODELS[name](), {})
    return compile_graph(graph, name, SmallTiles(machine), winograd=name == "winograd" and machine.lanes > 1)


class SmallTiles(CpuBackend):
    """A backend that uses F(2x2, 3x3) for every 3x3 convolution."""

    def winograd_tile(self, layer: Layer) -> int:
        return 2


def emitted(program: Program, machine: Machine) -> str:
    code = processor_code(machine, program)
    return emit_source([code], read_runtime(), Provenance("", "", "", "", "", ""), True, ())


def section(text: str, name: str) -> str:
    """A section of an emitted file, from its banner to the next one's."""
    found = re.search(rf"^// =+\n// \[{name}\](.|\n)*?(?=^// =+\n// \[)", text, re.MULTILINE)
    assert found, name
    return found.group()


def golden_text(text: str) -> str:
    """The sections of an emitted file that hang on the model, without what all files have in common."""
    memory, common = section(text, "MEMORY"), read_runtime()["predictor.h"].strip().splitlines()[0]
    return HEAD + memory[: memory.index(common)] + section(text, "KERNELS") + section(text, "RUN").rstrip() + "\n"


def run(library: Path, program: Program, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a compiled file, through its C functions."""
    api, name = ctypes.CDLL(str(library)), program.name
    predictor = ctypes.c_void_p()

    def call(function: str, *arguments: object) -> None:
        assert getattr(api, f"{name}_{function}")(*arguments) == 0, function

    none, zero = ctypes.c_void_p(), ctypes.c_size_t()
    call("create", ctypes.byref(predictor), none, zero, none, zero)
    for k, t in enumerate(program.inputs):
        data = np.ascontiguousarray(inputs[t.name])
        call("set_input", predictor, k, data.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(data.nbytes))
    call("run", predictor)
    outputs = [np.zeros(t.shape, t.dtype) for t in program.outputs]
    for k, out in enumerate(outputs):
        call("get_output", predictor, k, out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(out.nbytes))
    getattr(api, f"{name}_destroy")(predictor)
    return outputs


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", MODELS)
def test_emitted_code_computes_what_onnxruntime_does_and_reads_as_before(
    tmp_path: Path, request: pytest.FixtureRequest, name: str, machine: str
) -> None:
    program = compiled(name, MACHINES[machine])
    text = emitted(program, MACHINES[machine])
    source, library = tmp_path / f"{name}.cc", tmp_path / f"{name}.so"
    source.write_text(text, encoding="utf-8")
    arch = ["-march=x86-64"] if platform.machine() == "x86_64" else []
    words = [requires_tool("g++"), "-std=c++17", "-O1", *arch, "-Wall", "-Wextra", "-Wshadow", "-Werror", "-Wno-psabi"]
    processes.run([*words, "-shared", "-fPIC", source, "-o", library], check=True)
    model = MODELS[name]()
    generator = np.random.default_rng(7)
    inputs = {t.name: generator.uniform(-1, 1, t.shape).astype(t.dtype) for t in program.inputs}
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
    for out, right in zip(run(library, program, inputs), expected, strict=True):
        np.testing.assert_allclose(out, right, rtol=1e-4, atol=1e-5)

    golden = GOLDEN / f"{name}-{machine}.txt"
    if request.config.getoption("--update-golden"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(golden_text(text), encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == golden_text(text)


def test_a_golden_for_each_model_and_machine_and_no_other() -> None:
    kinds = (*MACHINES, *GPU_LANGUAGES)
    assert {p.stem for p in GOLDEN.iterdir()} == {f"{name}-{kind}" for name in MODELS for kind in kinds}


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda p: p.stem)
def test_kernels_can_be_read(path: Path) -> None:
    """No line of a kernel is longer than a page is wide, but of shaders, which are downloaded; no bracket stands twice,
    no statement is empty."""
    text = path.read_text(encoding="utf-8")
    kernels = text.partition("[KERNELS]")[2].partition("// [RUN]")[0] or text
    assert path.stem.endswith("-wgsl") or [line for line in kernels.splitlines() if len(line) > 120] == []
    assert doubled(kernels) == []
    assert not re.search(r"^\s*;", kernels, re.MULTILINE)


def doubled(text: str) -> list[str]:
    """What stands in two pairs of parentheses."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for k, c in enumerate(text):
        if c == "(":
            opened.append(k)
        elif c == ")" and opened:
            pairs[opened.pop()] = k
    return [text[a : b + 1] for a, b in pairs.items() if pairs.get(a + 1) == b - 1]


def test_doubled_parentheses_are_found() -> None:
    assert doubled("y[((i % 4) / 2)] = x((i)) + (a) * (b)") == ["((i))"]
