"""Kernels for several machines in one file: chosen by the processor, over one weights file; builds for other processors
run under emulation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import requires_tool
from onnx import TensorProto, helper, numpy_helper
from processes import run

import dlpack
from dlpack.errors import ToolchainError, UsageError
from dlpack.pipeline import Options, build
from dlpack.targets.toolchains.host import runs_avx2, runs_avx512
from dlpack.verify.run import bundle_runner

SHAPES = {"x": (1, 8, 12, 12)}
x86 = pytest.mark.skipif(not runs_avx2(), reason="x86-64 with AVX2 on Linux")


def net(path: Path) -> Path:
    """Two 3x3 convolutions that are Winograd's on some machines, a product, a loop's worth of pointwise operators."""
    rng = np.random.default_rng(3)

    def constant(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "w3"], ["f"]),
        helper.make_node("Tanh", ["f"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 21])
    weights = [constant("w1", 40, 8, 3, 3), constant("w2", 37, 40, 3, 3), constant("w3", 37, 21)]
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("variants")
    more = ({"x": (1, 8, 20, 16)},)
    options = Options(target="x86-64", name="net", shapes=SHAPES, more_shapes=more, threads=2, weights="file")
    return build(net(folder / "net.onnx"), folder / "net", options)


def inputs(seed: int, shape: tuple[int, ...] = SHAPES["x"]) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


def expected(bundle: Path, x: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle.parent / "net.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, x)[0])


@x86
def test_every_variant_computes_the_same_from_the_same_weights(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["variants"] == ["avx512", "avx2"] and manifest["verified_on"] == ["this computer"]
    runnable = manifest["variants"][0 if runs_avx512() else 1 :]
    assert {e["name"].split(" (")[1].split(",")[0] for e in manifest["verification"]} == set(runnable)
    with dlpack.load(bundle) as p:
        assert p.variant == runnable[0]
        for shape in (SHAPES["x"], (1, 8, 20, 16)):
            x = inputs(1, shape)
            for machine in (*runnable, runnable[0]):
                p.set_variant(machine)
                assert p.variant == machine
                assert all(
                    step in {k["name"] for k in dlpack_kernels(bundle, machine)} | {"fill_halo"} for step in p.steps
                )
                np.testing.assert_allclose(p.run(x)["y"], expected(bundle, x), rtol=2e-5, atol=2e-6)
        with pytest.raises(ValueError, match="unknown variant 'neon'; the library has avx512, avx2"):
            p.set_variant("neon")


def dlpack_kernels(bundle: Path, machine: str) -> list[dict[str, str]]:
    return [k for k in json.loads((bundle / "kernels.json").read_text()) if k["machine"] == machine]


@x86
def test_a_processor_may_lack_a_variant_below_its_best(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one with AVX-512 and without AVX-VNNI does: the others are verified."""
    choose = dlpack.Predictor.set_variant

    def lacking(predictor: dlpack.Predictor, machine: str) -> None:
        if machine == "avx2":
            raise UsageError("this code was compiled for another CPU")
        choose(predictor, machine)

    monkeypatch.setattr(dlpack.Predictor, "set_variant", lacking)
    with bundle_runner(bundle, json.loads((bundle / "manifest.json").read_text())) as run:
        assert set(run(inputs(2))) == ({"avx512"} if runs_avx512() else set())


@x86
def test_weights_are_stored_once(bundle: Path, tmp_path: Path) -> None:
    """As the best machine's kernels read them; the others repack them."""
    one = build(bundle.parent / "net.onnx", tmp_path / "one", Options(target="source", name="net", shapes=SHAPES,
                target_options={"machine": "avx512"}, weights="file", verify=False))  # fmt: skip
    assert (one / "net.weights").read_bytes() == (bundle / "net.weights").read_bytes()
    assert "repack(" in (bundle / "net.cc").read_text() and "repack(" not in (one / "net.cc").read_text()


