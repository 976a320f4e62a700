"""Bindings: in each language that is here a program runs the digits, classifies a picture, and errs; it gives what
`dlpack.load` gives, and each misuse is an error that says what is wrong.

The programs lie in tests/bindings. All languages share one native bundle, and another of a model with awkward names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from conftest import DIGITS, ROOT, requires_tool
from onnx import TensorProto, helper, numpy_helper

import dlpack
from dlpack.bindings import all_bindings
from dlpack.bindings.api import ALWAYS, CREATE, CREATE_FROM_FILE, PREPROCESS_RGB, TOP_K, describe
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


def execute(*words: str | Path, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        [str(w) for w in words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stderr}\n{done.stdout}"
    return done.stdout


def optional_tool(name: str, why: str) -> str:
    """A tool that script/test does not install."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"the tool {name} is not installed, and script/test does not install it: {why}")
    return path


def check(case: Case, printed: str, *misuses: str) -> dict[str, list[str]]:
    """What a program printed is what `dlpack.load` computes, and each misuse was an error; returns their messages."""
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
    return told


AWKWARD = ["func 70 90 110", "in 10 20 30", "class z", "length error", "weights error"]
"""What a program for the awkward model prints: (1, 2, 3, 4) times the matrix is (60, 70, 80)."""


# --- the description --------------------------------------------------------------------------------------------------


def test_the_description_is_the_header(case: Case, awkward: Path) -> None:
    """The functions that bindings declare are those of NAME.h, with the same types."""

    def declared(header: str, name: str) -> dict[str, list[str]]:
        found = re.findall(rf"{name.upper()}_API ([\w ]+\*?) ?{name}_(\w+)\(([^)]*)\);", header)
        return {f: [r.strip(), *(re.sub(r"\s+", " ", p).strip() for p in a.split(","))] for r, f, a in found}

    for bundle, functions in (
        (case.bundle, (CREATE, *ALWAYS, TOP_K, PREPROCESS_RGB)),
        (awkward, (CREATE_FROM_FILE, *ALWAYS, TOP_K)),
    ):
        manifest = json.loads((bundle / "manifest.json").read_text())
        name = manifest["name"]
        header = declared((bundle / f"{name}.h").read_text(), name)
        assert set(describe(manifest, "").functions) == set(functions)
        for f in functions:
            own = [f.returns, *(f"{kind} {parameter}" for parameter, kind in f.parameters)]
            own = [re.sub(r"\b(predictor|class|status)(\*| |$)", rf"{name}_\1\2", text, count=1) for text in own]
            assert own == header[f.name]


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


def test_the_texts_are_short_and_whole(case: Case, awkward: Path) -> None:
    """No placeholder or condition is left in any of them."""
    for bundle in (case.bundle, awkward):
        for language in LANGUAGES:
            files = [p for p in (bundle / "bindings" / language).rglob("*") if p.is_file()]
            assert files, language
            for path in files:
                if path.suffix in (".so", ".node", ".whl", ".weights") or path.name in ("digits.cc", "awkward.cc"):
                    continue
                text = path.read_text(encoding="utf-8")
                assert not re.search(r"@\w+@|(//|#|--)@ (if|else|end)", text), path
                assert len(text.splitlines()) < 260, path
        assert json.loads((bundle / "manifest.json").read_text())["bindings"] == list(LANGUAGES)


