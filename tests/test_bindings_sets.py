"""Bindings: in each language that is here a program chooses sizes and threads, and finds boxes in a picture. It gives
what `dlpack.load` gives, and each misuse is an error that says what is wrong.

The programs are tests/bindings/found.*; all share one bundle.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from conftest import optional_tool
from onnx import helper, numpy_helper
from processes import run
from test_bindings import LANGUAGES, PROGRAMS, RUNNERS, check_header, check_texts

import dlpack
from dlpack.bindings.api import (
    ALWAYS,
    CREATE,
    CREATE_FROM_FILE_WITHIN,
    DETECTIONS,
    INPUT_OF,
    MEMORY_SIZE_FOR,
    OUTPUT_OF,
    PREPROCESS_RGB,
    RESHAPE,
    SET_INPUT,
    SET_SHAPE,
    SET_THREADS,
    SHAPE,
)
from dlpack.meaning.detect import detections
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build

PICTURE = np.random.default_rng(4).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ROWS = [[0, 1, 0.5, 0.1, 0.2, 0.5, 0.6], [0, 2, 0.7, 0.3, 0.1, 0.9, 0.8], [0, 1, 0.1, 0.0, 0.0, 1.0, 1.0]]
"""An image's number, class, score and corners, to which a tenth of the picture's mean is added; the third is unsure."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector for pictures of 10,201 sizes, which no text lists. It also gives twice its input, and what is worth
    two threads."""
    folder = tmp_path_factory.mktemp("found")
    nodes = [
        helper.make_node("Add", ["image", "image"], ["twice"]),
        helper.make_node("GlobalAveragePool", ["image"], ["colours"]),
        helper.make_node("ReduceMean", ["colours"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "weight"], ["moved"]),
        helper.make_node("Add", ["moved", "rows"], ["boxes"]),
        helper.make_node("Expand", ["mean", "width"], ["wide"]),
        helper.make_node("Exp", ["wide"], ["much"]),
    ]
    outputs = {"twice": (1, 3, "h", "w"), "boxes": (1, 1, 3, 7), "much": (1, 1, 1, 200_001)}
    model = nets.model(nodes, {"image": (1, 3, "h", "w")}, outputs)
    tensors = {"rows": np.array([[ROWS]], np.float32), "weight": np.array([0, 0, *5 * [0.1]], np.float32)}
    tensors["width"] = np.array([1, 1, 1, 200_001])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    onnx.save(model, folder / "found.onnx")
    task = {"kind": "detect", "format": "rows", "output": "boxes", "threshold": 0.4, "most": 5}
    (closed,), batch = opened_batch(["image=1x3x6..206/2x6..206/2"])
    options = Options(
        shapes={"image": tuple(map(int, closed.partition("=")[2].split("x")))}, batch=batch, threads=2,
        task=json.dumps(task), preprocess='{"scale": 0.01}', labels=("none", "猫", "dog"), bindings=LANGUAGES,
        verify=False,
    )  # fmt: skip
    return build(folder / "found.onnx", folder / "bundle", options)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`y` is `x`, up to nine rows of four, times a matrix; its weights lie beside it."""
    folder = tmp_path_factory.mktemp("heavy")
    model = nets.model(
        [helper.make_node("MatMul", ["x", "matrix"], ["y"])],
        {"x": ("n", 4)},
        {"y": ("n", 3)},
        {"matrix": np.arange(12, dtype=np.float32).reshape(4, 3)},
    )
    onnx.save(model, folder / "heavy.onnx")
    (closed,), batch = opened_batch(["x=1..9x4"])
    options = Options(shapes={"x": tuple(map(int, closed.partition("=")[2].split("x")))}, batch=batch, weights="file")
    return build(folder / "heavy.onnx", folder / "bundle", replace(options, bindings=LANGUAGES))


