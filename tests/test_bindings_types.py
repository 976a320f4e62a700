"""Bindings: floats of 16 bits, how long the texts are, and what compilers of languages with static types refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nets
import onnx
import pytest
from conftest import DIGITS
from onnx import TensorProto, helper
from test_bindings import LANGUAGES, RUNNERS

from dlpack.bindings import write_bindings
from dlpack.bindings.api import describe
from dlpack.bindings.base import Bundle
from dlpack.pipeline import Options, build

HALVES = {
    "csharp": """
        class M { static void Main() {
          var y = new Halves.Predictor().Run(new ushort[] { 0x3e00, 0xc000 }, new ushort[] { 0x3fc0, 0xc000 });
          System.Console.Write("{0} {1} {2} {3}", y.HTwice[0], y.HTwice[1], y.BTwice[0], y.BTwice[1]);
        } }""",
    "go": """package main

import (
	"fmt"
	"halves"
)

func main() {
	p, _ := halves.New()
	y, err := p.Run([]uint16{0x3e00, 0xc000}, []uint16{0x3fc0, 0xc000})
	if err != nil {
		panic(err)
	}
	fmt.Println(y.HTwice[0], y.HTwice[1], y.BTwice[0], y.BTwice[1])
}
""",
    "java": """
        class Main { public static void main(String[] a) {
          short[] h = {0x3e00, (short) 0xc000}, b = {0x3fc0, (short) 0xc000};
          dlpack.halves.Predictor.Outputs y = new dlpack.halves.Predictor().run(h, b);
          System.out.println((y.hTwice[0] & 0xffff) + " " + (y.hTwice[1] & 0xffff) + " " + (y.bTwice[0] & 0xffff) + " "
              + (y.bTwice[1] & 0xffff));
        } }""",
    "lua": """
        local y = require("halves").new():run({ h = { 0x3e00, 0xc000 }, b = { 0x3fc0, 0xc000 } })
        print(y.h_twice[1], y.h_twice[2], y.b_twice[1], y.b_twice[2])""",
    "node": """
        import { Predictor } from 'halves';
        const y = new Predictor().run({ h: Uint16Array.of(0x3e00, 0xc000), b: Uint16Array.of(0x3fc0, 0xc000) });
        console.log(y.h_twice[0], y.h_twice[1], y.b_twice[0], y.b_twice[1]);""",
    "python-wheel": """
from array import array
import halves

y = halves.Predictor().run({"h": array("H", [0x3E00, 0xC000]), "b": array("H", [0x3FC0, 0xC000])})
print(*y["h_twice"].tolist(), *y["b_twice"].tolist())
""",
    "r": """
        library(halves)
        y <- run(predictor(), list(h = c(0x3e00, 0xc000), b = c(0x3fc0, 0xc000)))
        cat(y$h_twice, y$b_twice)""",
    "rust": """
        fn main() {
            let mut p = halves::Predictor::new().unwrap();
            let y = p.run(&[0x3e00, 0xc000], &[0x3fc0, 0xc000]).unwrap();
            println!("{} {} {} {}", y.h_twice[0], y.h_twice[1], y.b_twice[0], y.b_twice[1]);
        }""",
}


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twice a float16 and twice a bfloat16."""
    folder = tmp_path_factory.mktemp("halves")
    nodes = [helper.make_node("Add", [name, name], [f"{name}_twice"]) for name in "hb"]
    model = nets.model(nodes, {"h": (2,), "b": (2,)}, {"h_twice": (2,), "b_twice": (2,)})
    for value, kind in zip((*model.graph.input, *model.graph.output), 2 * ("FLOAT16", "BFLOAT16"), strict=True):
        value.type.tensor_type.elem_type = getattr(TensorProto, kind)
    onnx.save(model, folder / "halves.onnx")
    return build(folder / "halves.onnx", folder / "bundle", Options(bindings=tuple(HALVES)))


@pytest.mark.parametrize("language", HALVES)
def test_floats_of_16_bits_are_told_by_their_bits(language: str, halves: Path, tmp_path: Path) -> None:
    """Twice 1.5 and twice -2."""
    run, suffix, _ = RUNNERS[language]
    (tmp_path / "work").mkdir()
    (tmp_path / f"use{suffix}").write_text(HALVES[language])
    told = run(halves, "halves", tmp_path / f"use{suffix}", tmp_path / "work")
    assert [int(bits) for bits in told.split()] == [0x4200, 0xC400, 0x4040, 0xC080]


COMPILERS = {
    "csharp": (
        "class M {{ static void Main() {{ var p = new Digits.Predictor(); {} }} }}",
        [
            "p.Run();",
            "p.Run(new double[64]);",
            "p.Run(mask: new float[64]);",
            "Digits.Predictor q; q.Run(new float[64]);",
        ],
    ),
    "go": (
        'package main\n\nimport "digits"\n\nfunc main() {{\n\tp, _ := digits.New()\n\t{}\n}}\n',
        ["p.Run()", "p.Run(make([]float64, 64))", "p.Run(make([]float32, 64), make([]float32, 64))"],
    ),
    "java": (
        "class Main {{ public static void main(String[] a) {{ var p = new dlpack.digits.Predictor(); {} }} }}",
        ["p.run();", "p.run(new double[64]);", "dlpack.digits.Predictor q; q.run(new float[64]);"],
    ),
    "rust": (
        "fn main() {{ let mut p = digits::Predictor::new().unwrap(); {} }}",
        [
            "p.run();",
            "p.run(&[0f64; 64]);",
            "drop(p); p.run(&[0f32; 64]);",
            "let q: digits::Predictor; q.run(&[0f32; 64]);",
        ],
    ),
}
"""Programs with what their language's compiler refuses: an input that is missing, of another type, or unknown, a
predictor that was not made, and in Rust one that is gone."""


