"""examples/style: the committed network paints in its style and keeps what is in the picture; its script trains one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ROOT, requires_module, requires_tool
from PIL import Image
from processes import run

import dlpack
from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import node_command

Array = np.ndarray[Any, Any]
FOLDER = ROOT / "examples" / "style"
MODEL = FOLDER / "style.onnx"
SHAPE = (1, 3, 128, 160)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"style_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(MODEL, tmp_path_factory.mktemp("style") / "native", Options(shapes={"picture": SHAPE}))


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> dlpack.Predictor:
    return dlpack.load(bundle)


def snowman() -> Array:
    """Two white balls before a striped sky and dark ground, uint8 128 x 160 x 3: nothing that the network has seen."""
    y, x = np.mgrid[:128, :160]
    picture = np.stack([120 + y // 2, 150 + 0 * x, 200 - 30 * (x // 8 % 2)], -1)
    picture[y > 100] = (60, 45, 30)
    for cy, cx, radius in ((80, 70, 32), (35, 70, 20)):
        picture[np.hypot(y - cy, x - cx) < radius] = (240, 240, 245)
    return picture.astype(np.uint8)


def brightness(picture: Array) -> Array:
    """On a scale of 8 pixels."""
    height, width = picture.shape[:2]
    gray = picture @ np.array([0.299, 0.587, 0.114])
    return gray.reshape(height // 8, 8, width // 8, 8).mean((1, 3)).ravel()


def patches(picture: Array, side: int, directions: int = 64) -> Array:
    """100 quantiles of the projections of the picture's patches on random directions: directions x 100."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (side, side), (0, 1))
    rows = windows.reshape(-1, 3 * side * side) @ np.random.default_rng(7).standard_normal(
        (3 * side * side, directions)
    )
    return np.quantile(rows / side, np.linspace(0.005, 0.995, 100), axis=0).T


def test_the_model_is_small_and_says_what_it_is() -> None:
    assert MODEL.stat().st_size < 400_000
    model = onnx.load(MODEL)
    (given,) = model.graph.input
    assert [d.dim_value or d.dim_param for d in given.type.tensor_type.shape.dim] == [1, 3, "height", "width"]
    metadata = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert metadata == {"dlpack.preprocess": {"preset": "none"}, "dlpack.task": {"kind": "style", "range": [0, 1]}}


@pytest.mark.parametrize("side", [1, 3, 7])
def test_a_painting_has_the_style(predictor: dlpack.Predictor, side: int) -> None:
    """Colours and strokes: the patches of a painting are distributed as the style's, those of the picture are not."""
    want = patches(example("pictures").style_picture(np.random.default_rng(1))[:192, :192], side)
    before, after = (
        np.abs(patches(p / 255, side) - want).mean() for p in (snowman(), example("paint").paint(predictor, snowman()))
    )
    assert after < 0.5 * before


def test_a_painting_shows_the_picture(predictor: dlpack.Predictor) -> None:
    painted = example("paint").paint(predictor, snowman())
    assert painted.shape == (*SHAPE[2:], 3) and painted.dtype == np.uint8
    assert np.corrcoef(brightness(painted), brightness(snowman()))[0, 1] > 0.85


def test_the_command_paints_in_the_pictures_proportions(bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(snowman()).resize((300, 150)).save(tmp_path / "in.png")
    command = [sys.executable, FOLDER / "paint.py", bundle, tmp_path / "in.png", tmp_path / "out.png"]
    run(command, check=True)
    with Image.open(tmp_path / "out.png") as painted:
        assert painted.size == (256, 128)
        assert np.asarray(painted).std((0, 1)).min() > 30


def test_javascript_paints_the_same(predictor: dlpack.Predictor, tmp_path: Path) -> None:
    requires_tool("node")
    folder = build(MODEL, tmp_path / "wasm", Options("wasm", shapes={"picture": SHAPE}, verify=False))
    picture = np.dstack([snowman(), np.full((128, 160), 255, np.uint8)])
    (tmp_path / "picture.raw").write_bytes(picture.tobytes())
    script = """
        const [folder, file] = process.argv.slice(1);
        const { readFileSync } = await import("node:fs");
        const { Stylizer } = await import(`file://${folder}/node.js`);
        const stylizer = await Stylizer.load(folder);
        const picture = { data: new Uint8ClampedArray(readFileSync(file)), width: 160, height: 128 };
        const { data, width, height } = await stylizer.stylize(picture);
        console.log(JSON.stringify({ data: [...data], width, height }));
    """
    command = [*node_command(), "--input-type=module", "-e", script, folder, tmp_path / "picture.raw"]
    done = run(command, limit_s=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    got = np.array(seen["data"], np.uint8).reshape(seen["height"], seen["width"], 4)
    want = example("paint").paint(predictor, snowman())
    assert np.abs(got[..., :3].astype(int) - want).max() <= 1 and (got[..., 3] == 255).all()


def test_the_script_trains_such_a_network(tmp_path: Path) -> None:
    """Two steps of it: the same graph as the committed one's, and not the same weights."""
    requires_module("torch")
    path = tmp_path / "style.onnx"
    command = [sys.executable, FOLDER / "train.py", "--steps", "2", "-o", path]
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert f"{path.stat().st_size} bytes" in done.stdout
    ours, committed = onnx.load(path), onnx.load(MODEL)
    assert ours.graph.node == committed.graph.node
    weights = [{t.name: onnx.numpy_helper.to_array(t) for t in m.graph.initializer} for m in (ours, committed)]
    assert {k: v.shape for k, v in weights[0].items()} == {k: v.shape for k, v in weights[1].items()}
    assert not np.allclose(weights[0]["conv3.weight"], weights[1]["conv3.weight"])
