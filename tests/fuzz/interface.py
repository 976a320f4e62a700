"""Fuzzes the C API of bundles with libFuzzer: ``script/fuzz --interface --seconds 60``.

Models of six kinds are built, compiled with interface.cc under AddressSanitizer and UndefinedBehaviorSanitizer, and
each called for so many seconds. A finding ends in exit code 1; its input stays in build/fuzz, and
``build/fuzz/NAME/fuzzer FILE`` repeats it. Needs Clang with its libraries (Debian: clang, libclang-rt-14-dev).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[2]
CHECKS = "address,undefined"
FLAGS = ["-std=c++17", "-O1", "-g1", "-march=native", f"-fsanitize=fuzzer,{CHECKS}", "-fno-sanitize-recover=all"]


def digits(folder: Path) -> tuple[Path, dict[str, object]]:
    """A classifier of pictures."""
    example = ROOT / "examples" / "digits"
    return example / "digits.onnx", {"preprocess": str(example / "preprocess.json"), "labels": tuple("0123456789")}


def parts(folder: Path) -> tuple[Path, dict[str, object]]:
    """Convolutions whose weights are in a file, which arrive in parts."""
    import nets

    onnx.save(nets.conv_net(), folder / "parts.onnx")
    return folder / "parts.onnx", {"weights": "file"}


def lengths(folder: Path) -> tuple[Path, dict[str, object]]:
    """Attention over texts of four lengths, with ids that are looked up."""
    from shape_bundles import text_net

    from dlpack.options import Buckets

    onnx.save(text_net(), folder / "lengths.onnx")
    return folder / "lengths.onnx", {"buckets": Buckets("tokens", (4, 8, 16))}


def words(folder: Path) -> tuple[Path, dict[str, object]]:
    """Strings that are lowered and looked up, beside one that is passed on."""
    node = helper.make_node
    nodes = [
        node("StringNormalizer", ["x"], ["low"], case_change_action="LOWER"),
        node(
            "LabelEncoder", ["low"], ["y"], domain="ai.onnx.ml", keys_strings=["red", "größe"], values_floats=[1.0, 2.0]
        ),
        node("StringConcat", ["x", "low"], ["both"]),
    ]
    value = helper.make_tensor_value_info
    outputs = [value("y", TensorProto.FLOAT, [3]), value("both", TensorProto.STRING, [3])]
    graph = helper.make_graph(nodes, "words", [value("x", TensorProto.STRING, [3])], outputs)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 4)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "words.onnx")
    return folder / "words.onnx", {}


def boxes(folder: Path) -> tuple[Path, dict[str, object]]:
    """Boxes of which a run keeps as many as the data say."""
    value = helper.make_tensor_value_info
    inputs = [value("boxes", TensorProto.FLOAT, [1, 12, 4]), value("scores", TensorProto.FLOAT, [1, 2, 12])]
    limits = {"most": np.array([5]), "overlap": np.float32([0.5]), "least": np.float32([0.1])}
    node = helper.make_node("NonMaxSuppression", [*(v.name for v in inputs), *limits], ["kept"])
    constants = [numpy_helper.from_array(array, name) for name, array in limits.items()]
    graph = helper.make_graph([node], "boxes", inputs, [value("kept", TensorProto.INT64, ["n", 3])], constants)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "boxes.onnx")
    return folder / "boxes.onnx", {}


def writer(folder: Path) -> tuple[Path, dict[str, object]]:
    """A decoder with its tokenizer."""
    from test_text_writer import writer_folder

    return writer_folder(folder) / "net.onnx", {"context": 48}


MODELS: dict[str, Callable[[Path], tuple[Path, dict[str, object]]]] = {
    make.__name__: make for make in (digits, parts, lengths, words, boxes, writer)
}


def compile_fuzzer(name: str, clang: str, folder: Path) -> Path:
    """The program `fuzzer` in the folder, which calls the API of the model of that name."""
    from dlpack.pipeline import Options, build

    folder.mkdir(parents=True, exist_ok=True)
    model, how = MODELS[name](folder)
    bundle = build(model, folder / "bundle", Options(target="source", name=name, **how))  # type: ignore[arg-type]
    functions = set(re.findall(rf"\b{name}_(\w+)\(", (bundle / f"{name}.h").read_text(encoding="utf-8")))
    told = {"MODEL": name, "MODEL_UPPER": name.upper(), "HEADER": json.dumps(f"{name}.h")}
    told["WEIGHTS"] = json.dumps(str(bundle / f"{name}.weights"))
    defined = [f"-D{key}={value}" for key, value in told.items()] + [f"-DHAS_{function}" for function in functions]
    program = folder / "fuzzer"
    sources = [Path(__file__).with_suffix(".cc"), bundle / f"{name}.cc"]
    command = [clang, *FLAGS, "-w", f"-I{bundle}", *defined, *sources, "-o", program]
    subprocess.run([str(word) for word in command], check=True)
    return program


def fuzz(seconds: int, seed: int, clang: str = "clang++", names: list[str] | None = None) -> int:
    """How many of the models have a finding. Prints a line for each."""
    found = 0
    for name in names or MODELS:
        folder = ROOT / "build" / "fuzz" / name
        program = compile_fuzzer(name, clang, folder)
        (folder / "inputs").mkdir(exist_ok=True)
        limits = [f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=3000", "-max_len=4096"]
        done = subprocess.run(
            [str(program), *limits, f"-seed={seed + 1}", "-print_final_stats=1", "inputs"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        runs = re.search(r"number_of_executed_units: (\d+)", done.stdout)
        count, outcome = int(runs[1]) if runs else 0, "FOUND" if done.returncode else "no finding"
        print(f"{name}: {count:,} sequences of calls, {outcome}", flush=True)
        if done.returncode:
            found += 1
            print(done.stdout[-6000:])
    return found