LESS_MEMORY = {
    "csharp": """
        using System; using Heavy;
        class M { static void Main(string[] a) {
          var p = new Predictor(a[0], Predictor.MemoryForX(2, 4)); p.ReshapeX(2, 4);
          Console.WriteLine(p.Run(new float[] {1, 2, 3, 4, 1, 2, 3, 4}).Y[5]);
          try { p.ReshapeX(9, 4); } catch (PredictorException e) { Console.WriteLine(e.Message); } } }""",
    "go": """package main

        import ("fmt"; "heavy"; "os")

        func main() {
          memory, _ := heavy.MemoryForX(2, 4)
          p, _ := heavy.NewWithin(memory, os.Args[1])
          p.ReshapeX(2, 4)
          out, _ := p.Run([]float32{1, 2, 3, 4, 1, 2, 3, 4})
          fmt.Println(out.Y[5])
          fmt.Println(p.ReshapeX(9, 4))
        }""",
    "java": """
        import dlpack.heavy.Predictor;
        class Main { public static void main(String[] a) {
          try (Predictor p = new Predictor(a[0], Predictor.memoryForX(2, 4))) {
            p.reshapeX(2, 4);
            System.out.println(p.run(new float[] {1, 2, 3, 4, 1, 2, 3, 4}).y[5]);
            p.reshapeX(9, 4);
          } catch (IllegalStateException e) { System.out.println(e.getMessage()); } } }""",
    "julia": """
        using Heavy
        p = Predictor(ARGS[1]; largest = ["x" => (2, 4)])
        set_shape_of(p, "x", (2, 4))
        println(run(p, "x" => Float32[1, 2, 3, 4, 1, 2, 3, 4])["y"][2, 3])
        try set_shape_of(p, "x", (9, 4)) catch e; println(e.msg) end""",
    "kotlin": """
        import dlpack.heavy.kotlin.Predictor
        fun main(a: Array<String>) = Predictor(a[0], Predictor.memoryForX(2, 4)).use { p ->
          p.reshapeX(2, 4)
          println(p.run(floatArrayOf(1f, 2f, 3f, 4f, 1f, 2f, 3f, 4f)).y[5])
          try { p.reshapeX(9, 4) } catch (e: IllegalStateException) { println(e.message) }
        }""",
    "lua": """
        local p = require("heavy").new(arg[1], { largest = { x = { 2, 4 } } })
        p:reshape("x", { 2, 4 })
        print(p:run({ x = { 1, 2, 3, 4, 1, 2, 3, 4 } }).y[6])
        print(select(2, pcall(p.reshape, p, "x", { 9, 4 })))""",
    "node": """
        import { Predictor } from "heavy";
        const p = new Predictor(process.argv[2], { largest: { x: [2, 4] } });
        p.reshape("x", [2, 4]);
        console.log(p.run({ x: Float32Array.of(1, 2, 3, 4, 1, 2, 3, 4) }).y[5]);
        try { p.reshape("x", [9, 4]); } catch (e) { console.log(e.message); }""",
    "python-wheel": """
from array import array
import heavy
p = heavy.Predictor(largest={"x": (2, 4)})
p.set_shape({"x": (2, 4)})
print(p.run({"x": array("f", [1, 2, 3, 4, 1, 2, 3, 4])})["y"].tolist()[1][2])
try:
    p.set_shape({"x": (9, 4)})
except ValueError as e:
    print(e)""",
    "r": """
        library(heavy)
        p <- predictor(commandArgs(trailingOnly = TRUE)[1], list(x = c(2, 4)))
        set_shape_of(p, "x", c(2, 4))
        cat(run(p, list(x = c(1, 2, 3, 4, 1, 2, 3, 4)))$y[2, 3], "\\n")
        cat(tryCatch(set_shape_of(p, "x", c(9, 4)), error = conditionMessage), "\\n")""",
    "rust": """
        use heavy::Predictor;
        fn main() {
            let memory = Predictor::memory_for_x(&[2, 4]).unwrap();
            let mut p = Predictor::open_within(memory, std::env::args().nth(1).unwrap()).unwrap();
            p.reshape_x(&[2, 4]).unwrap();
            println!("{}", p.run(&[1., 2., 3., 4., 1., 2., 3., 4.]).unwrap().y[5]);
            println!("{}", p.reshape_x(&[9, 4]).unwrap_err());
        }""",
    "swift": """
        import Heavy
        let p = try Predictor(weights: CommandLine.arguments[1], memory: Predictor.memoryFor(x: [2, 4]))
        try p.reshape(x: [2, 4])
        print(try p.run(x: [1, 2, 3, 4, 1, 2, 3, 4]).y[5])
        do { try p.reshape(x: [9, 4]) } catch { print(error) }""",
}  # fmt: skip
"""Programs that print the last number of two rows, and what a predictor with memory for two says of nine."""

