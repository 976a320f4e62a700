"""Bindings: in each language that is here a program runs the digits, classifies a picture, and errs; it gives what
`dlpack.load` gives, and each misuse is an error that says what is wrong.

The programs lie in tests/bindings, and docs/bindings.md has others. All languages share three native bundles.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import nets
import numpy as np
import onnx
import processes
import pytest
from conftest import DIGITS, ROOT, optional_tool, requires_tool
from onnx import TensorProto, helper, numpy_helper

import dlpack
from dlpack.bindings import all_bindings
from dlpack.bindings.api import ALWAYS, CREATE, CREATE_FROM_FILE, PREPROCESS_RGB, SET_INPUT, TOP_K, Function, describe
from dlpack.bindings.python_wheel import wheel_platform
from dlpack.bindings.text import camel, identifiers, pascal, render, snake
from dlpack.errors import UsageError
from dlpack.pipeline import Options, build

PROGRAMS = ROOT / "tests" / "bindings"
LANGUAGES = tuple(all_bindings())


class Case:
    """A bundle with all bindings, and what its programs read: image.bin and picture.bin."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle = folder, bundle
        draw = np.random.default_rng(1)
        self.image = draw.random((1, 1, 8, 8), np.float32)
        self.picture = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        self.image.tofile(folder / "image.bin")
        self.picture.tofile(folder / "picture.bin")

    def binding(self, language: str) -> Path:
        return self.bundle / "bindings" / language

    @property
    def files(self) -> tuple[str, str]:
        return str(self.folder / "image.bin"), str(self.folder / "picture.bin")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("bindings")
    options = Options(preprocess="none", labels=("null", *"abcdefgh", "猫"), bindings=LANGUAGES)
    return Case(folder, build(DIGITS, folder / "bundle", options))


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`func` = `my input` times a matrix + `class`, and `in:0` = `class`; its weights lie beside it."""
    folder = tmp_path_factory.mktemp("awkward")
    nodes = [
        helper.make_node("MatMul", ["my input", "matrix"], ["product"]),
        helper.make_node("Cast", ["class"], ["offset"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["product", "offset"], ["func"]),
        helper.make_node("Identity", ["class"], ["in:0"]),
    ]
    model = nets.model(nodes, {"my input": (1, 4), "class": (1, 3)}, {"func": (1, 3), "in:0": (1, 3)})
    model.graph.initializer.append(numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "matrix"))
    for value in (model.graph.input[1], model.graph.output[1]):
        value.type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, folder / "awkward.onnx")
    options = Options(weights="file", labels=("x", "y", "z"), bindings=LANGUAGES)
    return build(folder / "awkward.onnx", folder / "bundle", options)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with names, and without preprocessing: they classify their input."""
    names = tuple("zero one two three four five six seven eight nine".split())
    folder = tmp_path_factory.mktemp("labelled") / "bundle"
    return build(DIGITS, folder, Options(labels=names, bindings=tuple(RUNNERS)))


def execute(*words: str | Path, cwd: Path | None = None, **environment: str) -> str:
    return processes.run(words, cwd=cwd, env={**os.environ, **environment}, check=True).stdout


def check(case: Case, printed: str, misuses: Iterable[str]) -> None:
    """What a program printed is what `dlpack.load` computes, and each misuse was an error that says what is wrong."""
    told = defaultdict(list)
    for line in printed.splitlines():
        key, rest = re.fullmatch(r"(\w+):?\s(.*)", line).groups()  # type: ignore[union-attr]
        told[key].append(rest.strip())
    with dlpack.load(case.bundle) as predictor:
        wanted = predictor.run({"image": case.image})["probability"]
        classes = predictor.classify(case.picture, 3)
    np.testing.assert_allclose([float(p) for p in told.pop("run")], wanted.ravel(), rtol=1e-6)
    found = [line.split() for line in told.pop("class")]
    assert [(int(i), label) for i, label, _ in found] == [(c.index, c.label) for c in classes]
    np.testing.assert_allclose([float(p) for *_, p in found], [c.probability for c in classes], rtol=1e-6)
    assert set(misuses) <= set(told)
    for name in misuses:
        assert all(message != "no error" for message in told[name]), f"{name}: {told[name]}"
    assert all("64" in message or "8, 8" in message or "8x8" in message for message in told["length"])
    assert all("closed" in message for message in told.get("closed", []))


