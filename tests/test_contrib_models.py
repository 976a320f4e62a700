"""Whole models as onnxruntime's tools write them: optimised, quantised, with weights of 4 bits; built and verified."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import skip_or_fail

import dlpack
from dlpack.options import Options

try:
    import torch
    from onnxruntime import quantization
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.transformers import optimizer
except ImportError:
    skip_or_fail("torch, or a package that onnxruntime.transformers wants, is not installed", whole_file=True)
from torch import nn

LENGTH, HIDDEN, HEADS, WORDS = 8, 32, 4, 50
NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Layer(nn.Module):
    """A layer of BERT, in the words of transformers' that onnxruntime's optimiser looks for."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))
        self.wide, self.narrow = nn.Linear(HIDDEN, 4 * HIDDEN), nn.Linear(4 * HIDDEN, HIDDEN)
        self.norms = nn.ModuleList(nn.LayerNorm(HIDDEN, eps=1e-12) for _ in range(2))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.heads(f(x)) for f in (self.q, self.k, self.v))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(HIDDEN // HEADS)
        y = torch.matmul(torch.softmax(scores + mask, -1), v).permute(0, 2, 1, 3).contiguous()
        y = y.view(y.shape[0], y.shape[1], HIDDEN)
        x = self.norms[0](self.out(y) + x)
        y = self.narrow(nn.functional.gelu(self.wide(x)))
        return self.norms[1](y + x)  # type: ignore[no-any-return]

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], x.shape[1], HEADS, HIDDEN // HEADS).permute(0, 2, 1, 3)


class Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions, self.kinds = (nn.Embedding(n, HIDDEN) for n in (WORDS, 16, 2))
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.register_buffer("places", torch.arange(16)[None])

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        hidden = (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
        x = self.words(ids) + self.kinds(kinds) + self.positions(self.places[:, : ids.shape[1]])  # type: ignore[index]
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, hidden)
        return x


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT of random weights, optimised by onnxruntime.transformers."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    ids = torch.randint(0, WORDS, (1, LENGTH))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Bert().eval(),
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            str(folder / "plain.onnx"),
            input_names=list(NAMES),
            output_names=["y"],
            dynamo=False,
            opset_version=14,
            dynamic_axes={name: {0: "batch", 1: "length"} for name in NAMES},
        )
    model = optimizer.optimize_model(str(folder / "plain.onnx"), "bert", HEADS, HIDDEN, opt_level=0)
    model.save_model_to_file(str(folder / "bert.onnx"))
    return folder / "bert.onnx"


def operators(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(file).graph.node)


def right(file: Path, folder: Path, tolerance: float, **shapes: tuple[int, ...]) -> None:
    """Builds, which verifies, and compares with onnxruntime on words and a mask of our own."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    feeds = {
        "input_ids": rng.integers(0, WORDS, (1, LENGTH)),
        "attention_mask": (np.arange(LENGTH) < 6)[None].astype(np.int64),
        "token_type_ids": (np.arange(LENGTH) > 3)[None].astype(np.int64),
    }
    (want,) = session.run(None, feeds)
    predictor = dlpack.load(dlpack.build(file, folder / "bundle", Options(shapes=shapes)))
    (got,) = predictor.run(feeds).values()
    assert np.abs(got - want).max() < tolerance * np.abs(want).max()


SHAPES = dict.fromkeys(NAMES, (1, LENGTH))


def test_bert_of_the_optimiser(bert: Path, tmp_path: Path) -> None:
    found = operators(bert)
    assert found["Attention"] == 2 and found["EmbedLayerNormalization"] == 1 and found["SkipLayerNormalization"] == 4
    right(bert, tmp_path, 1e-4, **SHAPES)


def test_bert_that_is_quantised_as_it_runs(bert: Path, tmp_path: Path) -> None:
    file = tmp_path / "dynamic.onnx"
    quantization.quantize_dynamic(
        bert,
        file,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    found = operators(file)
    assert found["QAttention"] == 2 and found["MatMulInteger"] == 6
    right(file, tmp_path, 0.02, **SHAPES)


def test_bert_with_weights_of_four_bits(bert: Path, tmp_path: Path) -> None:
    file = tmp_path / "four.onnx"
    quantizer = MatMulNBitsQuantizer(onnx.load(bert), bits=4, block_size=16, is_symmetric=False)
    quantizer.process()
    quantizer.model.save_model_to_file(str(file))
    assert operators(file)["MatMulNBits"] == 6
    right(file, tmp_path, 1e-4, **SHAPES)
