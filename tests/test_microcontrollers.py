"""Microcontrollers: a static library without libc and heap, verified on emulated boards; its sizes and limits;
the forms that CMake and Arduino take."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import DIGITS, optional_tool, requires_tool
from onnx import TensorProto, helper
from processes import run
from test_dots import net_of_all_kinds

sys.path.insert(0, str(Path(__file__).parent.parent))  # bench/ is run where it lies, and not installed

from bench.mcu import counting
from bench.mcu.nets import ds_cnn_int8, lenet
from dlpack.amalgamate.runtime import closure, sections
from dlpack.bundle.loader import read_kernels
from dlpack.errors import DlpackError, ToolchainError, UnsupportedError, UsageError
from dlpack.pipeline import Options, build
from dlpack.runtime_c import read_runtime
from dlpack.starters import start
from dlpack.targets import get_target
from dlpack.targets.microcontroller.sizes import parse_size, read_stack
from dlpack.targets.toolchains.compiler import zig_command

BOARDS = {
    ("cortex-m", "m0"): "QEMU's Cortex-M3",
    ("cortex-m", "m4"): "QEMU's Cortex-M4",
    ("cortex-m", "m7"): "QEMU's Cortex-M7",
    ("cortex-m", "m33"): "QEMU's Cortex-M33",
    ("cortex-m", "m55"): "QEMU's Cortex-M55",
    ("rv32", "imc"): "QEMU's RV32",
    ("rv32", "imafc"): "QEMU's RV32",
}

CODE_LIMIT = 5000
"""Bytes of code of the digits example on a core with an FPU."""

Bundles = Callable[..., Path]


def manifest_of(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return manifest


@pytest.fixture(scope="module")
def digits_for(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """The digits example for a target and a core, with further options of the target; each is built once."""
    folder = tmp_path_factory.mktemp("cores")

    def get(target: str, core: str, **more: Any) -> Path:
        path = folder / "-".join([target, core, *more])
        return path if path.exists() else build(DIGITS, path, Options(target, target_options={"core": core, **more}))

    return get


# --- on boards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "core"), list(BOARDS))
def test_the_library_computes_on_a_board_what_onnxruntime_does(digits_for: Bundles, target: str, core: str) -> None:
    requires_tool("qemu-system-arm" if target == "cortex-m" else "qemu-riscv32")
    manifest = manifest_of(digits_for(target, core))
    assert manifest["verified_on"] == [BOARDS[target, core]] and manifest["archive"] == "libdigits.a"
    assert manifest["verification"] and all(e["passed"] for e in manifest["verification"])


def test_weights_beside_the_code_and_several_shapes(tmp_path: Path) -> None:
    requires_tool("qemu-system-arm")
    rng = np.random.default_rng(1)
    weights = onnx.numpy_helper.from_array(rng.standard_normal((5, 3, 3, 3)).astype(np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), helper.make_node("Tanh", ["c"], ["y"])]
    graph = helper.make_graph(nodes, "net", [x], [y], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    shapes, more = {"x": (1, 3, 8, 8)}, ({"x": (1, 3, 12, 6)},)
    for given in ({}, {"bind": True}):
        options = Options("cortex-m", shapes=shapes, more_shapes=more, weights="file", target_options=given)
        manifest = manifest_of(build(tmp_path / "net.onnx", tmp_path / "net", options))
        assert len(manifest["verification"]) == 2 and all(e["passed"] for e in manifest["verification"])
        assert manifest["microcontroller"]["flash"]["weights"] == manifest["weights_bytes"] > 0


def test_a_multiply_add_of_lenet_takes_less_than_four_instructions(tmp_path: Path) -> None:
    """416,520 multiply-adds; counts are exact and repeatable."""
    requires_tool("qemu-system-arm")
    requires_tool("gcc")
    cost = counting.ours(lenet(), counting.core("m4"), tmp_path)
    assert cost.error < 1e-5 and cost.instructions < 4 * 416_520


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("target", "core"), list(BOARDS))
def test_integers_are_exact_on_a_board(target: str, core: str, dtype: str, tmp_path: Path) -> None:
    """Windows, strides, dilations, groups, ragged channels: by dot products where the core gains by them."""
    requires_tool("qemu-system-arm" if target == "cortex-m" else "qemu-riscv32")
    net, outputs = net_of_all_kinds(dtype)
    onnx.save(net.model(*outputs), tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "net", Options(target, target_options={"core": core}))
    manifest = manifest_of(bundle)
    assert manifest["verified_on"] == [BOARDS[target, core]]
    assert all(e["passed"] and e["absolute"] == 0 for e in manifest["verification"])
    dots = sum("dot products" in k["schedule"] for k in read_kernels(bundle) if k["macs"])
    assert dots == (0 if core == "imafc" else 6)


@pytest.mark.parametrize(("core", "instruction"), [("m4", "smlad"), ("m33", "smlad"), ("m55", "vmlava.s8")])
def test_integers_are_multiplied_by_the_cores_own_instructions(core: str, instruction: str, tmp_path: Path) -> None:
    net, outputs = net_of_all_kinds("int8")
    onnx.save(net.model(*outputs), tmp_path / "net.onnx")
    options = Options("cortex-m", name="net", verify=False, target_options={"core": core})
    bundle, on = build(tmp_path / "net.onnx", tmp_path / "net", options), counting.core(core)
    command = [*zig_command(on.zig_target), *on.zig_flags, "-O2", "-std=c++17", "-DNET_FREESTANDING", "-g0", "-S"]
    run([*command, bundle / "net.cc", "-o", tmp_path / "net.s"], check=True)
    assert (tmp_path / "net.s").read_text().count(f"\t{instruction}\t") > 20 or core == "m55"
    assert instruction in (tmp_path / "net.s").read_text()


def test_a_keyword_spotter_of_integers_takes_a_third_of_the_instructions(tmp_path: Path) -> None:
    """40.9 million when its products were of floats and its rounding in double; counts are exact and repeatable."""
    requires_tool("qemu-system-arm")
    requires_tool("gcc")
    cost = counting.ours(ds_cnn_int8(), counting.core("m4"), tmp_path)
    assert cost.error == 0 and cost.instructions < 13e6 and cost.code < 12_000


def test_a_product_is_rounded_in_integers_as_rational_numbers_are(tmp_path: Path) -> None:
    """On cores without instructions for double: ties, what is just beside them, scales of all sizes."""
    requires_tool("qemu-arm")
    rng = np.random.default_rng(5)
    wide = np.float64(2.0) ** rng.uniform(-28, 3, 4000) * rng.choice([1.0, 1.5, 1.25], 4000)
    wide[:300] = 2.0 ** -rng.integers(1, 12, 300)
    wide[300:500] += wide[300:500] * 2.0**-40
    high = wide.astype(np.float32)
    low = (wide - high).astype(np.float32)
    x = np.clip(rng.uniform(-200, 200, 4000) / wide, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    x[:600] |= 1
    known = sections(list(read_runtime().values()))
    text = "\n\n".join(s.text for s in closure(known, {"vectors", "requantized"}))
    (tmp_path / "main.cc").write_text(
        f"#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n{text}\n"
        """
