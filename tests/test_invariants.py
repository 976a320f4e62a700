"""The house's rules (ARCHITECTURE.md, "Invariants"), read off the imports of every module."""

from __future__ import annotations

import ast
import json
import re
import sys
from functools import cache
from pathlib import Path

import pytest
from processes import run

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "dlpack": ROOT / "src" / "dlpack",
    "dlpack.amalgamate": ROOT / "amalgamate",
    "dlpack.exporters": ROOT / "exporters",
    "dlpack.targets": ROOT / "targets",
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(p for p in parts if p != "__init__")])
            found[name] = path
    return found


@cache
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


def test_tvm_comes_without_torch() -> None:
    """And PyTorch can be imported after it."""
    script = (
        "import importlib.util, sys, dlpack.loops.tir; assert 'torch' not in sys.modules\n"
        "if importlib.util.find_spec('torch'): import torch; torch.zeros(1)"
    )
    run([sys.executable, "-c", script], check=True)


def test_only_the_door_imports_tvm() -> None:
    guilty = [name for name, path in modules().items() if uses(imports(path), "tvm") and name != "dlpack.loops.tir"]
    assert guilty == []


# What a module may not load, whatever it imports on the way: (modules, forbidden).
UNREACHABLE = [
    (r"dlpack\.(model|graph|verify|bundle|meaning|amalgamate)\b.*", ["tvm"]),
    (r"dlpack\.(plan\.(memory|program)|loops\.(ir|index|layout|registers|pointers))", ["tvm", "onnx"]),
    (r"dlpack\.(amalgamate\b.*|meaning\b.*)", ["tvm", "onnx", "onnxruntime"]),
    (r"dlpack\.(pipeline|stages\b.*|cli\b.*|errors)", ["tvm", "onnx", "onnxruntime"]),
    (r"dlpack\.exporters\b.*", ["tvm", "torch", "tensorflow", "sklearn", "skl2onnx", "tf2onnx", "mxnet", "caffe"]),
    (r"dlpack\.targets\b.*", ["onnx", "onnxruntime"]),
]


@pytest.mark.parametrize(("pattern", "forbidden"), UNREACHABLE, ids=[f"{p}-{f[0]}" for p, f in UNREACHABLE])
def test_what_a_module_loads(pattern: str, forbidden: list[str]) -> None:
    """Importing a module, with all that it imports at its top, does not load what it must not know. Each one is
    imported in a process of its own: a fork of one that has loaded nothing of ours."""
    names = [n for n in modules() if re.fullmatch(pattern, n)]
    assert names, pattern
    code = (
        "import importlib, json, os, sys\n"
        "names, forbidden = json.loads(sys.argv[1])\n"
        "for name in {'numpy', 'onnx', 'onnxruntime', 'tvm'} - {*forbidden}:  # once, not in each process\n"
        "    importlib.import_module(name)\n"
        "for name in names:\n"
        "    if os.fork() == 0:\n"
        "        importlib.import_module(name)\n"
        "        loaded = [f for f in forbidden if f in sys.modules]\n"
        "        if loaded:\n"
        "            os.write(1, f'{name} loads {loaded}\\n'.encode())\n"
        "        os._exit(0)\n"
        "    _, status = os.wait()\n"
        "    if status:\n"
        "        print(name, 'cannot be imported', flush=True)\n"
    )
    command = [sys.executable, "-c", code, json.dumps([names, forbidden])]
    done = run(command, check=True)
    assert done.stdout == "", done.stdout + done.stderr


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
    frameworks = ("torch", "onnxscript", "tensorflow", "keras", "h5py", "tf2onnx", "sklearn", "skl2onnx", "skops",
                  "ndonnx", "mxnet", "caffe")  # fmt: skip
    for name, path in modules().items():
        if name.startswith("dlpack.exporters"):
            assert not any(uses(imports(path, top_only=True), f) for f in frameworks), name


