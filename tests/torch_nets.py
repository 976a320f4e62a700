"""Small PyTorch nets of tests, saved in every way and compared with what they were exported to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from conftest import skip_or_fail
from test_export_mxnet import run

from dlpack import exporters
from dlpack.exporters import ExportOptions

try:
    import onnxscript  # noqa: F401
    import torch
except ImportError:
    skip_or_fail("torch and onnxscript are not installed", whole_file=True)
from torch import nn


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layers(x), dim=-1)


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6, padding="same")
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.hardswish(self.norm(self.conv(x)))
        x = nn.functional.max_pool2d(self.depthwise(x), 2)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Residual(nn.Module):
    """Weights used twice, a loop over modules, control flow over a shape and an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv1d(4, 4, 3, padding=1) for _ in range(3)])
        self.scale = nn.Parameter(torch.full((4, 1), 0.5))
        self.double = True

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        total = x
        for block in self.blocks:
            total = total + torch.tanh(block(total)) * self.scale
        if self.double and x.shape[2] > 3:
            total = total * 2
        return {"sum": total, "peak": total.amax(dim=(1, 2))}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True)
        self.gru = nn.GRU(5, 4, bidirectional=True)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, (hidden, _) = self.lstm(self.embed(tokens))
        return self.gru(y.transpose(0, 1))[0], hidden


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x).mean(1)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "mlp": (Mlp, lambda: image(2, 12)),
    "conv": (ConvNet, lambda: image(2, 3, 12, 10)),
    "residual": (Residual, lambda: image(1, 4, 7)),
    "recurrent": (Recurrent, lambda: torch.randint(0, 20, (2, 6))),
    "transformer": (Transformer, lambda: image(2, 5, 16)),
}


def make(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(11)
    net = NETS[name][0]().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return net, NETS[name][1]()


def save(net: nn.Module, example: torch.Tensor, path: Path, way: str) -> Path:
    path = path.with_suffix(".pt2" if way == "export" else ".pt")
    with torch.no_grad():
        if way == "export":
            torch.export.save(torch.export.export(net, (example,)), path)
        elif way == "script":
            torch.jit.script(net).save(str(path))
        else:
            torch.jit.trace(net, example, strict=False).save(str(path))
    return path


def compare(model: onnx.ModelProto, net: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    onnx.checker.check_model(model, full_check=True)
    with torch.no_grad():
        result = net(**inputs)
    want = (
        list(result.values()) if isinstance(result, dict) else list(result) if isinstance(result, tuple) else [result]
    )
    got = run(model, {n: x.numpy() for n, x in inputs.items()})
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w.numpy(), rtol=1e-4, atol=1e-5)


def export(path: Path, dtypes: dict[str, str] | None = None, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    return exporters.export(path, None, ExportOptions(shapes, dtypes or {})).model