int main() {
  static struct { int32_t x; float high, low; } in[4000];
  static float out[4000];
  if (fread(in, sizeof in, 1, stdin) != 1) return 1;
  for (int i = 0; i < 4000; ++i) out[i] = requantized_(in[i].x, in[i].high, in[i].low);
  return fwrite(out, sizeof out, 1, stdout) == 1 ? 0 : 2;
}
"""
    )
    rows = np.zeros(4000, [("x", "<i4"), ("high", "<f4"), ("low", "<f4")])
    rows["x"], rows["high"], rows["low"] = x, high, low
    rows.tofile(tmp_path / "in")
    zig = [w for w in zig_command("arm-linux-musleabi") if w != "-nostdlib++"]
    run([*zig, "-mcpu=cortex_a7", "-O2", "-std=c++17", "-static", "main.cc", "-o", "main"], cwd=tmp_path, check=True)
    run(["sh", "-c", f"{requires_tool('qemu-arm')} ./main < in > out"], cwd=tmp_path, check=True)
    got = np.fromfile(tmp_path / "out", "<f4")
    scales = [Fraction(float(h)) + Fraction(float(w)) for h, w in zip(high, low, strict=True)]
    want = np.array([round(int(n) * s) for n, s in zip(x, scales, strict=True)], np.float32)
    np.testing.assert_array_equal(got, want)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", ["m4", "m7"])
def test_digits_is_five_kilobytes_of_code_without_writable_data(digits_for: Bundles, core: str) -> None:
    manifest = manifest_of(digits_for("cortex-m", core))
    flash, ram = (manifest["microcontroller"][kind] for kind in ("flash", "ram"))
    assert flash["code"] <= CODE_LIMIT and flash["constants"] <= 200 and flash["weights"] == manifest["weights_bytes"]
    assert flash["total"] == flash["code"] + flash["constants"] + flash["weights"]
    assert ram["arena"] == manifest["arena"]["bytes"] and 0 < ram["stack"] < 600
    assert ram["total"] == ram["arena"] + ram["tensors"] + ram["handle"] + ram["stack"]


@pytest.mark.parametrize("bind", [False, True])
def test_the_report_states_the_memory_that_the_header_asks_for(digits_for: Bundles, bind: bool, tmp_path: Path) -> None:
    bundle = digits_for("cortex-m", "m4", **({"bind": True} if bind else {}))
    ram = manifest_of(bundle)["microcontroller"]["ram"]
    assert (ram["tensors"] == 0) == bind
    wanted = ram["total"] - ram["stack"]
    text = f'#include "digits.h"\nstatic_assert(DIGITS_MEMORY_BYTES == {wanted}, "the same");\n'
    (tmp_path / "check.cc").write_text(text, encoding="utf-8")
    defines = ["-DDIGITS_BIND_ONLY"] if bind else []
    zig = [*zig_command("thumb-freestanding-eabihf"), "-mcpu=cortex_m4+vfp4d16sp", *defines, f"-I{bundle}"]
    run([*zig, "-c", tmp_path / "check.cc", "-o", tmp_path / "check.o"], check=True)


def test_what_does_not_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    limits = {"ram": "3K", "flash": "64K"}
    with pytest.raises(UnsupportedError) as refused:
        build(DIGITS, tmp_path / "digits", Options("cortex-m", target_options=limits))
    text = str(refused.value)
    assert refused.value.exit_code == 3 and not (tmp_path / "digits").exists()
    for part in ("--ram allows 3,072", "--flash allows 65,536", "bytes of RAM", "bytes of flash", "arena 3,072"):
        assert part in text
    fits = {"ram": "4K", "flash": "100K"}
    assert build(DIGITS, tmp_path / "digits", Options("cortex-m", target_options=fits, verify=False)).is_dir()


def test_sizes_are_read_as_they_are_written() -> None:
    assert [parse_size("ram", text) for text in ("512", "64K", "64kB", "1M", "1MiB")] == [
        512,
        1 << 16,
        1 << 16,
        1 << 20,
        1 << 20,
    ]
    for text in ("", "64 K", "K", "1.5M", "-3"):
        with pytest.raises(UsageError, match="--flash"):
            parse_size("flash", text)


def test_a_stack_is_the_internal_frames_and_the_largest_of_the_api(tmp_path: Path) -> None:
    lines = ["a.cc:1:net_run\t16\tstatic", "a.cc:2:net_create\t40\tstatic", "a.cc:3:void net_impl::k(int)\t100\tstatic"]
    (tmp_path / "net.su").write_text("\n".join([*lines, "a.cc:9:void net_impl::fill<float>()\t8\tstatic", ""]))
    assert read_stack(tmp_path / "net.su", "net") == 148
    gcc = [
        "a.cc:1:9:net_status net_run(net_predictor*)\t16\tstatic",
        "a.cc:3:9:void net_impl::k(const net_tensor&)\t100\tdynamic,bounded",
    ]
    (tmp_path / "net.su").write_text("\n".join(gcc))
    assert read_stack(tmp_path / "net.su", "net") == 116


def test_without_memory_for_inputs_and_outputs_a_run_asks_for_them(digits_for: Bundles, tmp_path: Path) -> None:
    bundle = digits_for("cortex-m", "m4", bind=True)
    (tmp_path / "main.cc").write_text(
        """
