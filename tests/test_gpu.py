"""Kernels of GPUs without a GPU: their CUDA C is compiled for this computer and run, thread by thread, in three orders
of the threads (`gpu_text`, cuda_on_host.h), and compared with onnxruntime."""

from __future__ import annotations

import re
import sys
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
from dlpack.plan.program import Program
from dlpack.runtime_c import read_runtime
from dlpack.stages.prepare import clean_graph
from dlpack.targets.gpu.cuda import CudaPrinter, device_functions
from dlpack.targets.gpu.launch import launch_of
from dlpack.targets.gpu.machine import GPUS, SM_53, SM_90, Gpu


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
    ("name", "gpu"), [("normal", SM_53), ("product", SM_53), ("product", SM_90), ("vector", SM_53)]
)
def test_every_barrier_and_every_guard_of_a_store_is_needed(tmp_path: Path, name: str, gpu: Gpu) -> None:
    """Without it, the run on this computer gives something else: what it would let pass is not there."""
    model = MODELS[name]()
    program = compiled_for(graph_of(model), gpu)
    text = str(cuda_text(program))
    inputs = inputs_of(program)
    want = expected(model, inputs)
    barriers = [(m, "") for m in re.finditer(r"__syncthreads\(\);", text)]
    guards = [(m, "if (true) {") for m in re.finditer(r"if \([^{;]*\) \{(?=[^{}]*\by\[[^{}]* = )", text)]
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
