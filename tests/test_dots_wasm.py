"""Products of 8-bit integers in WebAssembly: the build with the engine's own dot product, and which engines take it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, requires_tool
from test_dots import net_of_all_kinds, saved
from test_quantised import Net
from wasm_bundles import manifest_of, node_json

from dlpack.bundle.loader import read_kernels
from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import run

PRODUCT = bytes([0xFD, 0x93, 0x02])
"""i32x4.relaxed_dot_i8x16_i7x16_add_s"""


def kernels_of(bundle: Path) -> str:
    text = next(bundle.glob("*.cc")).read_text(encoding="utf-8")
    return text[text.index("// [KERNELS]") : text.index("// [RUN]")]


def test_every_build_is_exact(tmp_path: Path) -> None:
    requires_tool("node")
    net, outputs = net_of_all_kinds("uint8")
    bundle = build(saved(net, outputs, tmp_path), tmp_path / "bundle", Options("wasm", name="net", threads=2))
    manifest = manifest_of(bundle)
    builds = ["simd", "relaxed", "dots", "simd_threads", "relaxed_threads", "dots_threads"]
    assert list(manifest["wasm"]) == builds
    assert len(manifest["verification"]) == len(builds) * len(outputs)
    assert all(e["passed"] and e["absolute"] == 0 for e in manifest["verification"])
    schedules = [k["schedule"] for k in read_kernels(bundle) if k["macs"]]
    assert all("dot products" in s for s in schedules), "windows of each channel and the mean too"
    counts = {b: (bundle / f["file"]).read_bytes().count(PRODUCT) for b, f in manifest["wasm"].items()}
    assert counts["dots"] > 100 and counts["dots_threads"] > 100 and counts["relaxed"] == counts["simd"] == 0
    x = np.random.default_rng(4).integers(0, 256, net.shape).astype(np.uint8)
    want = net.expected(x)
    for name, found in run(bundle, {"x": x}).items():
        for output in outputs:
            np.testing.assert_array_equal(found[output], want[output], err_msg=f"{name}: {output}")


@pytest.mark.parametrize(("channels", "vector"), [(48, "i32x16"), (24, "i32x8"), (12, "i32x4")])
def test_sums_fill_a_register_of_bytes(channels: int, vector: str, tmp_path: Path) -> None:
    net = Net(9, "uint8", (1, 16, 6, 6), 0.02, 128)
    path = saved(net, [net.conv("x", channels, 0.03, 0, kernel=1)], tmp_path)
    bundle = build(path, tmp_path / "bundle", Options("wasm", name="net"))
    assert re.search(rf"{vector} acc\w*{{}}", kernels_of(bundle))
    assert all(e["absolute"] == 0 for e in manifest_of(bundle)["verification"])


@pytest.mark.parametrize(("channels", "attrs"), [(16, {}), (40, {"strides": [2, 1]}), (35, {"dilations": [1, 2]})])
def test_windows_of_each_channel_are_dot_products(channels: int, attrs: dict[str, Any], tmp_path: Path) -> None:
    """Four neighbours in a row at a time; a channel that no register begins with is read alone."""
    net = Net(9, "int8", (1, channels, 7, 9), 0.02, 3)
    outputs = [net.conv("x", channels, 0.03, 0, group=channels, kernel=k, pads=[1] * 4, **attrs) for k in (3, 5)]
    bundle = build(saved(net, outputs, tmp_path), tmp_path / "bundle", Options("wasm", name="net"))
    assert kernels_of(bundle).count("dot_each_(") >= 4
    assert all(e["absolute"] == 0 for e in manifest_of(bundle)["verification"])


def test_nothing_is_read_beyond_the_channels(tmp_path: Path) -> None:
    """Of 40 channels the last vector's 16 lanes have 8: more would be the next pixel's, and none behind the last."""
    net = Net(9, "uint8", (1, 40, 6, 6), 0.02, 128)
    path = saved(net, [net.conv("x", 40, 0.03, 0, group=40, pads=[1] * 4)], tmp_path)
    text = kernels_of(build(path, tmp_path / "bundle", Options("wasm", name="net")))
    assert "load_partial<u8x16>(x_" in text and not re.search(r"load<u8x16>\(x_\w+ \+ (32|72)\)", text)


def test_models_without_such_products_have_no_such_build(digits_wasm: Path) -> None:
    assert list(manifest_of(digits_wasm)["wasm"]) == ["simd", "relaxed"]


@pytest.mark.parametrize(
    ("sum_of_four", "builds", "want"),
    [
        (4 * 127 * 255, ["simd", "relaxed", "dots"], "dots"),
        (4 * 127 * 255, ["simd", "relaxed"], "relaxed"),
        (4 * 127 * 255, ["dots_threads", "simd_threads"], "dots"),
        (2 * 32767, ["simd", "relaxed", "dots"], "relaxed"),
        (-4 * 127, ["simd", "relaxed", "dots"], "relaxed"),
        (4 * 127 * 255, [], None),
        (4 * 127 * 127, ["simd", "relaxed", "dots of 7 bits"], "dots"),
        (8 * 127 * 127, ["simd", "relaxed", "dots of 7 bits"], "relaxed"),
    ],
)
def test_engines_that_take_all_8_bits_are_found(sum_of_four: int, builds: list[str], want: str | None) -> None:
    """V8 sums pairs with saturation where the processor has no AVX-VNNI, and as signed on Arm; V8 11.3 doubles."""
    requires_tool("node")
    made = {name.split()[0]: {"bits": 7} if "7" in name else {} for name in builds}
    script = f"""const {{ supportedBuild }} = await import("file://{ROOT}/web/predictor.js");
        WebAssembly.validate = () => true;
        WebAssembly.Module = class {{}};
        WebAssembly.Instance = class {{ exports = {{ f: () => {sum_of_four} }}; }};
        console.log(JSON.stringify([supportedBuild({json.dumps(made)}), supportedBuild()]));"""
    assert node_json(script) == [want, "relaxed"]
