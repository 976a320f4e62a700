"""Kernels of GPUs without a GPU: their CUDA C is compiled for this computer and run, thread by thread, in three orders
of the threads (`gpu_text`, cuda_on_host.h), and compared with onnxruntime."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import nets
import numpy as np
import onnx
import onnxruntime
import processes
import pytest
from conformance.cases import find
from conformance.gpu import outcome
from conftest import DIGITS, ROOT, requires_module
from gpu_models import check, written_into
from gpu_text import Runner, compile_for_host, compiled_for, cuda_text, errors
from onnx import ModelProto, helper
from test_packed_weights import product, quantised

from dlpack.amalgamate.document import OF_STEPS
from dlpack.amalgamate.runtime import sections
from dlpack.graph.ir import Graph
from dlpack.kernels.backend import Layer
from dlpack.plan.compiler import compile_graph
from dlpack.plan.program import Program
from dlpack.runtime_c import read_runtime
from dlpack.stages.prepare import clean_graph
from dlpack.targets.cpu.winograd import error_bound
from dlpack.targets.gpu.cuda import CudaPrinter, device_functions
from dlpack.targets.gpu.launch import launch_of
from dlpack.targets.gpu.machine import GPUS, SM_53, SM_90, Gpu
from dlpack.targets.gpu.schedule import GpuBackend
from dlpack.targets.gpu.winograd import choose_winograd


def recurrent_net() -> ModelProto:
    """An LSTM of 24 states over 5 steps of 16 numbers, both ways."""
    weights = {"w": (2, 96, 16), "r": (2, 96, 24), "b": (2, 192)}
    random = np.random.default_rng(3)
    values = {n: random.uniform(-0.3, 0.3, s).astype(np.float32) for n, s in weights.items()}
    node = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=24, direction="bidirectional")
    return nets.model([node], {"x": (5, 1, 16)}, {"y": (5, 2, 1, 24)}, values)


def mobile_net() -> ModelProto:
    """An inverted residual: a pointwise convolution, a depthwise one with a stride of 1, and a pointwise one."""
    random = np.random.default_rng(4)
    shapes = {"w0": (48, 16, 1, 1), "w1": (48, 1, 3, 3), "w2": (16, 48, 1, 1)}
    values = {n: random.uniform(-0.5, 0.5, s).astype(np.float32) for n, s in shapes.items()}
    values |= {"low": np.float32(0), "high": np.float32(6)}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0"], ["a"]),
        node("Clip", ["a", "low", "high"], ["b"]),
        node("Conv", ["b", "w1"], ["c"], group=48, pads=[1, 1, 1, 1]),
        node("Clip", ["c", "low", "high"], ["d"]),
        node("Conv", ["d", "w2"], ["e"]),
        node("Add", ["e", "x"], ["y"]),
    ]
    return nets.model(nodes, {"x": (1, 16, 14, 14)}, {"y": (1, 16, 14, 14)}, values)


def softmax_net() -> ModelProto:
    """Softmax over rows of 300, which the warps of a block share."""
    return nets.model([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], {"x": (3, 300)}, {"y": (3, 300)})


def normal_net() -> ModelProto:
    """The normalisation of rows of 300: two sums, one after the other."""
    values = {"scale": np.ones(300, np.float32), "bias": np.full(300, 0.5, np.float32)}
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1)
    return nets.model([node], {"x": (3, 300)}, {"y": (3, 300)}, values)


def pairs_net() -> ModelProto:
    """Softmax over the last dimension of 2, as detectors have it: a thread takes a row."""
    return nets.model([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], {"x": (1, 700, 2)}, {"y": (1, 700, 2)})


def product_net() -> ModelProto:
    """A product whose rows, columns and steps fill no tile, with a bias."""
    random = np.random.default_rng(5)
    values = {"w": random.uniform(-0.5, 0.5, (70, 44)).astype(np.float32), "b": np.ones(44, np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    return nets.model(nodes, {"x": (19, 70)}, {"y": (19, 44)}, values)


def shared_net() -> ModelProto:
    """Products of one row and of nine rows, whose long reductions several blocks of a large GPU share."""
    random = np.random.default_rng(6)
    shapes = {"w": (1024, 44), "v": (1024, 44)}
    values = {n: random.uniform(-0.5, 0.5, s).astype(np.float32) for n, s in shapes.items()}
    values["b"] = random.uniform(-0.5, 0.5, 44).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("MatMul", ["z", "v"], ["r"]),
        helper.make_node("Relu", ["r"], ["s"]),
    ]
    return nets.model(nodes, {"x": (9, 1024), "z": (1, 1024)}, {"q": (9, 44), "s": (1, 44)}, values)


def written_net() -> ModelProto:
    """The largest of rows, sums along both axes, a scatter whose places may be equal: loops that operators wrote."""
    random = np.random.default_rng(7)
    values = {"k": np.array([5]), "zero": np.array(0), "one": np.array(1), "places": random.integers(0, 40, (40, 33))}
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["largest", "where"], axis=-1),
        helper.make_node("CumSum", ["x", "zero"], ["down"]),
        helper.make_node("CumSum", ["down", "one"], ["sums"], exclusive=1, reverse=1),
        helper.make_node("ScatterElements", ["x", "places", "sums"], ["spread"], axis=0, reduction="add"),
    ]
    return nets.model(nodes, {"x": (40, 33)}, {"largest": (40, 5), "sums": (40, 33), "spread": (40, 33)}, values)


def heads_net(queries: int = 40, keys: int = 50, size: int = 16, mask: bool = True) -> ModelProto:
    """Attention of two heads, with a mask, whose result is laid out for what comes after."""
    node = helper.make_node
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], ["s0"]),
        node("Div", ["s0", "root"], ["s1"]),
        *([node("Add", ["m", "s1"], ["s2"])] if mask else []),
        node("Softmax", ["s2" if mask else "s1"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["a0"]),
        node("Tanh", ["a0"], ["a1"]),
        node("Transpose", ["a1"], ["a2"], perm=[0, 2, 1, 3]),
        node("Reshape", ["a2", "flat"], ["y"]),
    ]
    values = {"root": np.float32(size**0.5), "flat": np.array([1, queries, 2 * size])}
    inputs = {"q": (1, 2, queries, size), "k": (1, 2, keys, size), "v": (1, 2, keys, size)}
    inputs |= {"m": (1, 1, 1, keys)} if mask else {}
    return nets.model(nodes, inputs, {"y": (1, queries, 2 * size)}, values)


MODELS = {
    "digits": lambda: onnx.load(DIGITS),
    "attention": nets.attention_net,
    "convolutions": nets.conv_net,
    "large convolutions": nets.winograd_net,
    "vector": nets.wide_net,
    "recurrent": recurrent_net,
    "mobile": mobile_net,
    "softmax": softmax_net,
    "normal": normal_net,
    "pairs": pairs_net,
    "product": product_net,
    "shared": shared_net,
    "written": written_net,
    "heads": heads_net,
}
ORDERS = {"f": "forward", "b": "backward", "s": "shuffled"}


def graph_of(model: ModelProto) -> Graph:
    _, graph = clean_graph(model, {})
    return graph


def inputs_of(program: Program) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {t.name: generator.uniform(-1, 1, t.shape).astype(t.dtype) for t in program.inputs}


def expected(model: ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


@pytest.mark.parametrize("gpu", [SM_53, SM_90], ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("name", MODELS)
def test_the_text_computes_what_onnxruntime_does_in_every_order_of_threads(tmp_path: Path, name: str, gpu: Gpu) -> None:
    model = MODELS[name]()
    program = compiled_for(graph_of(model), gpu)
    library = compile_for_host(program, str(cuda_text(program)), tmp_path)
    inputs = inputs_of(program)
    want = expected(model, inputs)
    for order in ORDERS:
        runner = Runner(program, library, order)
        assert max(errors(runner.run(inputs), want)) < 1e-5, ORDERS[order]
        assert runner.faults == 0 and not runner.overrun, ORDERS[order]


def test_blocks_share_long_reductions_where_they_are_few() -> None:
    """Each such product is two launches, the second of which adds up."""
    many = compiled_for(graph_of(shared_net()), SM_90)
    assert len(many.steps) == len(many.kernels) == 4
    for first, second in zip(many.kernels[::2], many.kernels[1::2], strict=True):
        assert "blocks share the reduction" in first.schedule and first.macs and not second.macs
        assert launch_of(first.kernel).grid[2] > 1 and launch_of(second.kernel).shared == 0
        assert [p.name for p in first.kernel.params] == ["x", "w"]


class Winograd(GpuBackend):
    """A GPU on which every convolution that may be is Winograd's F(m x m, 3x3)."""

    def __init__(self, gpu: Gpu, m: int) -> None:
        super().__init__(gpu)
        self.m = m

    def winograd_tile(self, layer: Layer) -> int:
        return 0 if layer.outputs % 4 or layer.inputs < 4 else self.m