WRONG = {"bounds", "step", "length", "picture", "shape", "threads", "memory", "largest"}
MISUSES = {language: WRONG | (set() if language in ("rust", "swift") else {"closed"}) for language in RUNNERS}
"""What the programs do wrongly; a predictor of Rust and Swift cannot be used when it is closed."""


def test_the_texts_are_whole(found: Path) -> None:
    check_texts(found)


def test_the_description_is_the_header(found: Path, heavy: Path) -> None:
    common = (*ALWAYS, SET_INPUT, SHAPE, SET_SHAPE, INPUT_OF, OUTPUT_OF, RESHAPE, MEMORY_SIZE_FOR)
    check_header(found, {CREATE, *common, PREPROCESS_RGB, DETECTIONS, SET_THREADS})
    check_header(heavy, {CREATE_FROM_FILE_WITHIN, *common})


def test_swift_finds_boxes_in_images(found: Path, tmp_path: Path) -> None:
    """Detector.swift, for which CoreGraphics has to be there, passes the compiler with a stub of that."""
    swiftc = optional_tool("swiftc", "it takes 3.1 GB; script/toolchains swift does")
    stubs = PROGRAMS / "coregraphics.swift"
    run([swiftc, "-emit-module", "-module-name", "CoreGraphics", "-parse-as-library", stubs], cwd=tmp_path, check=True)
    sources = found / "bindings" / "swift" / "Sources"
    files = sorted((sources / "Found").glob("*.swift"))
    assert [f.name for f in files] == ["Detector.swift", "Predictor.swift"]
    headers = sources / "Cfound" / "include"
    run([swiftc, "-typecheck", "-warnings-as-errors", "-I", headers, "-I", tmp_path, *files], check=True)


@pytest.mark.parametrize("language", RUNNERS)
def test_sizes_threads_and_boxes(language: str, found: Path, tmp_path: Path) -> None:
    use, suffix, _ = RUNNERS[language]
    PICTURE.tofile(tmp_path / "picture.bin")
    (tmp_path / "work").mkdir()
    program = PROGRAMS / f"found{suffix}"
    told = defaultdict(list)
    for line in use(found, "found", program, tmp_path / "work", str(tmp_path / "picture.bin")).splitlines():
        key, *rest = line.split()
        told[key.rstrip(":")].append(rest)
    assert [[float(n) for n in line] for line in told["set"]] == [[102, 192, 3], [0, 108, 5]]
    with dlpack.load(found) as p:
        p.set_shape(0)
        wanted = detections(p.run({"image": p.preprocess(PICTURE)}), p.manifest, 7, 5)
    assert [(int(i), label) for i, label, *_ in told["found"]] == [(d.index, d.label) for d in wanted] and wanted
    for (_, _, *numbers), d in zip(told["found"], wanted, strict=True):
        np.testing.assert_allclose([float(n) for n in numbers], [d.score, d.x, d.y, d.width, d.height], rtol=1e-5)
    assert told["sure"] == [["0"]]
    assert [float(n) for (n,) in told["small"]] == [3]
    assert all("memory" in " ".join(m) for m in told["memory"])
    for misuse in MISUSES[language]:
        assert told[misuse] and all(message != ["no", "error"] for message in told[misuse]), misuse
    if language != "python-wheel":
        for misuse in ("bounds", "step", "largest"):
            assert all("1x3x6..206/2x6..206/2" in " ".join(m) for m in told[misuse]), misuse
    assert all("closed" in " ".join(m) or "disposed" in " ".join(m).lower() for m in told["closed"])
    assert all("108" in " ".join(m) or "6, 6" in " ".join(m) for m in told["length"])


@pytest.mark.parametrize("language", RUNNERS)
def test_less_memory_with_weights_in_a_file(language: str, heavy: Path, tmp_path: Path) -> None:
    use, suffix, _ = RUNNERS[language]
    (tmp_path / "work").mkdir()
    program = tmp_path / f"less{suffix}"
    program.write_text(LESS_MEMORY[language])
    number, refusal = use(heavy, "heavy", program, tmp_path / "work", str(heavy / "heavy.weights")).splitlines()
    assert float(number) == 2 + 2 * 5 + 3 * 8 + 4 * 11 and "memory" in refusal
