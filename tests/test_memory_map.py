"""The memory map of the emitted file: every block of the arena and of the weights has a name, which the steps use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from test_control_flow import SCAN, parse

from dlpack.amalgamate.document import Provenance, emit_source
from dlpack.graph.ir import TensorType
from dlpack.plan.compiler import Compiler
from dlpack.plan.program import Address, CallStep, CopyStep, HaloStep, LoopStep, Program, Step
from dlpack.runtime_c import read_runtime
from dlpack.stages.prepare import clean_graph
from dlpack.targets.base import processor_code
from dlpack.targets.cpu.machine import AVX2
from dlpack.targets.cpu.schedule import CpuBackend

Programs = Callable[[str], Program]
MODELS = ["digits", "conv_net", "attention_net", "winograd_net", *SCAN]
NAME = re.compile(r"^constexpr size_t ((?:arena|weights|prepared)_\w+) = (\d+);$", re.MULTILINE)


@pytest.fixture(scope="module")
def programs(model_files: dict[str, Path]) -> Programs:
    """``programs(model)``: a model's program, with two threads."""

    def get(name: str) -> Program:
        model = parse(SCAN[name]) if name in SCAN else onnx.load(model_files[name])
        compiler = Compiler("net", CpuBackend(AVX2), threads=2)
        compiler.add(clean_graph(model, {})[1])
        return compiler.program()

    return get


def text_of(program: Program) -> str:
    code = processor_code(AVX2, program)
    return emit_source([code], read_runtime(), Provenance("", "", "", "", "", ""), False, ())


def addresses(steps: tuple[Step, ...], number: int | None = None) -> Iterator[tuple[int, Address]]:
    """The pointers of all steps, each with the number of the step that a run does."""
    for k, step in enumerate(steps):
        k = k if number is None else number
        if isinstance(step, CallStep):
            yield from ((k, a) for a in step.arguments)
        elif isinstance(step, HaloStep):
            yield k, step.target
        elif isinstance(step, CopyStep):
            yield from ((k, step.source), (k, step.target))
        elif isinstance(step, LoopStep):
            yield from addresses(step.body, k)


@pytest.mark.parametrize("model", MODELS)
def test_every_pointer_into_the_arena_is_into_a_block_in_use(programs: Programs, model: str) -> None:
    program = programs(model)
    (shape_set,) = program.shape_sets
    places = {p.key: p for p in shape_set.places}
    assert len(places) == len(shape_set.places)
    used = set()
    for k, a in addresses(shape_set.steps):
        if a.space == "arena" and a.place:
            p = places[a.place]
            used.add(a.place)
            size = TensorType(a.dtype, ()).itemsize
            assert p.first <= k <= p.last and p.offset <= a.offset <= p.offset + p.nbytes - size, (a, p)
    assert used == set(places)
    assert all(p.offset + p.nbytes <= shape_set.arena.size for p in shape_set.places)


@pytest.mark.parametrize("model", ["digits", "conv_net", "attention_net", "winograd_net"])
def test_blocks_in_use_at_the_same_step_do_not_overlap(programs: Programs, model: str) -> None:
    places = programs(model).shape_sets[0].places
    for a in places:
        for b in places:
            together = a.key < b.key and a.first <= b.last and b.first <= a.last
            assert not together or a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset, (a, b)


@pytest.mark.parametrize("model", MODELS)
def test_every_weight_is_on_the_map(programs: Programs, model: str) -> None:
    """The blocks fill the weights, gaps of alignment apart, and name the ONNX tensors that they are made of."""
    program = programs(model)
    at = 0
    for p in sorted(program.weight_places, key=lambda p: p.offset):
        assert 0 <= p.offset - at < 64 and p.values and p.nbytes > 0
        at = p.offset + p.nbytes
    assert at == len(program.weights)
    assert sum(-(-p.nbytes // 64) * 64 for p in program.prepared_places) == program.prepared


@pytest.mark.parametrize("model", MODELS)
def test_the_steps_call_blocks_by_their_names(programs: Programs, model: str) -> None:
    """Names are unique; no step has a bare number for an offset; the same program gives the same text."""
    program = programs(model)
    text = text_of(program)
    names = [name for name, _ in NAME.findall(text)]
    assert len(names) == len(set(names))
    calls = re.findall(r"\b(?:arena|weight|prepared)<\w+>\(p, ([^,)]*)", text)
    assert all(call.split(" ")[0] in names for call in calls), calls
    assert text == text_of(programs(model))


def test_the_map_says_what_lies_where(programs: Programs) -> None:
    text = text_of(programs("digits"))
    assert "// 1,536 bytes, steps 2 to 4: float32[1x6x8x8], dimensions in the order 0 2 3 1; relu1\n" in text
    assert re.search(
        r"// [\d,]+ bytes: float32\[6x1x5x5\].*; conv1.weight\nconstexpr size_t weights_conv1_weight = ", text
    )


def test_names_of_onnx_become_identifiers(programs: Programs) -> None:
    """Slashes, letters that C++ does not have, nothing but signs, signs as the only difference."""
    words = ["/a/b:0", "/a.b_0", "größe", "...", "x" * 200 + "1", "x" * 200 + "2"]
    nodes = []
    for k, word in enumerate(words):
        nodes.append(onnx.helper.make_node("Softmax", ["x" if k == 0 else words[k - 1]], [word]))
    nodes.append(onnx.helper.make_node("Softmax", [words[-1]], ["y"]))
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4, 70]) for n in "xy")
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", [x], [y]), opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    compiler = Compiler("net", CpuBackend(AVX2))
    compiler.add(clean_graph(model, {})[1])
    names = [name for name, _ in NAME.findall(text_of(compiler.program()))]
    assert len(names) == len(set(names)) >= 2
    assert {"arena_a_b_0", "arena_a_b_0_2"} <= set(names)
    assert all(len(name) <= 64 and "__" not in name for name in names)