#include "digits.h"
alignas(64) static unsigned char memory[DIGITS_MEMORY_BYTES];
int main() {
  static float x[64], y[10];
  digits_predictor* p = nullptr;
  digits_class best = {};
  if (digits_memory_size() > sizeof memory || digits_create(&p, memory, sizeof memory, nullptr, 0) != 0) return 1;
  if (digits_run(p) != DIGITS_BAD_ARGUMENT || digits_set_input(p, 0, x, sizeof x) != DIGITS_BAD_ARGUMENT) return 2;
  if (digits_bind_input(p, 0, x, sizeof x) != 0 || digits_run(p) != DIGITS_BAD_ARGUMENT) return 3;
  if (digits_top_k(p, 0, 1, &best) != DIGITS_BAD_ARGUMENT || digits_get_output(p, 0, y, sizeof y) == 0) return 4;
  if (digits_bind_output(p, 0, y, sizeof y) != 0 || digits_run(p) != 0 || digits_run_step(p, 0) != 0) return 5;
  float sum = 0;
  for (float value : y) sum += value;
  return sum > 0.999f && sum < 1.001f ? 0 : 6;
}
"""
    )
    defines = ["-DDIGITS_BIND_ONLY", f"-I{bundle}"]
    command = [
        requires_tool("g++"),
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Wshadow",
        "-Wconversion",
        "-Werror",
        *defines,
    ]
    run([*command, "main.cc", bundle / "digits.cc", "-o", "main"], cwd=tmp_path, check=True)
    assert run([tmp_path / "main"]).returncode == 0


@pytest.mark.parametrize(("core", "said"), [("m4", ""), ("m55", "GCC 12 confuses the predicates")])
def test_gcc_compiles_for_a_core_too_but_for_mve(core: str, said: str, tmp_path: Path) -> None:
    """GCC 12 computes `a == a ? (a > b ? a : b) : a` wrongly with MVE's vectors."""
    gcc = optional_tool("arm-none-eabi-g++", "it takes 436 MB")
    requires_tool("qemu-system-arm")
    options = Options("cortex-m", cc=gcc, target_options={"core": core})
    if said:
        with pytest.raises(ToolchainError, match=said):
            build(DIGITS, tmp_path / "digits", options)
    else:
        sizes = manifest_of(build(DIGITS, tmp_path / "digits", options))["microcontroller"]
        assert sizes["flash"]["code"] <= CODE_LIMIT and 0 < sizes["ram"]["stack"] < 600


