"""The house's rules (ARCHITECTURE.md, "Invariants"), read off the imports of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "dlpack": ROOT / "src" / "dlpack",
    "dlpack.amalgamate": ROOT / "amalgamate",
    "dlpack.exporters": ROOT / "exporters",
    "dlpack.targets": ROOT / "targets",
}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(p for p in parts if p != "__init__")])
            found[name] = path
    return found


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Names of the modules that a file imports; with `top_only`, not those imported inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    if top_only:
        inside = {id(n) for f in nodes if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
        checking = {
            id(n)
            for i in nodes
            if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.unparse(i.test)
            for n in ast.walk(i)
        }
        nodes = [n for n in nodes if id(n) not in inside | checking]
    out: set[str] = set()
    for n in nodes:
        if isinstance(n, ast.Import):
            out.update(a.name for a in n.names)
        elif isinstance(n, ast.ImportFrom) and n.module and n.level == 0:
            out.add(n.module)
            out.update(f"{n.module}.{a.name}" for a in n.names)
    return out


def uses(names: set[str], package: str) -> bool:
    return any(n == package or n.startswith(package + ".") for n in names)


def test_only_the_door_imports_tvm() -> None:
    guilty = [name for name, path in modules().items() if uses(imports(path), "tvm") and name != "dlpack.loops.tir"]
    assert guilty == []


@pytest.mark.parametrize(
    "package",
    [
        "dlpack.amalgamate",
        "dlpack.graph",
        "dlpack.model",
        "dlpack.plan.memory",
        "dlpack.loops.ir",
        "dlpack.loops.index",
    ],
)
def test_no_tvm_beyond_the_door(package: str) -> None:
    """The IRs, the graph's reading and the emitter work without TVM."""
    for name, path in modules().items():
        if name == package or name.startswith(package + "."):
            names = imports(path, top_only=True)
            assert not uses(names, "dlpack.loops.tir"), name
            assert not uses(names, "tvm"), name


def test_amalgamate_is_pure() -> None:
    """The emitter turns data into text: no files, clock, environment or target names."""
    for name, path in modules().items():
        if name.startswith("dlpack.amalgamate"):
            forbidden = {"os", "pathlib", "time", "datetime", "random", "subprocess", "dlpack.targets", "onnx"}
            assert not {f for f in forbidden if uses(imports(path), f)}, name
            assert "open(" not in path.read_text(encoding="utf-8"), name


def test_targets_know_no_onnx() -> None:
    for name, path in modules().items():
        if name.startswith("dlpack.targets"):
            assert not uses(imports(path), "onnx"), name
            assert not uses(imports(path), "dlpack.graph"), name


def test_exporters_know_neither_tvm_nor_targets() -> None:
    for name, path in modules().items():
        if name.startswith("dlpack.exporters"):
            names = imports(path)
            assert not any(uses(names, f) for f in ("tvm", "dlpack.loops.tir", "dlpack.targets")), name


def test_exporters_import_frameworks_lazily() -> None:
    frameworks = ("torch", "tensorflow", "tf2onnx", "sklearn", "skl2onnx", "skops", "ndonnx", "mxnet", "caffe")
    for name, path in modules().items():
        if name.startswith("dlpack.exporters"):
            assert not any(uses(imports(path, top_only=True), f) for f in frameworks), name


def test_help_is_light() -> None:
    """`dlpack --help` answers at once: it imports neither TVM nor onnxruntime."""
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from dlpack.cli import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        "print([m for m in ('tvm', 'onnxruntime', 'onnx', 'numpy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    """What `import dlpack` offers is this and no more."""
    import dlpack

    assert sorted(dlpack.__all__) == ["Predictor", "__version__", "build", "load"]


def test_every_module_says_what_it_is() -> None:
    for name, path in modules().items():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), name