AWKWARD = ["func 70 90 110", "in 10 20 30", "class z", "length error", "weights error"]
"""What a program for the awkward model prints: (1, 2, 3, 4) times the matrix is (60, 70, 80)."""


# --- the description --------------------------------------------------------------------------------------------------


def check_header(bundle: Path, functions: set[Function]) -> None:
    """Bindings of a bundle declare these functions, as they are in NAME.h, with the same types."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    name = manifest["name"]
    declared = {
        f: [r.strip(), *(re.sub(r"\s+", " ", p).strip() for p in a.split(","))]
        for r, f, a in re.findall(
            rf"{name.upper()}_API ([\w ]+\*?) ?{name}_(\w+)\(([^)]*)\);", (bundle / f"{name}.h").read_text()
        )
    }
    assert set(describe(manifest, "").functions) == functions
    for f in functions:
        own = [f.returns, *(f"{kind} {parameter}" for parameter, kind in f.parameters)]
        types = r"\b(predictor|class|status|tensor|detection)(\*| |$)"
        own = [re.sub(types, rf"{name}_\1\2", text, count=1) for text in own]
        assert own == declared[f.name]


def test_the_description_is_the_header(case: Case, awkward: Path) -> None:
    check_header(case.bundle, {CREATE, *ALWAYS, SET_INPUT, TOP_K, PREPROCESS_RGB})
    check_header(awkward, {CREATE_FROM_FILE, *ALWAYS, SET_INPUT, TOP_K})


def test_names_follow_the_conventions() -> None:
    assert [style("my input:0") for style in (camel, pascal, snake)] == ["myInput0", "MyInput0", "my_input_0"]
    assert [style("dataBatch") for style in (camel, pascal, snake)] == ["dataBatch", "DataBatch", "data_batch"]
    assert identifiers(["class", "in", "in:", "0", "入力"], camel, ("class", "in")) == [
        "class2", "in2", "in3", "tensor0", "tensor"
    ]  # fmt: skip


def test_templates() -> None:
    template = "//@ if a\none @word@\n//@ else\ntwo\n//@ end\n  @lines@\n#@ if not b\nthree\n#@ end\n"
    assert render(template, {"word": "x", "lines": "p\nq"}, {"a"}) == "one x\n  p\n  q\nthree\n"
    assert render(template, {"word": "x", "lines": ""}, {"b"}) == "two\n"
    with pytest.raises(KeyError):
        render("@word@", {}, ())
    with pytest.raises(ValueError, match="without end"):
        render("//@ if a\n", {}, ())


def check_texts(bundle: Path) -> None:
    """No placeholder or condition is left in any text of any language."""
    name = json.loads((bundle / "manifest.json").read_text())["name"]
    for language in LANGUAGES:
        files = [p for p in (bundle / "bindings" / language).rglob("*") if p.is_file()]
        assert files, language
        for path in files:
            if path.suffix in (".so", ".node", ".whl", ".weights") or path.name in (f"{name}.cc", f"{name}.h"):
                continue
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"@\w+@|(//|#|--)@ (if|else|end)", text), path
            assert len(text.splitlines()) < 330, path


def test_the_texts_are_whole(case: Case, awkward: Path) -> None:
    for bundle in (case.bundle, awkward):
        check_texts(bundle)
        assert json.loads((bundle / "manifest.json").read_text())["bindings"] == list(LANGUAGES)


def test_refusals(tmp_path: Path) -> None:
    for options, message in (
        (Options(bindings=("cobol",)), "no binding for 'cobol'; there are: csharp, dart, go"),
        (Options(bindings=("node",), target="source"), "--binding node needs a shared library"),
        (Options(bindings=("python-wheel",), name="json"), "called 'json', which is taken"),
        (Options(bindings=("node",), name="net"), "called 'net', which is a module of node's"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            build(DIGITS, tmp_path / "bundle", options)
        assert not (tmp_path / "bundle").exists()


def test_wheel_platforms() -> None:
    told = {
        "x86_64-linux-gnu.2.17": "manylinux_2_17_x86_64",
        "aarch64-linux-gnu.2.23": "manylinux_2_23_aarch64",
        "arm-linux-gnueabihf.2.23": "manylinux_2_23_armv7l",
        "aarch64-linux-musl": "musllinux_1_2_aarch64",
        "aarch64-macos": "macosx_11_0_arm64",
        "x86_64-macos.10.15": "macosx_10_15_x86_64",
        "x86_64-windows-gnu": "win_amd64",
    }
    assert {target: wheel_platform(target) for target in told} == told
    with pytest.raises(UsageError, match="no tag for wheels"):
        wheel_platform("wasm32-freestanding")


# --- the languages ----------------------------------------------------------------------------------------------------
# Each runs a program with the package of a bundle, in a folder of its own, and gives what it prints.


def rust(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    cargo, cxx = optional_tool("cargo", "it takes hundreds of megabytes"), requires_tool("g++")
    (work / "src").mkdir()
    shutil.copy(program, work / "src" / "main.rs")
    package = '[package]\nname = "user"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\n'
    (work / "Cargo.toml").write_text(f'{package}{name} = {{ path = "{bundle / "bindings" / "rust"}" }}\n')
    settings = {"CXX": cxx, "RUSTFLAGS": "-Dwarnings", "CARGO_TARGET_DIR": str(work / "target")}
    return execute(cargo, "run", "--quiet", "--offline", "--", *arguments, cwd=work, **settings)


def go(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    tool = optional_tool("go", "it takes 464 MB")
    requires_tool("g++")
    binding = bundle / "bindings" / "go"
    assert execute("gofmt", "-l", binding) == ""
    shutil.copy(program, work / "main.go")
    module = f"module user\n\ngo 1.18\n\nrequire {name} v0.0.0\n\nreplace {name} => {binding}\n"
    (work / "go.mod").write_text(module)
    return execute(tool, "run", ".", *arguments, cwd=work, GOFLAGS="-mod=mod", CGO_ENABLED="1", GO111MODULE="on")


def csharp(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    mcs, mono = requires_tool("mcs"), requires_tool("mono")
    shutil.copytree(bundle / "bindings" / "csharp", work, dirs_exist_ok=True)
    sources = sorted(work.glob("*.cs"))
    execute(mcs, "-warnaserror", "-out:program.exe", *sources, program, cwd=work)
    return execute(mono, "program.exe", *arguments, cwd=work)


def java_classes(binding: Path, work: Path, *programs: Path) -> str:
    """Compiles Java's binding and programs; the class path to run them with."""
    javac = (optional_tool("javac", "it takes hundreds of megabytes"), f"-J{QUICK}")
    sources = sorted((binding / "src" / "main" / "java").rglob("*.java"))
    execute(*javac, "-encoding", "UTF-8", "-Xlint:all", "-Werror", "-d", work, *sources, *programs)
    return f"{work}{os.pathsep}{binding / 'src' / 'main' / 'resources'}"