# --- forms ------------------------------------------------------------------------------------------------------------


def zig_wrapper(folder: Path) -> Path:
    """A script that is zig's clang for a Cortex-M4, as a toolchain file names a compiler."""
    words = " ".join(f"'{w}'" for w in (sys.executable, "-m", "ziglang", "c++"))
    path = folder / "cxx"
    path.write_text(f'#!/bin/sh\nexec {words} -target thumb-freestanding-eabihf -mcpu=cortex_m4+vfp4d16sp "$@"\n')
    path.chmod(0o755)
    return path


def test_cmake_compiles_the_bundle_into_a_project(digits_for: Bundles, tmp_path: Path) -> None:
    cmake = requires_tool("cmake")
    bundle = shutil.copytree(digits_for("cortex-m", "m4", bind=True), tmp_path / "digits")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app LANGUAGES CXX)\nadd_subdirectory(digits)\n"
        "add_library(app STATIC app.cc)\ntarget_link_libraries(app PRIVATE digits)\n"
    )
    (tmp_path / "app.cc").write_text(
        '#include "digits.h"\n#if !defined(DIGITS_BIND_ONLY)\n#error "the definition is public"\n#endif\n'
        "unsigned char memory[DIGITS_MEMORY_BYTES];\n"
    )
    settings = {
        "CMAKE_SYSTEM_NAME": "Generic",
        "CMAKE_CXX_COMPILER": zig_wrapper(tmp_path),
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
        "CMAKE_CXX_COMPILER_WORKS": "1",
    }
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    run([cmake, "-S", tmp_path, "-B", tmp_path / "build", *defines], check=True, env={**os.environ, "CXX": ""})
    run([cmake, "--build", tmp_path / "build"], check=True)
    assert (tmp_path / "build" / "digits" / "libdigits.a").stat().st_size > manifest_of(bundle)["weights_bytes"]