@pytest.fixture(scope="module")
def digits_(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(DIGITS, tmp_path_factory.mktemp("digits") / "bundle", Options(bindings=tuple(COMPILERS)))


LINE_COMMENTS = {".jl": "#", ".R": "#", ".lua": "--"}
BLOCK_COMMENTS = r'/\*.*?\*/|^ *""".*?"""$|^"[^"\n]*"$'
FIXED = ("values.h", "napi.h", "build.rs")
"""The same for all models."""


def lines_of_code(path: Path) -> int:
    """How many lines a text has without comments and blank ones."""
    text = re.sub(BLOCK_COMMENTS, "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    mark = LINE_COMMENTS.get(path.suffix, "//")
    return sum(bool(line.strip()) and not line.strip().startswith(mark) for line in text.splitlines())


def test_plain_bindings_are_thin(digits_: Path, tmp_path: Path) -> None:
    """What is called of a model with one input and one output, and what is between it and C, take 60 lines at most."""
    manifest = json.loads((digits_ / "manifest.json").read_text())
    plain = {key: value for key, value in manifest.items() if key not in ("labels", "preprocess", "task")}
    for name in ("digits.cc", "digits.h", "libdigits.so"):
        (tmp_path / name).touch()
    bundle = Bundle(tmp_path, describe(plain, ""), plain, "libdigits.so", lambda _, to: to.touch(), "", "")
    write_bindings(bundle, LANGUAGES)
    suffixes = (".cs", ".dart", ".go", ".java", ".jl", ".kt", ".lua", ".js", ".R", ".rs", ".swift", ".cc")
    texts = [p for p in (tmp_path / "bindings").rglob("*") if p.suffix in suffixes and p.name not in FIXED]
    lengths = {p.relative_to(tmp_path / "bindings"): lines_of_code(p) for p in texts if p.stat().st_size}
    assert len(lengths) > 15 and {path: n for path, n in lengths.items() if n > 60} == {}


@pytest.mark.parametrize("language", COMPILERS)
def test_compilers_refuse_what_is_wrong(language: str, digits_: Path, tmp_path: Path) -> None:
    run, suffix, _ = RUNNERS[language]
    form, wrong = COMPILERS[language]
    right = {"csharp": "p.Run(new float[64]);", "go": "p.Run(make([]float32, 64))",
             "java": "p.run(new float[64]);", "rust": "p.run(&[0f32; 64]).unwrap();"}[language]  # fmt: skip
    for k, text in enumerate([right, *wrong]):
        (tmp_path / str(k)).mkdir()
        program = tmp_path / f"use{k}{suffix}"
        program.write_text(form.format(text))
        if text == right:
            run(digits_, "digits", program, tmp_path / str(k))
        else:
            with pytest.raises(pytest.fail.Exception) as refused:
                run(digits_, "digits", program, tmp_path / str(k))
            assert not re.search("panicked|panic:|Exception", str(refused.value)), text


SETS = {
    "java": """
        class Main { public static void main(String[] a) {
          dlpack.grown.Predictor p = new dlpack.grown.Predictor();
          p.setThreads(2);
          System.out.println(p.run(new float[200001]).y[200000]);
          p.setShape(1);
          System.out.println(p.run(new float[300001]).y[300000]);
          try { p.run(new float[2]); } catch (IllegalArgumentException e) { System.out.println(e.getMessage()); }
        } }""",
    "kotlin": """
        import dlpack.grown.kotlin.Predictor
        fun main() {
            val p = Predictor()
            p.setThreads(2)
            println(p.run(FloatArray(200001)).y[200000])
            p.shape = 1
            println(p.run(FloatArray(300001)).y[300000])
            try { p.run(FloatArray(2)) } catch (e: IllegalArgumentException) { println(e.message) }
        }""",
}


@pytest.mark.parametrize("language", SETS)
def test_sets_of_shapes_and_threads(language: str, tmp_path: Path) -> None:
    model = nets.model([helper.make_node("Exp", ["x"], ["y"])], {"x": ("n",)}, {"y": ("n",)})
    onnx.save(model, tmp_path / "grown.onnx")
    options = Options(shapes={"x": (200_001,)}, more_shapes=({"x": (300_001,)},), threads=2, bindings=(language,))
    bundle = build(tmp_path / "grown.onnx", tmp_path / "bundle", options)
    run, suffix, _ = RUNNERS[language]
    (tmp_path / "work").mkdir()
    (tmp_path / f"use{suffix}").write_text(SETS[language])
    told = run(bundle, "grown", tmp_path / f"use{suffix}", tmp_path / "work")
    assert told.split("\n")[:3] == ["1.0", "1.0", "x (float32 200001 or 300001) has 2 elements; 300001 are needed"]
