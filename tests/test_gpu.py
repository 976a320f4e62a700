"""Kernels of GPUs without a GPU: their CUDA C is compiled for this computer and run, thread by thread, in three orders
of the threads (`gpu_text`, cuda_on_host.h), and compared with onnxruntime."""

from __future__ import annotations

from pathlib import Path

import nets
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import DIGITS
from gpu_text import Runner, compile_for_host, compiled_for, cuda_text, errors
from onnx import ModelProto

from dlpack.graph.ir import Graph
from dlpack.pipeline import clean_graph
from dlpack.plan.program import Program
from dlpack.targets.gpu.launch import launch_of
from dlpack.targets.gpu.machine import GPUS, SM_53, SM_90, Gpu

MODELS = {
    "digits": lambda: onnx.load(DIGITS),
    "attention": nets.attention_net,
    "convolutions": nets.conv_net,
    "large convolutions": nets.winograd_net,
    "vector": nets.wide_net,
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
        assert runner.faults == 0, ORDERS[order]


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_launches_keep_within_the_limits(gpu: Gpu) -> None:
    for make in MODELS.values():
        for k in compiled_for(graph_of(make()), gpu).kernels:
            launch = launch_of(k.kernel)
            assert launch.shared <= gpu.shared_bytes and launch.block[0] <= gpu.threads
            assert launch.grid[1] <= 65535 and launch.grid[2] <= 65535
