"""PyTorch's operators that torch.onnx lacks, quantised programs, and TorchScript's branches, against PyTorch."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import skip_or_fail

from dlpack.errors import ModelError, UnsupportedError

try:
    import onnxscript  # noqa: F401
    import torch
except ImportError:
    skip_or_fail("torch and onnxscript are not installed", whole_file=True)
from torch import nn
from torch_nets import compare, export, save

from dlpack.exporters.pytorch import convert, quantised
from dlpack.exporters.pytorch.files import Object, read_pickle

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and that is what people have


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def with_diagonal(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + torch.eye(4)


OPERATORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "inv": torch.linalg.inv,
    "solve": lambda x: torch.linalg.solve(x, x[..., :2] + 1),
    "solve a vector": lambda x: torch.linalg.solve(x[0], x[1, 0]),
    "triangular": lambda x: torch.linalg.solve_triangular(with_diagonal(x).triu(), x, upper=True),
    "cholesky": lambda x: torch.linalg.cholesky(with_diagonal(x)),
    "kthvalue": lambda x: torch.kthvalue(x, 3, 1).values,
    "logcumsumexp": lambda x: torch.logcumsumexp(x, 1),
    "cummax": lambda x: tuple(torch.cummax(x, 1)),
    "cummin": lambda x: tuple(torch.cummin(x, 2)),
    "pool": lambda x: nn.functional.adaptive_max_pool1d(x, 3),
    "one minus whole numbers": lambda x: 1.0 - (3 * x).long(),
    "hypot": lambda x: torch.hypot(x, x + 1),
    "pool of volumes": lambda x: nn.functional.adaptive_max_pool3d(x[:, None], (2, 3, 1), return_indices=True),
    "mode": lambda x: (*torch.mode(x.round(), 1), *torch.mode((3 * x).long(), 2, keepdim=True)),
    "gcd": lambda x: torch.gcd((50 * x).int(), torch.tensor([12, 0, 30, -7], dtype=torch.int32)),
    "lcm": lambda x: torch.lcm((50 * x).to(torch.int16), torch.tensor([12, 0, 30, 8], dtype=torch.int16)),
    "bincount": lambda x: torch.bincount((3 * x).abs().long().clamp(max=8).flatten(), x.flatten(), minlength=9),
    "old names": lambda x: (
        torch.cholesky_solve(x, torch.linalg.cholesky(with_diagonal(x))),
        torch.triangular_solve(x, with_diagonal(x).tril(), upper=False)[0],
    ),
    "numbers": lambda x: (torch.fmax(x.log(), -x), torch.fmin(x.log(), x), torch.copysign(x + 1, x)),
    "slogdet": lambda x: tuple(torch.linalg.slogdet(with_diagonal(x))),
    "scatter": lambda x: torch.ones(2, 4, 4).scatter(1, (x > 0).long()[:, :2], x, reduce="multiply"),
    "bilinear": lambda x: nn.functional.bilinear(x, x.flip(2), torch.arange(48.0).reshape(3, 4, 4) / 48),
    "mean of volumes": lambda x: nn.functional.adaptive_avg_pool3d(x[:, None], (2, 3, 1)),
    "volumes at places": lambda x: tuple(
        nn.functional.grid_sample(x.reshape(1, 1, 2, 4, 4), x[:, :, :3].tanh()[None, :, None] * 1.2, **options)
        for options in (
            {"align_corners": False},
            {"align_corners": True, "padding_mode": "reflection"},
            {"align_corners": False, "padding_mode": "border", "mode": "nearest"},
        )
    ),
    "a number minus whole numbers": lambda x: torch.sub(2.5, (3 * x).long(), alpha=2),
}


class Every(nn.Module):
    """All of them at once, since most of an export's time is that of a network."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        found = {name: function(x) for name, function in OPERATORS.items()}
        named = {name: v if isinstance(v, tuple) else (v,) for name, v in found.items()}
        return {f"{name} {k}": part for name, parts in named.items() for k, part in enumerate(parts)}


def test_operators(tmp_path: Path) -> None:
    torch.manual_seed(5)
    net, x = Every(), torch.randn(2, 4, 4)
    model = export(save(net, x, tmp_path / "net", "export"))
    assert not {n.op_type for n in model.graph.node} & {"Loop", "If", "SequenceEmpty"}
    compare(model, net, {"x": x})