def test_refusals(tmp_path: Path) -> None:
    for options, message in (
        (Options(bindings=("cobol",)), "no binding for 'cobol'; there are: csharp, dart, go"),
        (Options(bindings=("node",), target="source"), "--binding node needs a shared library"),
        (Options(bindings=("python-wheel",), name="json"), "called 'json', which is taken"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            build(DIGITS, tmp_path / "bundle", options)
        assert not (tmp_path / "bundle").exists()
    with pytest.raises(UsageError, match="one set of shapes"):
        describe({"shapes": [{}, {}]}, "")


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


def cargo_project(folder: Path, name: str, crate: Path, program: str) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.rs").write_text(program)
    dependency = f'{name} = {{ path = "{crate}" }}'
    package = '[package]\nname = "user"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\n'
    (folder / "Cargo.toml").write_text(f"{package}{dependency}\n")
    return folder


def test_rust(case: Case, awkward: Path, tmp_path: Path) -> None:
    cargo, cxx = optional_tool("cargo", "hundreds of megabytes"), requires_tool("g++")
    program = (PROGRAMS / "main.rs").read_text()
    user = cargo_project(tmp_path / "digits", "digits", case.binding("rust"), program)
    words = (cargo, "run", "--quiet", "--offline", "--")
    settings = {"CXX": cxx, "RUSTFLAGS": "-Dwarnings", "CARGO_TARGET_DIR": str(tmp_path / "target")}
    check(case, execute(*words, *case.files, cwd=user, **settings), "length", "picture", "count")
    program = """
        fn main() {
            let weights = std::env::args().nth(1).unwrap();
            let mut p = awkward::Predictor::open(&weights).unwrap();
            let y = p.run(&[1.0, 2.0, 3.0, 4.0], &[10, 20, 30]).unwrap();
            println!("func {} {} {}", y.func[0], y.func[1], y.func[2]);
            println!("in {} {} {}", y.in_0[0], y.in_0[1], y.in_0[2]);
            println!("class {}", p.classify(&[1.0, 2.0, 3.0, 4.0], &[10, 20, 30], 1).unwrap()[0].label);
            println!("length {}", if p.run(&[1.0], &[1, 2, 3]).is_err() { "error" } else { "none" });
            println!("weights {}", if awkward::Predictor::open("absent").is_err() { "error" } else { "none" });
        }"""
    user = cargo_project(tmp_path / "awkward", "awkward", awkward / "bindings" / "rust", program)
    assert execute(*words, awkward / "awkward.weights", cwd=user, **settings).splitlines() == AWKWARD


def test_go(case: Case, awkward: Path, tmp_path: Path) -> None:
    go = optional_tool("go", "464 MB on disk")
    requires_tool("g++")
    settings = {"GOFLAGS": "-mod=mod", "GOCACHE": str(tmp_path / "cache"), "CGO_ENABLED": "1", "GO111MODULE": "on"}
    module = "module user\n\ngo 1.18\n\nrequire {0} v0.0.0\n\nreplace {0} => {1}\n"
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "go.mod").write_text(module.format("digits", case.binding("go")))
    shutil.copy(PROGRAMS / "main.go", tmp_path / "digits")
    printed = execute(go, "run", ".", *case.files, cwd=tmp_path / "digits", **settings)
    check(case, printed, "length", "picture", "count", "closed")
    (tmp_path / "awkward").mkdir()
    (tmp_path / "awkward" / "go.mod").write_text(module.format("awkward", awkward / "bindings" / "go"))
    (tmp_path / "awkward" / "main.go").write_text("""package main

import (
	"awkward"
	"fmt"
	"os"
)

func told(name string, err error) {
	if err != nil {
		fmt.Println(name, "error")
	}
}

func main() {
	p, err := awkward.New(os.Args[1])
	if err != nil {
		panic(err)
	}
	x, c := []float32{1, 2, 3, 4}, []int64{10, 20, 30}
	y, err := p.Run(x, c)
	fmt.Println("func", y.Func[0], y.Func[1], y.Func[2])
	fmt.Println("in", y.In0[0], y.In0[1], y.In0[2])
	classes, err := p.Classify(x, c, 1)
	fmt.Println("class", classes[0].Label)
	_, err = p.Run(x, nil)
	told("length", err)
	_, err = awkward.New("absent")
	told("weights", err)
}
""")
    printed = execute(go, "run", ".", awkward / "awkward.weights", cwd=tmp_path / "awkward", **settings)
    assert printed.splitlines() == AWKWARD
    assert execute(shutil.which("gofmt") or "gofmt", "-l", case.binding("go"), awkward / "bindings" / "go") == ""


def test_csharp(case: Case, awkward: Path, tmp_path: Path) -> None:
    mcs, mono = requires_tool("mcs"), requires_tool("mono")
    shutil.copytree(case.binding("csharp"), tmp_path / "digits")
    program = tmp_path / "digits" / "program.exe"
    execute(mcs, "-warnaserror", f"-out:{program}", program.with_name("Predictor.cs"), PROGRAMS / "Main.cs")
    told = check(
        case, execute(mono, program, *case.files, cwd=program.parent), "length", "missing", "picture", "count", "closed"
    )
    assert all("ObjectDisposedException" in message for message in told["closed"])
    shutil.copytree(awkward / "bindings" / "csharp", tmp_path / "awkward")
    program = tmp_path / "awkward" / "program.exe"
    program.with_name("Main.cs").write_text("""
        using System;
        using Awkward;
        static class Program {
            static void Main(string[] arguments) {
                var p = new Predictor(arguments[0]);
                float[] x = { 1, 2, 3, 4 };
                long[] c = { 10, 20, 30 };
                var y = p.Run(x, c);
                Console.WriteLine("func " + string.Join(" ", y.Func));
                Console.WriteLine("in " + string.Join(" ", y.In0));
                Console.WriteLine("class " + p.Classify(x, c, 1)[0].Label);
                try { p.Run(x, new long[1]); } catch (ArgumentException) { Console.WriteLine("length error"); }
                try { new Predictor("absent"); } catch (PredictorException) { Console.WriteLine("weights error"); }
            }
        }""")
    execute(mcs, "-warnaserror", f"-out:{program}", program.with_name("Predictor.cs"), program.with_name("Main.cs"))
    assert execute(mono, program, awkward / "awkward.weights", cwd=program.parent).splitlines() == AWKWARD


def java_classes(javac: str, binding: Path, program: Path, classes: Path) -> str:
    """Compiles a binding and a program; the class path to run it with."""
    (source,) = (binding / "src" / "main" / "java").rglob("Predictor.java")
    classes.mkdir()
    execute(javac, "-Xlint:all", "-Werror", "-d", classes, source, program)
    return f"{classes}{os.pathsep}{binding / 'src' / 'main' / 'resources'}"


def test_java(case: Case, awkward: Path, tmp_path: Path) -> None:
    javac, java = optional_tool("javac", "hundreds of megabytes"), requires_tool("java")
    path = java_classes(javac, case.binding("java"), PROGRAMS / "Main.java", tmp_path / "digits")
    settings = ("-Xcheck:jni", "-Dstdout.encoding=UTF-8", "-Dfile.encoding=UTF-8", "-cp")
    told = check(
        case, execute(java, *settings, path, "Main", *case.files), "length", "missing", "picture", "count", "closed"
    )
    assert all("IllegalArgumentException" in message for message in told["length"])
    program = tmp_path / "Use.java"
    program.write_text("""
        import dlpack.awkward.Predictor;
        class Use {
          public static void main(String[] arguments) {
            float[] x = {1, 2, 3, 4};
            long[] c = {10, 20, 30};
            try (Predictor p = new Predictor(arguments[0])) {
              Predictor.Outputs y = p.run(x, c);
              System.out.println("func " + (int) y.func[0] + " " + (int) y.func[1] + " " + (int) y.func[2]);
              System.out.println("in " + y.in0[0] + " " + y.in0[1] + " " + y.in0[2]);
              System.out.println("class " + p.classify(x, c, 1).get(0).label);
              try {
                p.run(x, new long[1]);
              } catch (IllegalArgumentException e) {
                System.out.println("length error");
              }
              try {
                new Predictor("absent").close();
              } catch (IllegalStateException e) {
                System.out.println("weights error");
              }
            }
          }
        }""")
    path = java_classes(javac, awkward / "bindings" / "java", program, tmp_path / "awkward")
    assert execute(java, *settings, path, "Use", awkward / "awkward.weights").splitlines() == AWKWARD


def test_kotlin(case: Case, awkward: Path, tmp_path: Path) -> None:
    kotlinc = optional_tool("kotlinc", "355 MB on disk")
    javac, java = requires_tool("javac"), requires_tool("java")
    jar = tmp_path / "user.jar"
    binding = case.binding("kotlin")
    path = java_classes(javac, binding, (*binding.rglob("Predictor.java"),)[0], tmp_path / "classes")
    (source,) = binding.rglob("Predictor.kt")
    execute(kotlinc, "-include-runtime", "-cp", path, "-d", jar, source, PROGRAMS / "main.kt")
    encoding = ("-Dstdout.encoding=UTF-8", "-Dfile.encoding=UTF-8")
    printed = execute(java, *encoding, "-cp", f"{jar}{os.pathsep}{path}", "MainKt", *case.files)
    check(case, printed, "length", "picture", "count", "closed")
    assert len([*(awkward / "bindings" / "kotlin").rglob("Predictor.kt")]) == 1


def test_swift(case: Case, tmp_path: Path) -> None:
    swift = optional_tool("swift", "Debian has it from version 13 on")
    shutil.copytree(case.binding("swift"), tmp_path / "digits")
    (tmp_path / "Sources" / "user").mkdir(parents=True)
    shutil.copy(PROGRAMS / "main.swift", tmp_path / "Sources" / "user")
    (tmp_path / "Package.swift").write_text("""// swift-tools-version:5.5
        import PackageDescription
        let package = Package(
            name: "user", dependencies: [.package(name: "Digits", path: "digits")],
            targets: [.executableTarget(name: "user", dependencies: ["Digits"])])
        """)
    execute(swift, "build", cwd=tmp_path)
    check(case, execute(swift, "run", "user", *case.files, cwd=tmp_path), "length", "picture", "count")


def test_node(case: Case, awkward: Path, tmp_path: Path) -> None:
    node = requires_tool("node")
    printed = execute(node, PROGRAMS / "main.mjs", case.binding("node"), *case.files)
    check(case, printed, "length", "missing", "type", "unknown", "picture", "count", "closed")
    program = tmp_path / "use.mjs"
    program.write_text(f"""
        import {{ Predictor }} from '{awkward / "bindings" / "node" / "index.js"}';
        const inputs = {{ 'my input': Float32Array.of(1, 2, 3, 4), class: BigInt64Array.of(10n, 20n, 30n) }};
        const p = new Predictor();
        const y = p.run(inputs);
        console.log('func', y.func.join(' '));
        console.log('in', y['in:0'].join(' '));
        console.log('class', p.classify(inputs, 1)[0].label);
        try {{ p.run({{ ...inputs, class: new BigInt64Array(1) }}); }} catch {{ console.log('length error'); }}
        try {{ new Predictor('absent'); }} catch {{ console.log('weights error'); }}
        """)
    assert execute(node, program).splitlines() == AWKWARD
    package = json.loads((awkward / "bindings" / "node" / "package.json").read_text())
    assert all((awkward / "bindings" / "node" / name).is_file() for name in package["files"])


@pytest.mark.parametrize("numpy_there", [False, True], ids=["without numpy", "with numpy"])
def test_python_wheel(case: Case, tmp_path: Path, numpy_there: bool) -> None:
    (wheel,) = case.binding("python-wheel").iterdir()
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target")
    execute(sys.executable, *install, tmp_path / "site", wheel)
    search = [str(tmp_path / "site")] + ([str(Path(np.__file__).parent.parent)] if numpy_there else [])
    code = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = (sys.executable, "-S", "-W", "error", "-c", code, PROGRAMS / "use_wheel.py")
    printed = execute(*words, *case.files, PYTHONPATH=os.pathsep.join(search))
    check(case, printed, "length", "missing", "type", "unknown", "picture", "count", "closed")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "digits/py.typed" in names and "digits-1.0.0.dist-info/licenses/NOTICE" in names
        assert "- image: float32 1x1x8x8" in archive.read("digits/__init__.py").decode()


def test_python_wheel_with_weights(awkward: Path, tmp_path: Path) -> None:
    """They travel in the wheel."""
    (wheel,) = (awkward / "bindings" / "python-wheel").iterdir()
    execute(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path, wheel)
    program = """
        import awkward
        from array import array
        inputs = {"my input": array("f", [1, 2, 3, 4]), "class": array("q", [10, 20, 30])}
        p = awkward.Predictor()
        y = p.run(inputs)
        print("func", *map(int, y["func"].tolist()[0]))
        print("in", *y["in:0"].tolist()[0])
        print("class", p.classify(inputs, 1)[0].label)
        """
    text = "\n".join(line.strip() for line in program.splitlines())
    assert execute(sys.executable, "-c", text, PYTHONPATH=str(tmp_path)).splitlines() == AWKWARD[:3]
    (tmp_path / "awkward" / "awkward.weights").write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="wrong weights"):
        execute(sys.executable, "-c", text, PYTHONPATH=str(tmp_path))


