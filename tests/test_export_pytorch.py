"""The PyTorch exporter: the same nets as .pt2, TorchScript and code, against PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import skip_or_fail
from test_export_mxnet import run

import dlpack
from dlpack import exporters
from dlpack.cli import cli
from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.pipeline import build

try:
    import onnxscript  # noqa: F401
    import torch
except ImportError:
    skip_or_fail("torch and onnxscript are not installed", whole_file=True)
from torch import nn
from torch_nets import NETS, compare, export, image, make, save

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and that is what people have


@pytest.mark.parametrize("way", ["export", "script", "trace"])
@pytest.mark.parametrize("name", NETS)
def test_file_computes_what_pytorch_computes(name: str, way: str, tmp_path: Path) -> None:
    net, example = make(name)
    path = save(net, example, tmp_path / name, way)
    key = "tokens" if name == "recurrent" else "x"
    given = {} if way != "script" else {key: tuple(example.shape)}
    types = {key: "int64"} if name == "recurrent" else {}
    model = export(path, types, **given)
    assert [v.name for v in model.graph.input] == [key]
    other = NETS[name][1]()
    compare(model, net, {key: other})
    assert not any(p.key for node in model.graph.node for p in node.metadata_props)  # no paths of this machine


def test_names_come_from_the_source(tmp_path: Path) -> None:
    net, example = make("conv")
    path = save(net, example, tmp_path / "net", "script")
    model = export(path, x=tuple(example.shape))
    assert {"conv.weight", "head.weight", "head.bias"} <= {i.name for i in model.graph.initializer}
    again = export(path, x=tuple(example.shape))
    assert model.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    net, example = make("residual")
    assert [o.name for o in export(save(net, example, tmp_path / "net", "script"), x=(1, 4, 7)).graph.output] == [
        "sum",
        "peak",
    ]


def test_open_dimensions_take_the_given_shape(tmp_path: Path) -> None:
    net, example = make("conv")
    batch = torch.export.Dim("batch", min=2, max=64)
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=({0: batch},)), tmp_path / "open.pt2")
    found = exporters.export(tmp_path / "open.pt2")
    assert found.warnings == ("the batch of the input 'x' is taken as 1; --shape gives another size",)
    compare(found.model, net, {"x": image(1, 3, 12, 10)})
    compare(export(tmp_path / "open.pt2", x=(5, 3, 12, 10)), net, {"x": image(5, 3, 12, 10)})
    with pytest.raises(UsageError, match=r"another shape than the program's \?x3x12x10"):
        export(tmp_path / "open.pt2", x=(5, 3, 12, 11))
    with pytest.raises(UsageError, match="does not have; its inputs are: x"):
        export(tmp_path / "open.pt2", image=(5, 3, 12, 10))


class Odd(nn.Module):
    """Gradients off inside, a tied weight, a constant tensor, a state that is written, shapes computed with tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 6, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("seen", torch.zeros(6))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            z = self.a(x) + self.b(y)
        self.seen.add_(1.0)
        z = z * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        half = z.shape[1] // 2
        left, right = z.split([half, z.shape[1] - half], dim=1)
        return torch.cat([right, left], 1).reshape(x.size(0), half, -1), torch.where(
            z > 0, z, torch.zeros_like(z)
        ).argmax(1)