class Selections(nn.Module):
    """Assignments to what a mask selects: how many that are depends on the data, the result's shape does not."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b, c, d = x.clone(), x.clone(), torch.zeros_like(x), x.clone()
        a[a > 0] = a[a > 0] * 2 + 1
        rows = x[..., 0] > 0
        b[rows] = torch.relu(b[rows]) * torch.arange(4.0)
        c[x > 0] = x.exp()[x > 0] / x[x > 0]
        d[d > 1] = torch.masked_select(d, d > 1).sqrt()
        return a, b, c, d


def test_assignments_to_selections(tmp_path: Path) -> None:
    net, x = Selections(), torch.randn(2, 4, 4)
    model = export(save(net, x, tmp_path / "net", "export"))
    assert not {n.op_type for n in model.graph.node} & {"NonZero", "Compress", "ScatterND"}
    compare(model, net, {"x": x})


def several(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    gaps = torch.where(x > 1, torch.nan, x)
    order = x.argsort(-1)
    index = (x > 0).long()
    spectrum = torch.fft.rfft(x)
    window = torch.ones(4)
    return (
        torch.nanmedian(gaps, 1).values,
        torch.nanmedian(gaps),
        torch.searchsorted(x, x.abs(), sorter=order),
        spectrum.angle(),
        torch.istft(torch.stft(x[0], 4, 1, window=window, return_complex=True), 4, 1, window=window),
        torch.full((2, 4, 4), 0.5).scatter_reduce(1, index, x, "mean", include_self=False),
        torch.full((2, 4, 4), 0.5).scatter_reduce(1, index, x, "amax", include_self=False),
        torch.full((3, 4, 4), 0.5).index_reduce(0, torch.tensor([2, 0]), x, "mean"),
        nn.functional.logsigmoid(50 * x),
        nn.functional.rrelu(x),
        nn.functional.binary_cross_entropy_with_logits(50 * x, x.sigmoid(), pos_weight=torch.tensor(2.0)),
        x.index_put((torch.tensor([1], dtype=torch.int32),), torch.zeros(1, 4, 4)),
    )


def test_operators_that_torch_onnx_lacks_or_takes_for_others(tmp_path: Path) -> None:
    torch.manual_seed(6)
    net, x = Calls(several), torch.randn(2, 4, 4)
    compare(export(save(net, x, tmp_path / "net", "export")), net, {"x": x})


class Judged(nn.Module):
    """What exporters drop or turn round without a word."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        whole = torch.nan_to_num(x, nan=7.0)
        pooled = nn.functional.avg_pool2d(whole, 3, 2, padding=1)
        above = whole > 0.5
        wide = nn.functional.interpolate(whole, size=(9, 8), mode="bilinear", align_corners=True)
        return pooled, above, torch.floor(whole), wide, nn.functional.logsigmoid(whole)


def test_the_comparison_notices_a_wrong_model() -> None:
    """One that differs at a window's edge, for equal values, for NaN, for negative or for large ones only."""
    net, inputs = Judged(), {"x": torch.zeros(2, 3, 5, 6)}
    good = convert.to_onnx(net, inputs)
    traced = torch.export.export(net, tuple(inputs.values())).module()
    convert._compare(good, traced, inputs, by_name=False)
    faults: dict[str, tuple[str, Callable[[Any], None]]] = {
        "padding counts": ("AveragePool", lambda n: attribute(n, "count_include_pad", 0)),
        "equal values": ("Greater", lambda n: setattr(n, "op_type", "GreaterOrEqual")),
        "NaN": ("IsNaN", lambda n: setattr(n, "op_type", "IsInf")),
        "negative values": ("Floor", lambda n: setattr(n, "op_type", "Ceil")),
        "corners": ("Resize", lambda n: attribute(n, "coordinate_transformation_mode", "half_pixel")),
    }
    for what, (kind, change) in faults.items():
        wrong = onnx.ModelProto.FromString(good.SerializeToString())
        change([n for n in wrong.graph.node if n.op_type == kind][-1])
        with pytest.raises(ModelError, match="differs from PyTorch"):
            convert._compare(wrong, traced, inputs, by_name=False)
            pytest.fail(what)


def attribute(node: Any, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def test_an_error_that_the_caller_handles_is_not_told_again() -> None:
    try:
        raise ModelError("another file is damaged")
    except ModelError as handled:
        error = RuntimeError("the shapes do not fit")
        error.__context__ = handled
        assert "the shapes do not fit" in str(convert._explained(error, handled))


class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        options: list[dict[str, Any]] = [{"mode": "mean"}, {"mode": "sum", "padding_idx": 1}, {"mode": "max"}]
        self.bags = nn.ModuleList([nn.EmbeddingBag(10, 4, **given) for given in options])

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(bag(tokens) for bag in self.bags)


def test_embedding_bag(tmp_path: Path) -> None:
    """Of rows of indices; torch.onnx makes it a loop over a sequence."""
    net, tokens = Bags().eval(), torch.randint(0, 10, (2, 5))
    compare(export(save(net, tokens, tmp_path / "net", "export")), net, {"tokens": tokens})


def test_what_cannot_be_expressed_is_refused() -> None:
    refused: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
        "large": (torch.linalg.inv, "a matrix of 40 rows; 32 are accepted, .* stored as a buffer"),
        "open": (lambda x: torch.bincount(x[0].long()), ".* its result's length depends on the input; give it"),
    }
    for function, message in refused.values():
        with pytest.raises(UnsupportedError, match=f"^[^\n]*{message}$"):
            convert.to_onnx(Calls(function), {"x": torch.randn(40, 40)})


# --- quantised programs -----------------------------------------------------------------------------------------------