@cache
def import_graph(package: str) -> dict[str, set[str]]:
    """Module → the modules of `package` that it imports, in functions and for type checking too.

    `from a.b import c` is an import of a.b.c where that is a module, else of a.b. The packages above, whose __init__
    Python runs first, do not count.
    """
    paths = {n: p for n, p in modules().items() if n == package or n.startswith(package + ".")}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        found: set[str] = set()
        for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(n, ast.Import):
                found.update(a.name for a in n.names)
            elif isinstance(n, ast.ImportFrom):
                parts = name.split(".")
                above = parts[: len(parts) - n.level + (path.name == "__init__.py")] if n.level else []
                origin = ".".join([*above, *([n.module] if n.module else [])])
                whole = [f"{origin}.{a.name}" for a in n.names]
                found.update(w if w in paths else origin for w in whole)
        graph[name] = found & paths.keys()
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of several nodes, and the nodes that point at themselves."""
    reached: dict[str, set[str]] = {}
    for name in graph:
        reached[name], stack = set(), [name]
        while stack:
            new = graph[stack.pop()] - reached[name]
            reached[name] |= new
            stack += new
    groups = {frozenset(m for m in reached[name] if name in reached[m]) for name in graph if name in reached[name]}
    return sorted(sorted(group) for group in groups)


def test_circles_are_found() -> None:
    assert circles({"a": {"b", "d"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": set(), "f": {"f"}}) == [
        ["a", "b", "c"],
        ["f"],
    ]


def house() -> dict[str, set[str]]:
    """The import graph of all modules but `dlpack` itself, whose `__getattr__` loads what is public."""
    return {name: used - {"dlpack"} for name, used in import_graph("dlpack").items() if name != "dlpack"}


def room(module: str) -> str:
    """The folder that a module lies in; the modules at the top are rooms of their own."""
    parts = module.split(".")
    return ".".join(parts[: 3 if parts[1] in ("targets", "exporters") else 2])


def test_no_circles_of_imports() -> None:
    assert circles(house()) == []


def test_no_circles_of_rooms() -> None:
    """The folders read in the order of the work: none needs another that needs it."""
    rooms: dict[str, set[str]] = {room(name): set() for name in house()}
    for name, used in house().items():
        rooms[room(name)] |= {room(u) for u in used} - {room(name)}
    assert circles(rooms) == []


def test_help_is_light() -> None:
    """`dlpack --help` answers at once: it imports neither TVM nor onnxruntime."""
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from dlpack.cli import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        "print([m for m in ('tvm', 'onnxruntime', 'onnx', 'numpy') if m in sys.modules])\n"
    )
    done = run([sys.executable, "-c", code], check=True)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    """What `import dlpack` offers is this and no more."""
    import dlpack

    assert sorted(dlpack.__all__) == ["Predictor", "__version__", "build", "load"]


def test_the_package_has_types() -> None:
    """PEP 561: checkers read the annotations of an installed package that has this file."""
    assert (FOLDERS["dlpack"] / "py.typed").is_file()


def test_every_module_says_what_it_is() -> None:
    for name, path in modules().items():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), name


MOST_LINES = 500


def python_files() -> dict[str, Path]:
    tops = "amalgamate bench docs examples exporters runtime_c script src targets tests web".split()
    return {p.relative_to(ROOT).as_posix(): p for top in tops for p in sorted((ROOT / top).rglob("*.py"))}


def test_files_are_short() -> None:
    """And so are functions: ruff counts their branches (C901 in pyproject.toml)."""
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in python_files().items()}
    assert len(lines) > 200
    assert {name for name, count in lines.items() if count > MOST_LINES} == set()


def test_tests_start_processes_with_a_limit() -> None:
    """By tests/processes.py. What runs conformance tests and the fuzzer sets limits of its own."""
    starts = re.compile(r"os\.(system|popen)|subprocess\.(run|call|check_call|check_output|getoutput|Popen)")
    wrong = []
    for name, path in python_files().items():
        if name.count("/") != 1 or not name.startswith("tests/") or name == "tests/processes.py":
            continue
        for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(n, ast.Call) and starts.fullmatch(call := ast.unparse(n.func)):
                wrong.append(f"{name}:{n.lineno}: {call}; use processes.run or processes.started")
    assert wrong == []