@pytest.mark.parametrize("way", ["export", "trace", "script"])
def test_what_files_may_hold_besides(way: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    net, example = Odd().eval(), (image(4, 6), image(4, 6))
    path = tmp_path / ("odd.pt2" if way == "export" else "odd.pt")
    if way == "export":
        torch.export.save(torch.export.export(net, example), path)
    elif way == "trace":
        torch.jit.trace(net, example).save(str(path))
    else:
        torch.jit.script(net).save(str(path))
    model = export(path, x=(4, 6), y=(4, 6))
    assert len([i for i in model.graph.initializer if list(i.dims) == [6, 6]]) == 1  # tied weights stay one
    compare(model, net, {"x": image(4, 6), "y": image(4, 6)})


CODE = """
    import torch
    from torch import nn

    class Small(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            torch.manual_seed(1)
            self.linear = nn.Linear(6, width)
            self.drop = nn.Dropout(0.9)

        def forward(self, x, scale=2.0):
            return self.drop(torch.relu(self.linear(x))) * scale

    def make(width=5):
        return Small(width)

    ready = Small(3)
    weight = torch.ones(6, 2)

    def function(x, y):
        return {"product": x @ weight, "sum": x + y}

    class Branches(nn.Module):
        def forward(self, x):
            if x.sum() > 0:
                return x
            return -x

    class Strange(nn.Module):
        def forward(self, x):
            return torch.linalg.eigh(x @ x.T)[0]

    def none():
        return None

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(9, 2)

        def forward(self, words):
            return self.table(words)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "small_net.py"
    path.write_text(dedent(CODE))
    return path


@pytest.mark.parametrize(("name", "width"), [("Small", 4), ("make", 5), ("ready", 3)])
def test_module_class_and_factory(name: str, width: int, code: Path) -> None:
    model = export(Path(f"{code}:{name}"), x=(2, 6))
    x = image(2, 6).numpy()
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    want = np.maximum(x @ weights["linear.weight"].T + weights["linear.bias"], 0) * 2  # dropout is off
    assert want.shape == (2, width)
    np.testing.assert_allclose(run(model, {"x": x})[0], want, rtol=1e-5)


def test_function_over_tensors(code: Path) -> None:
    model = export(Path(f"{code}:function"), x=(2, 6), y=(2, 1))
    x, y = image(2, 6).numpy(), image(2, 1).numpy()
    assert [o.name for o in model.graph.output] == ["product", "sum"]
    for got, want in zip(run(model, {"x": x, "y": y}), (x @ np.ones((6, 2)), x + y), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "shapes", "kind", "text"),
    [
        ("make", {}, UsageError, "--shape x=1x3x224x224"),
        ("make", {"image": (1, 6)}, UsageError, "does not have; its inputs are: x, scale"),
        ("make", {"x": (1, 7)}, ModelError, r"could not trace.*small_net.py, line \d+"),
        ("Branches", {"x": (2, 6)}, UnsupportedError, r"control flow.*depends on its input's values.*line \d+: if x"),
        ("Strange", {"x": (3, 6)}, UnsupportedError, "cannot express these operators:.*eigh"),
        ("Words", {"words": (1, 4)}, ModelError, r"could not trace.*--shape tokens=1x16:int64"),
        ("none", {}, UsageError, "this is None, not a function"),
        ("Missing", {}, UsageError, "there is no 'Missing' in it; it has Small, make"),
    ],
)
def test_errors_of_code(name: str, shapes: dict[str, Any], kind: type[Exception], text: str, code: Path) -> None:
    with pytest.raises(kind) as e:
        export(Path(f"{code}:{name}"), **shapes)
    assert re.search(text, str(e.value), re.DOTALL), e.value


def test_build_from_code_and_from_a_file(code: Path, tmp_path: Path) -> None:
    out = tmp_path / "from_code"
    result = CliRunner().invoke(cli, ["build", f"{code}:make", "--shape", "x=1x6", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert (out / "small_net.cc").exists()
    net, example = make("transformer")
    path = save(net, example, tmp_path / "encoder", "export")
    result = CliRunner().invoke(cli, ["build", str(path), "-o", str(tmp_path / "from_file")])
    assert result.exit_code == 0, result.output
    x = image(2, 5, 16)
    got = np.asarray(dlpack.load(tmp_path / "from_file").run({"x": x.numpy()})["output"])
    np.testing.assert_allclose(got, net(x).detach().numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("way", ["export", "script"])
def test_weights_of_half_precision_are_computed_in_float32(dtype: torch.dtype, way: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 2)).eval().to(dtype)
    example = image(3, 6).to(dtype)
    model = export(save(net, example, tmp_path / "net", way), **({} if way == "export" else {"input": (3, 6)}))
    values = (*model.graph.input, *model.graph.output)
    assert [v.type.tensor_type.elem_type for v in values] == [onnx.TensorProto.FLOAT] * 2
    compare(model, net.float(), {model.graph.input[0].name: example.float()})


class Padded(nn.Module):
    """An infinite constant, and an assertion that gives nothing."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        counts = nn.functional.one_hot(mask, 3).to(torch.float32).sum(1)
        return torch.softmax(x.masked_fill(mask == 1, float("-inf")), -1) * counts[:, :1]


def test_program_with_infinity_and_an_assertion(tmp_path: Path) -> None:
    x, mask = image(2, 5), torch.tensor([[0, 1, 2, 1, 0], [2, 2, 0, 1, 0]])
    torch.export.save(torch.export.export(Padded(), (x, mask)), tmp_path / "net.pt2")
    compare(export(tmp_path / "net.pt2"), Padded(), {"x": image(2, 5), "mask": mask.flip(0)})


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_aligned_corners_of_a_size_that_the_scale_does_not_reach(mode: str, tmp_path: Path) -> None:
    net, x = nn.Upsample(scale_factor=1.5, mode=mode, align_corners=True), image(1, 2, 9, 11)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    build(tmp_path / "net.pt2", tmp_path / "b")
    other = image(1, 2, 9, 11)
    got = np.asarray(dlpack.load(tmp_path / "b").run({"input": other.numpy()})["output"])
    np.testing.assert_allclose(got, net(other).numpy(), rtol=1e-4, atol=1e-5)


def _masked(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[x > 0.5] = -1
    return y


OPERATORS: dict[str, tuple[Callable[..., Any], tuple[torch.Tensor, ...]]] = {
    "adaptive_max_pool2d": (lambda x: nn.functional.adaptive_max_pool2d(x, (3, 2), return_indices=True),
                            (image(1, 2, 7, 5),)),
    "median": (lambda x: (x.median(1).values, x.median(), x.kthvalue(2, 0)[0]), (image(3, 6),)),
    "sort": (lambda x: (x.sort(1, descending=True)[0], x.argsort(0)), (image(3, 6),)),
    "searchsorted": (lambda x: (torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), x, right=True),
                                torch.bucketize(x, torch.tensor([0.0, 0.5]))), (image(2, 4),)),
    "cdist": (lambda x, y: (torch.cdist(x, y), torch.cdist(x, y, p=1.0)), (image(1, 4, 3), image(1, 5, 3))),
    "cumprod": (lambda x: (torch.cumprod(x, 1), torch.logcumsumexp(x, 0)), (image(3, 7),)),
    "masked_assignment": (_masked, (image(2, 4, 3),)),
    "embedding_bag": (nn.EmbeddingBag(10, 4, mode="mean"), (torch.randint(0, 10, (2, 5)),)),
    "embedding_bag_max": (nn.EmbeddingBag(10, 4, mode="max", padding_idx=1), (torch.randint(0, 10, (2, 5)),)),
    "divisor": (lambda x: nn.functional.avg_pool2d(x, 3, 2, 1, divisor_override=5), (image(1, 2, 9, 9),)),
    "ceil_average": (nn.AvgPool2d(3, 3, padding=1, ceil_mode=True), (image(1, 3, 2, 2),)),
    "ceil_average_counts": (nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False),
                            (image(1, 3, 8, 7),)),
    "ceil_maximum": (nn.MaxPool3d(3, None, padding=1, ceil_mode=True), (image(1, 2, 3, 6, 5),)),
    "nearest_by_a_broken_factor": (lambda x: nn.functional.interpolate(x, scale_factor=1.7), (image(1, 3, 9, 11),)),
}  # fmt: skip


class Apply(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: torch.Tensor) -> Any:
        return self.function(*x)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_that_torch_onnx_lacks_or_gets_wrong(name: str, tmp_path: Path) -> None:
    """The exporter itself compares with PyTorch, on inputs of both signs; so does this, on one more."""
    function, inputs = OPERATORS[name]
    net = Apply(function).eval()
    torch.export.save(torch.export.export(net, inputs), tmp_path / "net.pt2")
    model = export(tmp_path / "net.pt2")
    got = run(model, {v.name: x.numpy() for v, x in zip(model.graph.input, inputs, strict=True)})
    want = net(*inputs)
    for g, w in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        assert g.shape == tuple(w.shape)
        np.testing.assert_allclose(g, w.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_what_torch_onnx_gets_wrong_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.onnx drops an average pool's divisor without a word; an error names the output and says how large it is."""
    monkeypatch.setattr("dlpack.exporters.pytorch.convert.table", dict)
    function, inputs = OPERATORS["divisor"]
    torch.export.save(torch.export.export(Apply(function), inputs), tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"differs from PyTorch in 'output', by up to \d"):
        export(tmp_path / "net.pt2")