class Static(nn.Module):
    """What PT2E's convert makes: integer weights by channel, activations of a narrower range than their type's."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randint(-127, 128, (3, 4), dtype=torch.int8))
        self.register_buffer("scales", torch.rand(3) / 50)
        self.register_buffer("zeros", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = torch.ops.quantized_decomposed
        x = q.quantize_per_tensor(x, 0.02, 60, 0, 127, torch.uint8)
        x = q.dequantize_per_tensor(x, 0.02, 60, 0, 127, torch.uint8)
        weight = q.dequantize_per_channel(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        return nn.functional.linear(x, weight)


class Dynamic(nn.Module):
    """A scale that each input chooses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = torch.ops.quantized_decomposed
        scale, zero = q.choose_qparams.tensor(x, -128, 127, 1e-6, torch.int8)
        y = q.quantize_per_tensor.tensor(x, scale, zero, -128, 127, torch.int8)
        return q.dequantize_per_tensor.tensor(y, scale, zero, -128, 127, torch.int8)


@pytest.mark.parametrize("make", [Static, Dynamic])
def test_quantised_programs(make: type[nn.Module], tmp_path: Path) -> None:
    assert quantised.operator("quantize_per_tensor", "default") is not None
    torch.manual_seed(3)
    net, x = make().eval(), torch.randn(5, 4) * 2
    model = export(save(net, x, tmp_path / "net", "export"))
    kinds = {n.op_type for n in model.graph.node}
    assert ({"QuantizeLinear", "DequantizeLinear"} <= kinds) == (make is Static)
    compare(model, net, {"x": x})


def test_torchao_operators() -> None:
    """By blocks: a scale for every two columns."""
    x = torch.tensor([[1.0, -2.0, 0.5, 4.0]])
    choose, quantize, dequantize = (
        quantised.function(f"torch.ops.torchao.{n}.default")
        for n in ("choose_qparams_affine", "quantize_affine", "dequantize_affine")
    )
    assert choose and quantize and dequantize
    scale, zero = choose(x, "SYMMETRIC", [1, 2], torch.int8, -127, 127)
    np.testing.assert_allclose(scale, [[2 / 127, 4 / 127]], rtol=1e-6)
    y = quantize(x, [1, 2], scale, zero, torch.int8, -127, 127)
    assert y.tolist() == [[64, -127, 16, 127]] and y.dtype == torch.int8
    np.testing.assert_allclose(dequantize(y, [1, 2], scale, zero, torch.int8), x, atol=0.02)
    scale, zero = choose(x, "ASYMMETRIC", [1, 4], torch.int8)
    assert zero.tolist() == [-43] and quantised.function("torch.ops.torchao.other.default") is None


class Int8Tensor:
    """As torchao's weights are pickled."""

    def __reduce__(self) -> Any:
        return torch._tensor._rebuild_from_type_v2, (print, Int8Tensor, (), {"qdata": None, "block_size": [1, 8]})


def test_weights_of_several_tensors_are_data() -> None:
    data = pickle.dumps(Int8Tensor(), 2)
    ours, theirs = Int8Tensor.__module__.encode() + b"\nInt8Tensor", b"torchao.quantization\nInt8Tensor"
    assert data.count(ours) == 1
    found = read_pickle(data.replace(ours, theirs), "weights")
    assert isinstance(found, Object) and found.type == "torchao.quantization.Int8Tensor"
    assert found.attributes == {"qdata": None, "block_size": [1, 8]}
    assert quantised.inner_tensor({"a.b": 1, "a.c": 2}, "a") == {"b": 1, "c": 2}


# --- TorchScript's branches -------------------------------------------------------------------------------------------


class Chosen(nn.Module):
    """A layer of two, by the data; one of them writes to what it has made itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
        self.second = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            y = self.first(x)
        else:
            y = self.second(x)
        return y


class Factor(nn.Module):
    """Numbers, conditions of several parts, and an error of the model's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = 2.0
        if bool(torch.any(x > 1)) and float(x.mean()) < 3.0:
            k = 3.0
        if float(x.min()) < -100.0:
            raise ValueError("too small")
        return x * k if int(x.abs().max()) > 1 else x - k


class Early(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x[0, 0] > 0:
            return x + 1
        return x - 1


@pytest.mark.parametrize("make", [Chosen, Factor, Early])
def test_branches_on_data(make: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = make().eval()
    model = export(save(net, torch.zeros(2, 4), tmp_path / "net", "script"), x=(2, 4))
    for scale in (0.3, 1.0, 1.0, 3.0, 3.0, 3.0):
        compare(model, net, {"x": torch.randn(2, 4) * scale})


class OtherShape(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x[0, 0] > 0:
            return x[:1]
        return x


class Writes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 1
        if x[0, 0] > 0:
            y.add_(1)
        return y


@pytest.mark.parametrize(
    ("make", "words"), [(OtherShape, r"shape \[1, 4\] in one branch, \[2, 4\]"), (Writes, "add_ on an outer tensor")]
)
def test_branches_that_are_refused(make: type[nn.Module], words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=words):
        export(save(make(), torch.zeros(2, 4), tmp_path / "net", "script"), x=(2, 4))
