"""The PyTorch exporter and files that are no models of PyTorch, or traps."""

from __future__ import annotations

import io
import json
import pickle
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import skip_or_fail

from dlpack import exporters
from dlpack.cli import cli
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError

try:
    import onnxscript  # noqa: F401
    import torch
except ImportError:
    skip_or_fail("torch and onnxscript are not installed", whole_file=True)
from torch_nets import compare, export, image, make, save

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and that is what people have


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return open, (str(self.target), "w")


def refused(path: Path, text: str, kind: type[Exception] = UsageError, **shapes: tuple[int, ...]) -> None:
    with pytest.raises(kind) as e:
        export(path, **shapes)
    assert re.search(text, str(e.value), re.DOTALL), e.value


def test_weights_without_a_network(tmp_path: Path) -> None:
    net, _ = make("mlp")
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    torch.save({"epoch": 3, "model": net.state_dict()}, tmp_path / "checkpoint.bin")
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("weights.pth", "checkpoint.bin", "old.pt"):
        refused(tmp_path / name, r"state_dict.*load_state_dict.*torch\.export\.save")
    result = CliRunner().invoke(cli, ["build", str(tmp_path / "weights.pth"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 2 and not (tmp_path / "out").exists()


def test_pickled_modules_are_not_loaded(tmp_path: Path) -> None:
    net, _ = make("mlp")
    torch.save(net, tmp_path / "module.pt")
    refused(tmp_path / "module.pt", r"pickled Python object \(it names torch_nets.Mlp.*torch\.export\.save")
    mark = tmp_path / "mark"
    torch.save({"a": Trap(mark)}, tmp_path / "trap.pt")
    torch.save({"a": Trap(mark)}, tmp_path / "trap_old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(mark)))
    for name in ("trap.pt", "trap_old.pth", "plain.pt"):
        refused(tmp_path / name, r"it names (_?io|builtins)\.open")
    assert not mark.exists()


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A copy of an archive whose records are changed."""
    out = path.with_name(f"{path.stem}_changed{path.suffix}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename.partition("/")[2], old.read(info)))
    return out


def test_traps_in_torchscript(tmp_path: Path) -> None:
    net, example = make("mlp")
    path = save(net, example, tmp_path / "net", "trace")
    mark = tmp_path / "mark"

    def with_code(line: str) -> Path:
        def change(name: str, data: bytes) -> bytes:
            if name.startswith("code/") and name.endswith(".py") and b"class Mlp" in data:
                start, _, rest = data.partition(b"    layers = self.layers\n")
                assert rest
                return start + line.encode() + b"    layers = self.layers\n" + rest
            return data

        return rewritten(path, change)

    assert export(with_code("    _9 = torch.neg(x)\n")).graph.node  # the change itself is well-formed
    for line, text in (
        (f'    _9 = torch.save(x, "{mark}")\n', "aten::save"),
        (f'    _9 = torch.from_file("{mark}", True, 10)\n', "aten::from_file"),
        (f'    _9 = ops.aten.from_file("{mark}", True, 10)\n', "aten::from_file"),
        (f'    _9 = open("{mark}", "w")\n', "the function open"),
        ('    _9 = __import__("os")\n', "the function __import__"),
        ("    _9 = x.__class__.__base__\n", "attribute"),
        ("    _9 = torch.nn.functional.relu(x)\n", "cannot be exported"),
        ("    _9 = (lambda: x)()\n", "a call of|the expression"),
        ("    import os\n", "the statement import"),
        ("    while True:\n      _9 = 1\n", "loops may not end"),
        ("    _9 = torch.mul([1], 99999999999)\n", "list of more than"),
        ("    _9 = ops.quantized.linear(x)\n", "quantized::linear"),
        ("    _9 = __torch__.Missing(x)\n", "no record|no definition"),
    ):
        refused(with_code(line), text, DlpackError)
    trap = rewritten(path, lambda n, d: pickle.dumps(Trap(mark), 2) if n == "data.pkl" else d)
    refused(trap, "pickled Python object")
    huge = b"\x80\x02" + b"K\x01" + b"r\xff\xff\xff\x7f" + b"."  # a memo entry that makes unpicklers take 16 GB
    refused(rewritten(path, lambda n, d: huge if n == "data.pkl" else d), "no TorchScript module", ModelError)
    assert not mark.exists()


def test_traps_in_programs(tmp_path: Path) -> None:
    net, example = make("mlp")
    path = save(net, example, tmp_path / "net", "export")
    mark = tmp_path / "mark"

    def with_json(change: Callable[[Any], None], record: str = "models/model.json") -> Path:
        def edit(name: str, data: bytes) -> bytes:
            if name != record:
                return data
            document = json.loads(data)
            change(document)
            return json.dumps(document).encode()

        return rewritten(path, edit)

    def target(name: str) -> Callable[[Any], None]:
        return lambda d: d["graph_module"]["graph"]["nodes"][0].update(target=name)

    for name in ("torch.os.system", "torch.ops.aten.from_file.default", "_operator.attrgetter", "torch.load",
                 "torch.ops.aten.linear", "torch.ops.aten.__class__.mro", "math.__loader__.load_module"):  # fmt: skip
        refused(with_json(target(name)), re.escape(f"the operator {name}"), UnsupportedError)
    expression = {"as_expr": {"expr_str": f"open('{mark}', 'w')", "hint": {"as_int": 2}}}

    def open_size(document: Any) -> None:
        document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = expression

    assert export(with_json(open_size), x=(2, 12)).graph.node  # an expression is not evaluated
    weights = "data/weights/model_weights_config.json"
    first = "layers.0.weight"

    def pickled(document: Any) -> None:
        document["config"][first]["use_pickle"] = True

    refused(with_json(pickled, weights), "damaged", ModelError)  # raw numbers are no archive
    stream = io.BytesIO()
    torch.save({"": Trap(mark)}, stream)
    trapped = rewritten(
        with_json(pickled, weights), lambda n, d: stream.getvalue() if n == "data/weights/weight_0" else d
    )
    refused(trapped, "pickled Python object")
    for key, value in (("sizes", [{"as_int": 10**9}, {"as_int": 10**9}]), ("storage_offset", {"as_int": 97}),
                       ("strides", [{"as_int": 10**6}, {"as_int": 1}]), ("dtype", 99)):  # fmt: skip
        change = lambda d, k=key, v=value: d["config"][first]["tensor_meta"].update({k: v})  # noqa: E731
        refused(with_json(change, weights), "does not fit its data|damaged", ModelError)
    refused(with_json(lambda d: d.pop("graph_module")), "KeyError: 'graph_module'", ModelError)
    endless = rewritten(path, lambda n, d: d.replace(b'"as_int": 12', b'"as_int": 1e999') if n == weights else d)
    refused(endless, "OverflowError", ModelError)
    nodes = lambda d: d["graph_module"]["graph"]["nodes"]  # noqa: E731
    refused(with_json(lambda d: nodes(d)[0]["inputs"][0].pop("arg")), "KeyError: 'arg'", ModelError)
    refused(with_json(lambda d: nodes(d)[0].update(inputs=[3])), "TypeError", ModelError)
    refused(with_json(lambda d: nodes(d)[0].pop("target")), "KeyError: 'target'", ModelError)
    assert not mark.exists()


def test_archives_of_older_versions(tmp_path: Path) -> None:
    """Before 2.8 torch.export.save wrote four records, the tensors as files of torch.save."""
    net, example = make("mlp")
    new = save(net, example, tmp_path / "net", "export")

    def saved(value: Any) -> bytes:
        stream = io.BytesIO()
        torch.save(value, stream)
        return stream.getvalue()

    with zipfile.ZipFile(new) as archive, zipfile.ZipFile(tmp_path / "old.pt2", "w") as old:
        old.writestr("version", "8.8")
        old.writestr("serialized_exported_program.json", archive.read("net/models/model.json"))
        old.writestr("serialized_state_dict.json", saved(net.state_dict()))
        old.writestr("serialized_constants.json", saved({}))
    compare(export(tmp_path / "old.pt2"), net, {"x": image(2, 12)})


def test_other_zip_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    with zipfile.ZipFile(tmp_path / "docs.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with zipfile.ZipFile(tmp_path / "aoti.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/aotinductor/model/x.so", b"\x7fELF")
    refused(tmp_path / "arrays.npz", "NumPy arrays without a model")
    refused(tmp_path / "docs.pt", "holds no PyTorch model")
    refused(tmp_path / "aoti.pt2", "compiled code, not a program")
    net, example = make("mlp")
    path = save(net, example, tmp_path / "net", "script")
    refused(path, "TorchScript does not hold its inputs' shapes.*--shape x=")
    cut = path.with_name("cut.pt")
    cut.write_bytes(path.read_bytes()[:-300])
    refused(cut, "zip archive is damaged", ModelError)
    with pytest.raises(UsageError, match="--params"):
        exporters.export(path, path)


def test_without_pytorch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, example = make("mlp")
    path = save(net, example, tmp_path / "net", "export")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused(path, r"onnxscript is not installed: pip install 'dlpack-aot\[torch\]'")
    monkeypatch.setitem(sys.modules, "torch", None)
    refused(path, r"dlpack-aot\[torch\]")