@x86
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_compiles_without_warnings_and_chooses_by_the_processor(bundle: Path, tmp_path: Path, compiler: str) -> None:
    """Compiled for any x86-64, it runs AVX2 where there is no AVX-512, and says so where there is neither."""
    requires_tool(compiler)
    (tmp_path / "main.cc").write_text(
        """#include <stdio.h>
#include "net.h"
int main(int, char** argv) {
  net_predictor* p = nullptr;
  const net_status status = net_create_from_file(&p, argv[1]);
  printf("%d %s", status, status == NET_OK ? net_variant(p) : "none");
  if (status == NET_OK && net_set_variant(p, 1) == NET_OK) printf(" %s", net_variant(p));
  if (status == NET_OK) printf(" %d", net_set_variant(p, 2));
  net_predictor* q = nullptr;
  if (status == NET_OK && net_create_shared(&q, nullptr, 0, p) == NET_OK)
    printf(" %s %d", net_variant(q), net_set_variant(q, 1));
  printf(" %d %s\\n", net_variant_count(), net_variant_name(2) ? "?" : "end");
  net_destroy(q);
  net_destroy(p);
}
"""
    )
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    program = tmp_path / "main"
    command = [compiler, "-std=c++17", "-O1", *warnings, f"-I{bundle}", "-static", "-pthread"]
    run([*command, tmp_path / "main.cc", bundle / "net.cc", "-o", program], check=True)

    def output(*command: str) -> str:
        return run([*command, program, bundle / "net.weights"], check=True).stdout.strip()

    assert output() == f"0 {'avx512' if runs_avx512() else 'avx2'} avx2 1 avx2 1 2 end"
    emulator = requires_tool("qemu-x86_64")
    assert output(emulator, "-cpu", "Haswell") == "0 avx2 avx2 1 avx2 1 2 end"
    assert output(emulator, "-cpu", "Nehalem") == "6 none 2 end"


@x86
def test_one_source_for_several_architectures(bundle: Path, tmp_path: Path) -> None:
    requires_tool("qemu-arm")
    machines = "avx512,avx2,sse4,neon,neon32,scalar"
    options = Options(target="source", name="net", shapes=SHAPES, target_options={"machine": machines})
    made = build(bundle.parent / "net.onnx", tmp_path / "net", options)
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["variants"] == machines.split(",")
    where = {w.split(" on ")[0] for w in manifest["verified_on"]}
    assert where == set(machines.split(",")) - (set() if runs_avx512() else {"avx512"})
    assert all(e["passed"] for e in manifest["verification"])


def test_unknown_machine(bundle: Path, tmp_path: Path) -> None:
    options = Options(target="source", shapes=SHAPES, target_options={"machine": "avx1024"})
    with pytest.raises(UsageError, match="--machine: unknown machine avx1024; known are: avx512vnni, avx512, avxvnni"):
        build(bundle.parent / "net.onnx", tmp_path / "net", options)


@pytest.mark.parametrize(
    ("target", "emulator", "cpu"),
    [("linux-arm64", "qemu-aarch64", "Cortex-A57"), ("jetson-tx1", "qemu-aarch64", "Cortex-A57"),
     ("linux-armhf", "qemu-arm", "Cortex-A15")],
)  # fmt: skip
def test_boards_are_verified_under_emulation(
    bundle: Path, tmp_path: Path, target: str, emulator: str, cpu: str
) -> None:
    requires_tool(emulator)
    made = build(bundle.parent / "net.onnx", tmp_path / "net", Options(target=target, shapes=SHAPES))
    beside_gpus = "neon on " if target == "jetson-tx1" else ""
    assert json.loads((made / "manifest.json").read_text())["verified_on"] == [f"{beside_gpus}QEMU's {cpu}"]


def test_what_cannot_be_run_says_so(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlpack.options import Progress

    told: list[str] = []
    monkeypatch.setattr("dlpack.targets.toolchains.emulate.shutil.which", lambda name: None)
    options = Options(target="linux-arm64", shapes=SHAPES)
    made = build(bundle.parent / "net.onnx", tmp_path / "net", options, Progress(warn=told.append))
    assert told == ["the predictor was compiled but not run: install qemu-aarch64 (Debian's package qemu-user)"]
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["verified_on"] == [] and "verification" not in manifest
    with pytest.raises(ToolchainError, match="cannot be run on this computer: install qemu-aarch64"):
        from dlpack.verify.check import verify_bundle

        verify_bundle(made)