def tiled_net() -> ModelProto:
    """3x3 convolutions of 16 and 20 channels whose outputs no tile divides, a residual, and one of 3 channels."""
    random = np.random.default_rng(8)
    shapes = {"w": (20, 16, 3, 3), "v": (20, 20, 3, 3), "u": (16, 3, 3, 3)}
    values = {n: random.uniform(-0.3, 0.3, s).astype(np.float32) for n, s in shapes.items()}
    values["b"] = random.uniform(-1, 1, 20).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "u"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "v"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["e", "d"], ["y"]),
    ]
    return nets.model(nodes, {"x": (2, 3, 9, 10)}, {"y": (2, 20, 9, 10)}, values)


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_in_three_launches(tmp_path: Path, m: int) -> None:
    """Its error is within the bound that machines choose it by; a removed barrier is seen."""
    model = tiled_net()
    program = compile_graph(graph_of(model), "net", Winograd(SM_53, m))
    kernels = [k for k in program.kernels if "WinogradConvolution" in k.title]
    assert len(kernels) == 6 and [bool(k.macs) for k in kernels] == [False, True, False] * 2
    assert f"Winograd F({m}x{m}, 3x3)" in kernels[0].schedule
    inputs, text = inputs_of(program), str(cuda_text(program))
    want = expected(model, inputs)
    library = compile_for_host(program, text, tmp_path)
    for order in ORDERS:
        runner = Runner(program, library, order)
        assert max(errors(runner.run(inputs), want)) < 10 * error_bound(m, 20) and not runner.faults, ORDERS[order]
        assert not runner.overrun
    start = text.index(f"void __launch_bounds__({launch_of(kernels[1].kernel).block[0]}) {kernels[1].name}(")
    barrier = text.index("__syncthreads();", start)
    mutant = text[:barrier] + text[barrier + len("__syncthreads();") :]
    assert seen(program, mutant, tmp_path, inputs, want)