def test_an_arduino_library_has_its_parts_and_its_sketch_compiles(digits_for: Bundles, tmp_path: Path) -> None:
    bundle = digits_for("cortex-m", "m4", arduino=True)
    library = bundle / "arduino" / "digits"
    lines = (library / "library.properties").read_text(encoding="utf-8").splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert properties["name"] == "digits" and properties["includes"] == "digits.h"
    assert properties["precompiled"] == "full" and properties["ldflags"] == "-ldigits"
    needed = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert needed <= properties.keys() and all(properties.values())
    for abi in ("hard", "softfp"):
        assert (library / "src" / "cortex-m4" / f"fpv4-sp-d16-{abi}" / "libdigits.a").is_file()
    assert set(manifest_of(bundle)["files"]) > {
        "arduino/digits/src/digits.cpp", "arduino/digits/examples/digits/digits.ino",
    }  # fmt: skip
    (tmp_path / "Arduino.h").write_text(
        "#include <stddef.h>\n#include <stdint.h>\nunsigned long micros();\nvoid delay(unsigned long);\n"
        "struct Port {\n  void begin(long);\n"
        "  template <class T> void print(T);\n  template <class T> void println(T);\n};\n"
        "extern Port Serial;\n"
    )
    zig = [*zig_command("thumb-freestanding-eabihf"), "-mcpu=cortex_m4+vfp4d16sp", "-std=c++17", "-Wall", "-Werror"]
    sketch = library / "examples" / "digits" / "digits.ino"
    given = ["-include", tmp_path / "Arduino.h", f"-I{library / 'src'}"]
    run([*zig, *given, "-c", sketch, "-o", tmp_path / "sketch.o"], check=True)
    run([*zig, "-c", library / "src" / "digits.cpp", "-o", tmp_path / "digits.o"], check=True)

    start("platformio", bundle, tmp_path / "project")  # which has the same program and library in its own form
    settings = configparser.ConfigParser()
    settings.read(tmp_path / "project" / "platformio.ini")
    assert settings["env:board"]["board"] == "nucleo_f446re" and settings["env:board"]["framework"] == "arduino"
    made = {p.relative_to(tmp_path / "project").as_posix() for p in (tmp_path / "project" / "lib").rglob("*.*")}
    assert made == {"lib/digits/digits.cpp", "lib/digits/digits.h"}
    given = [f"-I{tmp_path}", f"-I{tmp_path / 'project' / 'lib' / 'digits'}"]
    run([*zig, *given, "-c", tmp_path / "project" / "src" / "main.cpp", "-o", tmp_path / "main.o"], check=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options("cortex-m", target_options={"core": "m9"}), "known are: m4, m0, m7, m33, m55"),
        (Options("rv32", target_options={"core": "m4"}), "known are: imc, imafc"),
        (Options("cortex-m", threads=2), "remove --threads"),
        (Options("cortex-m", target_options={"ram": "much"}), "--ram 'much'"),
        (Options("cortex-m", weights="file", target_options={"arduino": True}), "remove --weights file"),
        (Options("native", target_options={"core": "m4"}), "--core is an option of cortex-m, rv32"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: Options, said: str, tmp_path: Path) -> None:
    with pytest.raises(DlpackError, match=said):
        build(DIGITS, tmp_path / "digits", options)


def test_winograd_takes_no_ram(tmp_path: Path) -> None:
    """Its transformed weights would lie in RAM, for all that --optimize says."""
    from nets import winograd_net

    onnx.save(winograd_net(), tmp_path / "net.onnx")
    manifest = manifest_of(build(tmp_path / "net.onnx", tmp_path / "net", Options("cortex-m", verify=False)))
    assert manifest["prepared_bytes"] == 0


def test_each_core_has_a_machine_of_its_own() -> None:
    for name in ("cortex-m", "rv32"):
        machines = [b.machine().name for b in get_target(name).builds]
        assert len(set(machines)) == len(machines) and all(m.isidentifier() for m in machines)