def test_lua(case: Case, awkward: Path, tmp_path: Path) -> None:
    luajit = requires_tool("luajit")
    printed = execute(luajit, PROGRAMS / "main.lua", case.binding("lua"), *case.files)
    check(case, printed, "length", "missing", "type", "unknown", "picture", "count", "closed")
    program = tmp_path / "use.lua"
    program.write_text("""
        package.path = arg[1] .. "/bindings/lua/?.lua"
        local Predictor = require("awkward")
        local p = Predictor.new(arg[1] .. "/awkward.weights")
        local inputs = { ["my input"] = { 1, 2, 3, 4 }, class = { 10, 20, 30 } }
        local y = p:run(inputs)
        print("func " .. table.concat(y.func, " "))
        print("in " .. tonumber(y["in:0"][1]) .. " " .. tonumber(y["in:0"][2]) .. " " .. tonumber(y["in:0"][3]))
        print("class " .. p:classify(inputs, 1)[1].label)
        if not pcall(p.run, p, { ["my input"] = { 1 }, class = { 1, 2, 3 } }) then print("length error") end
        if not pcall(Predictor.new, "absent") then print("weights error") end
        """)
    assert execute(luajit, program, awkward).splitlines() == AWKWARD


def test_r(case: Case, awkward: Path, tmp_path: Path) -> None:
    r, rscript = requires_tool("R"), requires_tool("Rscript")
    requires_tool("g++")
    library = tmp_path / "library"
    library.mkdir()
    for package, bundle in (("digits", case.bundle), ("awkward", awkward)):
        shutil.copytree(bundle / "bindings" / "r", tmp_path / package)
        execute(r, "CMD", "INSTALL", "--no-docs", "-l", library, tmp_path / package)
    settings = {"R_LIBS": str(library), "LC_ALL": "C.UTF-8"}
    printed = execute(rscript, PROGRAMS / "main.R", *case.files, **settings)
    check(case, printed, "length", "missing", "type", "unknown", "picture", "count", "closed")
    program = tmp_path / "use.R"
    program.write_text("""
        library(awkward)
        p <- predictor(commandArgs(trailingOnly = TRUE)[1])
        inputs <- list(`my input` = 1:4, class = c(10, 20, 30))
        y <- run(p, inputs)
        cat("func", y$func, "\\n")
        cat("in", y$`in:0`, "\\n")
        cat("class", classify(p, inputs, 1)$label, "\\n")
        fails <- function(name, e) tryCatch({ e; NULL }, error = function(error) cat(name, "error\\n"))
        fails("length", run(p, list(`my input` = 1, class = 1:3)))
        fails("weights", predictor("absent"))
        """)
    printed = execute(rscript, program, awkward / "awkward.weights", **settings)
    assert [line.strip() for line in printed.splitlines()] == AWKWARD