def test_winograd_is_chosen_by_the_cost_model_of_each_gpu() -> None:
    """Where pixels and channels are many; not where weights are read as they are in the file, which is on WebGPU."""
    large, late, small = (Layer(1, c, c, n, n) for c, n in ((64, 56), (512, 7), (16, 14)))
    tiles = {gpu.name: [choose_winograd(gpu, x) for x in (large, late, small)] for gpu in GPUS.values()}
    assert tiles["sm_53"] == [4, 0, 0] and tiles["sm_90"] == [4, 2, 0] and tiles["webgpu"] == [0, 0, 0]
    assert choose_winograd(SM_53, replace(large, outputs=63)) == 0  # outputs fill no vectors
    assert choose_winograd(SM_53, replace(large, inputs=1 << 16)) != 4  # the error would be too large


def test_attention_is_one_launch(tmp_path: Path) -> None:
    """Where heads are small enough for registers, and there are queries and keys enough; the scores may be far apart,
    and masked by minus infinity."""
    model = heads_net(33, 70, 64, mask=True)
    program = compiled_for(graph_of(model), SM_53)
    assert program.kernels[0].title.startswith("FusedAttention + Tanh: ")
    inputs = inputs_of(program)
    inputs["q"] *= 100
    inputs["m"] = np.where(np.arange(70) % 3, 0, -np.inf).astype(np.float32).reshape(1, 1, 1, 70)
    want = expected(model, inputs)
    library = compile_for_host(program, str(cuda_text(program)), tmp_path)
    for order in ORDERS:
        runner = Runner(program, library, order)
        assert max(errors(runner.run(inputs), want)) < 1e-5 and not runner.faults and not runner.overrun
    for other in (heads_net(4), heads_net(keys=8), heads_net(size=256), heads_net(size=15)):
        assert not any("FusedAttention" in k.title for k in compiled_for(graph_of(other), SM_53).kernels)


def test_weights_that_the_file_holds_in_few_bits(tmp_path: Path) -> None:
    node, constants, w, _ = quantised("uint4", "block")
    program = compiled_for(graph_of(onnx.load(product([node], constants, tmp_path / "packed.onnx"))), SM_53)
    runner = Runner(program, compile_for_host(program, str(cuda_text(program)), tmp_path))
    inputs = inputs_of(program)
    assert max(errors(runner.run(inputs), [inputs["x"] @ w])) < 1e-6


def test_small_models_of_the_zoo(tmp_path: Path) -> None:
    """Within what a Jetson TX1 has, too. ``script/gpu check`` runs all fifteen."""
    requires_module("torch"), requires_module("nvidia.cuda_nvrtc")
    names = ("mlp", "lenet5", "lstm", "bert_2x128", "mf")
    processes.run([sys.executable, "-m", "bench.models", tmp_path, *names], check=True, cwd=ROOT)
    assert [n for n in names if not check(tmp_path / f"{n}.onnx", SM_53, True)] == []


def test_trained_models(models_dir: Path) -> None:
    requires_module("nvidia.cuda_nvrtc")
    for name in ("squeezenet1.1/squeezenet1.1", "mnist-cntk/mnist-cntk"):
        assert check(models_dir / "onnx" / f"{name}.onnx", SM_53, True), name