QUICK = "-XX:TieredStopAtLevel=1"
"""Has a JVM compile what it runs once and soon, since programs and compilers here end soon."""

JAVA = (QUICK, "-Xcheck:jni", "-Dstdout.encoding=UTF-8", "-Dfile.encoding=UTF-8", "-cp")


def java(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    path = java_classes(bundle / "bindings" / "java", work, program)
    return execute(requires_tool("java"), *JAVA, path, "Main", *arguments)


def kotlin(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    kotlinc = optional_tool("kotlinc", "it takes 355 MB")
    binding = bundle / "bindings" / "kotlin"
    path = java_classes(binding, work)
    (source,) = binding.rglob("Predictor.kt")
    shutil.copy(program, work / "main.kt")
    execute(
        kotlinc, "-include-runtime", "-cp", path, "-d", work / "user.jar", source, work / "main.kt", JAVA_OPTS=QUICK
    )
    return execute(requires_tool("java"), *JAVA, f"{work / 'user.jar'}{os.pathsep}{path}", "MainKt", *arguments)


def swift(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    tool = optional_tool("swift", "it takes 3.1 GB; script/toolchains swift does")
    shutil.copytree(bundle / "bindings" / "swift", work / name)
    (work / "Sources" / "user").mkdir(parents=True)
    shutil.copy(program, work / "Sources" / "user" / "main.swift")
    (work / "Package.swift").write_text(f"""// swift-tools-version:5.5
        import PackageDescription
        let package = Package(
            name: "user", dependencies: [.package(name: "{pascal(name)}", path: "{name}")],
            targets: [.executableTarget(name: "user", dependencies: ["{pascal(name)}"])])
        """)
    execute(tool, "build", cwd=work)
    return execute(tool, "run", "user", *arguments, cwd=work)


def node(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    (work / "node_modules").mkdir()
    shutil.copytree(bundle / "bindings" / "node", work / "node_modules" / name)
    shutil.copy(program, work / "main.mjs")
    return execute(requires_tool("node"), work / "main.mjs", *arguments)


def python(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    """With nothing but the wheel."""
    return python_with(bundle, program, work, (), *arguments)


def python_with(bundle: Path, program: Path, work: Path, packages: tuple[str, ...], *arguments: str) -> str:
    (wheel,) = (bundle / "bindings" / "python-wheel").iterdir()
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    execute(sys.executable, *install, "--target", work, wheel)
    path = os.pathsep.join([str(work), *packages])
    shutil.copy(program, work / "main.py")  # its own name may be that of the package
    return execute(sys.executable, "-S", "-W", "error", work / "main.py", *arguments, PYTHONPATH=path)


def julia(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    tool = optional_tool("julia", "it takes 0.6 GB; script/toolchains julia does")
    shutil.copytree(bundle / "bindings" / "julia", work / pascal(name))
    return execute(tool, "--startup-file=no", program, *arguments, JULIA_LOAD_PATH=f"{work}:@stdlib")


def lua(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    return execute(requires_tool("luajit"), program, *arguments, LUA_PATH=f"{bundle / 'bindings' / 'lua'}/?.lua")


def r(bundle: Path, name: str, program: Path, work: Path, *arguments: str) -> str:
    tool, rscript = requires_tool("R"), requires_tool("Rscript")
    requires_tool("g++")
    shutil.copytree(bundle / "bindings" / "r", work / name)  # objects appear beside the sources
    (work / "library").mkdir()
    execute(tool, "CMD", "INSTALL", "--no-docs", "-l", work / "library", work / name)
    return execute(rscript, program, *arguments, R_LIBS=str(work / "library"), LC_ALL="C.UTF-8")


RUNNERS: dict[str, tuple[Callable[..., str], str, str]] = {
    "csharp": (csharp, ".cs", "csharp"),
    "go": (go, ".go", "go"),
    "java": (java, ".java", "java"),
    "julia": (julia, ".jl", "julia"),
    "kotlin": (kotlin, ".kt", "kotlin"),
    "lua": (lua, ".lua", "lua"),
    "node": (node, ".mjs", "js"),
    "python-wheel": (python, ".py", "python"),
    "r": (r, ".R", "r"),
    "rust": (rust, ".rs", "rust"),
    "swift": (swift, ".swift", "swift"),
}
"""How a language's program is run, how its file's name ends, and how Markdown calls the language."""

STATIC = ["length", "picture", "count"]
CLOSED = [*STATIC, "closed"]
DYNAMIC = [*CLOSED, "missing", "type", "unknown"]
MISUSES = {
    "csharp": [*CLOSED, "missing"], "go": CLOSED, "java": [*CLOSED, "missing"], "julia": DYNAMIC, "kotlin": CLOSED,
    "lua": DYNAMIC, "node": DYNAMIC, "python-wheel": DYNAMIC, "r": DYNAMIC, "rust": STATIC, "swift": STATIC,
}  # fmt: skip
"""What the digits' programs do wrongly: the rest the language's compiler refuses."""


@pytest.mark.parametrize("language", RUNNERS)
def test_digits(language: str, case: Case, tmp_path: Path) -> None:
    """It gives what `dlpack.load` gives, and every misuse is an error."""
    run, suffix, _ = RUNNERS[language]
    printed = run(case.bundle, "digits", PROGRAMS / f"digits{suffix}", tmp_path, *case.files)
    check(case, printed, MISUSES[language])


@pytest.mark.parametrize("language", RUNNERS)
def test_awkward_names_and_weights_in_a_file(language: str, awkward: Path, tmp_path: Path) -> None:
    run, suffix, _ = RUNNERS[language]
    weights = str(awkward / "awkward.weights")
    printed = run(awkward, "awkward", PROGRAMS / f"awkward{suffix}", tmp_path, weights)
    assert [line.strip() for line in printed.splitlines()] == AWKWARD


@pytest.mark.parametrize("language", RUNNERS)
def test_the_documentation(language: str, labelled: Path, tmp_path: Path) -> None:
    """The programs of docs/bindings.md do what they say."""
    run, suffix, markdown = RUNNERS[language]
    text = (ROOT / "docs" / "bindings.md").read_text(encoding="utf-8").partition("## Examples")[2]
    (example,) = re.findall(rf"^```{markdown}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "example").mkdir()
    (tmp_path / "work").mkdir()
    program = tmp_path / "example" / f"digits_example{suffix}"
    program.write_text(example, encoding="utf-8")
    label, probability, elements = run(labelled, "digits", program, tmp_path / "work").split()
    with dlpack.load(labelled) as predictor:
        predictor.run({"image": np.zeros((1, 1, 8, 8), np.float32)})
        (best,) = predictor.top_k(1)
    assert label == best.label and elements == "10"
    assert float(probability) == pytest.approx(best.probability, rel=1e-5)


TYPES = {
    "bool": "?", "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
    "uint32": "I", "int64": "q", "uint64": "Q",
}  # fmt: skip
EVERY_TYPE = {
    "csharp": "class M { static void Main() { System.Console.Write(new Mirror.Predictor() == null ? 0 : 1); } }",
    "go": 'package main\n\nimport "mirror"\n\nfunc main() {\n\tmirror.New()\n\tprint()\n}\n',
    "java": "class Main { public static void main(String[] a) { new dlpack.mirror.Predictor().close(); } }",
    "lua": "require('mirror').new():close()",
    "node": """
        import { Predictor } from 'mirror';
        const arrays = [Uint8Array, Float32Array, Float64Array, Int8Array, Uint8Array, Int16Array, Uint16Array,
          Int32Array, Uint32Array, BigInt64Array, BigUint64Array];
        const names = process.argv.slice(2);
        const inputs = {};
        names.forEach((name, k) => {
          inputs[name] = arrays[k].from([0, 1].map(arrays[k].name.startsWith('Big') ? BigInt : Number));
        });
        const outputs = new Predictor().run(inputs);
        names.forEach((name, k) => {
          const y = outputs[`${name}_out`];
          if (!(y instanceof arrays[k]) || y.join() !== '0,1') throw new Error(`${name}: ${y}`);
        });
        """,
    "python-wheel": f"""
import sys
import mirror

predictor = mirror.Predictor()
inputs = {{
    name: memoryview(bytearray(2 * memoryview(bytes(8)).cast(kind).itemsize)).cast(kind)
    for name, kind in zip(sys.argv[1:], {"".join(TYPES.values())!r})
}}
for view in inputs.values():
    view[1] = 1
outputs = predictor.run(inputs)
for name, view in inputs.items():
    y = outputs[name + "_out"]
    assert (y.format, y.tolist()) == (view.format, view.tolist()), name
""",
    "rust": "fn main() { mirror::Predictor::new().unwrap(); }",
}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that gives back an input of each type, without classes."""
    folder = tmp_path_factory.mktemp("mirror")
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in TYPES]
    model = nets.model(nodes, dict.fromkeys(TYPES, (2,)), {f"{name}_out": (2,) for name in TYPES})
    for value, name in zip((*model.graph.input, *model.graph.output), 2 * [*TYPES], strict=True):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(name))
    onnx.save(model, folder / "mirror.onnx")
    return build(folder / "mirror.onnx", folder / "bundle", Options(bindings=tuple(EVERY_TYPE)))


EMPTY = {
    "go": 'package main\n\nimport "hollow"\n\nfunc main() {\n\tp, _ := hollow.New()\n\ty, err := p.Run(nil)\n'
    "\tprintln(len(y.Y))\n\tif err != nil {\n\t\tpanic(err)\n\t}\n}\n",
    "lua": "assert(#require('hollow').new():run({ x = {} }).y == 0)",
    "node": "import { Predictor } from 'hollow'; new Predictor().run({ x: new Float32Array(0) });",
    "python-wheel": "import hollow\nassert hollow.Predictor().run({'x': memoryview(b'').cast('f')})['y'].nbytes == 0\n",
}


def test_tensors_without_elements(tmp_path: Path) -> None:
    """Languages have no address for an empty array; nor is one needed."""
    model = nets.model([helper.make_node("Identity", ["x"], ["y"])], {"x": (0, 2)}, {"y": (0, 2)})
    onnx.save(model, tmp_path / "hollow.onnx")
    bundle = build(tmp_path / "hollow.onnx", tmp_path / "bundle", Options(bindings=tuple(EMPTY)))
    for language, text in EMPTY.items():
        run, suffix, _ = RUNNERS[language]
        (tmp_path / language).mkdir()
        (tmp_path / f"use{suffix}").write_text(text)
        run(bundle, "hollow", tmp_path / f"use{suffix}", tmp_path / language)


@pytest.mark.parametrize("language", EVERY_TYPE)
def test_every_element_type(language: str, mirror: Path, tmp_path: Path) -> None:
    """Each compiles in languages with static types, and comes back as it went in in others."""
    run, suffix, _ = RUNNERS[language]
    (tmp_path / "work").mkdir()
    program = tmp_path / f"use{suffix}"
    program.write_text(EVERY_TYPE[language])
    run(mirror, "mirror", program, tmp_path / "work", *TYPES)


def test_every_language_is_documented() -> None:
    text = (ROOT / "docs" / "bindings.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z][\w-]*)` \|", text, re.MULTILINE) == list(LANGUAGES)
    assert {name for name in LANGUAGES if name not in RUNNERS} == {"dart"}  # no package installs it


def test_the_wheel_speaks_numpy(case: Case, tmp_path: Path) -> None:
    site = str(Path(np.__file__).parent.parent)
    check(case, python_with(case.bundle, PROGRAMS / "digits.py", tmp_path, (site,), *case.files), DYNAMIC)
    (wheel,) = case.binding("python-wheel").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "digits/py.typed" in names and "digits-1.0.0.dist-info/licenses/NOTICE" in names
        assert "- image: float32 1x1x8x8" in archive.read("digits/__init__.py").decode()


def test_the_npm_package_is_whole(awkward: Path) -> None:
    folder = awkward / "bindings" / "node"
    package = json.loads((folder / "package.json").read_text())
    assert all((folder / name).is_file() for name in package["files"]) and "awkward.weights" in package["files"]