def test_rows_that_shared_memory_cannot_hold_are_computed_again(tmp_path: Path) -> None:
    model = nets.model([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], {"x": (2, 5000)}, {"y": (2, 5000)})
    program = compiled_for(graph_of(model), SM_53)
    (kernel,) = program.kernels
    assert kernel.schedule.startswith("a block per row") and launch_of(kernel.kernel).shared == 0
    inputs = inputs_of(program)
    runner = Runner(program, compile_for_host(program, str(cuda_text(program)), tmp_path))
    assert max(errors(runner.run(inputs), expected(model, inputs))) < 1e-5


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_launches_keep_within_the_limits(gpu: Gpu) -> None:
    for make in MODELS.values():
        for k in compiled_for(graph_of(make()), gpu).kernels:
            launch = launch_of(k.kernel)
            assert launch.shared <= gpu.shared_bytes and launch.block[0] <= gpu.threads
            assert launch.grid[1] <= 65535 and launch.grid[2] <= 65535


def seen(program: Program, text: str, folder: Path, inputs: dict[str, np.ndarray], want: list[np.ndarray]) -> bool:
    """Whether one of the orders of threads shows that a text is wrong."""
    library = compile_for_host(program, text, folder, f"mutant{len(list(folder.iterdir()))}")
    for order in ORDERS:
        runner = Runner(program, library, order)
        if max(errors(runner.run(inputs), want)) > 1e-4 or runner.faults or runner.overrun:
            return True
    return False


@pytest.mark.parametrize(
    ("name", "gpu"),
    [("normal", SM_53), ("product", SM_53), ("product", SM_90), ("vector", SM_53), ("shared", SM_90), ("heads", SM_90)],
)
def test_every_barrier_and_every_guard_of_a_store_is_needed(tmp_path: Path, name: str, gpu: Gpu) -> None:
    """Without it, the run on this computer gives something else: what it would let pass is not there."""
    model = MODELS[name]()
    program = compiled_for(graph_of(model), gpu)
    text = str(cuda_text(program))
    inputs = inputs_of(program)
    want = expected(model, inputs)
    barriers = [(m, "") for m in re.finditer(r"__syncthreads\(\);", text)]
    guards = [
        (m, "if (true) {") for m in re.finditer(r"if \([^{;]*\) \{(?=[^{}]*(?:\by\[[^{}]* = |four_out\[4\]))", text)
    ]
    assert barriers
    for mutation, instead in barriers + guards:
        mutant = text[: mutation.start()] + instead + text[mutation.end() :]
        assert seen(program, mutant, tmp_path, inputs, want), text[: mutation.end()].splitlines()[-1]


def test_a_models_row_replaces_the_one_before() -> None:
    page = "text\n\n<!-- paper -->\n\n| model | ms |\n|---|--:|\n| a | 1 |\n| b | 2 |\n\nmore\n"
    page = written_into(written_into(page, "paper", ["a", "", "3"]), "paper", ["c", "4"])
    assert page.endswith("|---|--:|\n| a | | 3 |\n| b | 2 |\n| c | 4 |\n\nmore\n")


def test_all_device_functions_compile_for_every_architecture() -> None:
    requires_module("nvidia.cuda_nvrtc")
    from dlpack.targets.gpu.nvrtc import compile_images

    runtime = read_runtime()
    names = {name for file in ("maths.h", "values.h") for name in sections([runtime[file]])}
    printer = CudaPrinter()
    printer.functions = names - set(OF_STEPS)
    called = "exp log sin tan pow erf tanh asin atanh round".split()
    calls = [f"y[{i}] = {f}_(x[{i}]{', x[0]' if f == 'pow' else ''});" for i, f in enumerate(called)]
    calls.append("y[20] = requantized_(int(x[1]), x[2], x[3]);")
    calls.append("y[21] = requantized_byte_(int(x[1]), x[2], x[3], x[4], x[5], x[6]);")
    kernel = 'extern "C" __global__ void k(const float* x, float* y) { ' + " ".join(calls) + " }"
    images = compile_images(f"{device_functions(printer)}\n{kernel}\n", ["sm_53", "sm_90", "compute_53"])
    assert [image.name for image in images] == ["sm_53", "sm_90", "compute_53"]


NODE_TESTS = (
    "argmax_default_axis_example cast_FLOAT_to_FLOAT16 cumsum_1d einsum_batch_matmul gru_defaults "
    "instancenorm_example layer_normalization_4d_axis1 matmulinteger mod_mixed_sign_int64 pow qlinearconv "
    "reduce_log_sum_exp_default_axes_keepdims_example resize_upsample_sizes_nearest "
    "scatter_elements_with_axis sin softmax_axis_1 top_k"
).split()


@pytest.mark.parametrize("name", NODE_TESTS)
def test_node_tests_of_every_rule_and_many_types(tmp_path: Path, name: str) -> None:
    """A sample; ``python -m conformance.gpu`` runs them all."""
    (case,) = find([f"test_{name}"])
    assert outcome(case, tmp_path) == "right"
