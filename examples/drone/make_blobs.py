"""A detector that needs no training, and a clip for it: bright discs on a dark ground, to try `drone` with.

    python examples/drone/make_blobs.py build/blobs

writes `blobs.onnx`, whose weights are formulas, and `discs.y4m`, in which two discs cross, one goes behind a pole, one
grows dim and one comes late.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray
WIDTH, HEIGHT = 160, 120  # of the model's input
STRIDE, WINDOW = 4, 17
CLIP_WIDTH, CLIP_HEIGHT, FRAMES = 320, 240, 120


def model() -> onnx.ModelProto:
    """A blob detector: `picture`, 1 x 3 x 120 x 160 in 0..1, to `scores` (1 x 1200 x 2) and `boxes` (1 x 1200 x 4).

    Every 4 pixels a window of 17 x 17 measures the light in it: how much, where its centre is, how far from the centre
    it lies in the mean of squares (half a disc's radius squared) and how much of it touches the border. A window's
    score is high where there is light, in its middle, and none at its border.
    """
    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
    away = np.arange(WINDOW) - WINDOW // 2
    x, y = np.meshgrid(away, away)
    border = np.maximum(abs(x), abs(y)) == WINDOW // 2
    windows = np.stack([np.ones_like(x), x, y, x**2 + y**2, border])[:, None].astype(np.float32)
    constants = {
        "gray": np.array([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1),
        "dark": np.array(0.3),
        "windows": windows,
        "some": np.array(0.01),
        "two": np.array(2.0),
        "least": np.array(1.0),
        "enough": np.array(40.0),
        "zero": np.array(0.0),
        "steep": np.array(0.4),
        "shift": np.array(8.0),
        "weight": np.array(0.3),
        "one": np.array(1.0),
        "at_x": (np.arange(columns) * STRIDE + 0.5).reshape(1, 1, 1, columns),
        "at_y": (np.arange(rows) * STRIDE + 0.5).reshape(1, 1, rows, 1),
        "width": np.array(WIDTH),
        "height": np.array(HEIGHT),
    }
    lines = """
        Conv picture gray -> bright
        Sub bright dark -> over
        Relu over -> light
        Conv light windows -> sums
        Split sums -> mass sum_x sum_y sum_squares edge
        Add mass some -> divisor
        Div sum_x divisor -> dx
        Div sum_y divisor -> dy
        Mul dx dx -> dx2
        Mul dy dy -> dy2
        Add dx2 dy2 -> off
        Div sum_squares divisor -> squares
        Sub squares off -> spread
        Mul spread two -> radius2
        Max radius2 least -> radius2_1
        Sqrt radius2_1 -> radius
        Clip mass zero enough -> held
        Mul held steep -> gain
        Mul off weight -> loss
        Sub gain shift -> logit1
        Sub logit1 loss -> logit2
        Sub logit2 edge -> logit
        Sigmoid logit -> there
        Sub one there -> nothing
        Add at_x dx -> x
        Add at_y dy -> y
        Sub x radius -> left1
        Sub y radius -> top1
        Add x radius -> right1
        Add y radius -> bottom1
        Div left1 width -> left
        Div top1 height -> top
        Div right1 width -> right
        Div bottom1 height -> bottom
        Concat nothing there -> maps2
        Concat left top right bottom -> maps4
        Reshape maps2 to2 -> rows2
        Reshape maps4 to4 -> rows4
        Transpose rows2 -> scores
        Transpose rows4 -> boxes
    """
    attributes = {
        "sums": {"strides": [STRIDE] * 2, "pads": [WINDOW // 2] * 4},
        "mass": {"axis": 1},
        "maps2": {"axis": 1},
        "maps4": {"axis": 1},
        "scores": {"perm": [0, 2, 1]},
        "boxes": {"perm": [0, 2, 1]},
    }
    nodes = []
    for line in lines.strip().splitlines():
        (kind, *inputs), outputs = (part.split() for part in line.split("->"))
        nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], **attributes.get(outputs[0], {})))
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    weights += [numpy_helper.from_array(np.array([1, n, -1], np.int64), f"to{n}") for n in (2, 4)]
    shapes = {"picture": [1, 3, HEIGHT, WIDTH], "scores": [1, rows * columns, 2], "boxes": [1, rows * columns, 4]}
    values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()}
    graph = helper.make_graph(nodes, "blobs", [values["picture"]], [values["scores"], values["boxes"]], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    task = {"kind": "detect", "format": "corners", "boxes": "boxes", "scores": "scores", "background": 0, "iou": 0.3}
    metadata = {"dlpack.labels": ["background", "disc"], "dlpack.preprocess": {"scale": 1 / 255}, "dlpack.task": task}
    helper.set_model_props(proto, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(proto, full_check=True)
    return proto


@dataclass(frozen=True)
class Disc:
    """A disc that in frame t is at (x, y) + t * (dx, dy), from frame `first` on; dim and hidden in ranges of frames."""

    x: float
    y: float
    dx: float
    dy: float
    radius: float = 10
    first: int = 0
    dim: range = range(0)
    hidden: range = range(0)

    def at(self, t: int) -> tuple[float, float] | None:
        """Its centre in pixels of the clip; None where it is not seen."""
        if t < self.first or t in self.hidden:
            return None
        return self.x + t * self.dx, self.y + t * self.dy


SCENE = (
    Disc(20, 60, 2.2, 0.2),  # crosses the next one
    Disc(300, 75, -2.2, 0),
    Disc(30, 130, 1.8, 0, hidden=range(50, 62)),
    Disc(290, 180, -1.5, 0.1, radius=12, dim=range(40, 60)),
    Disc(60, 25, 1.2, 0.1, first=45),
)


def frames(scene: Sequence[Disc] = SCENE, count: int = FRAMES) -> Iterator[Array]:
    """The clip's frames, 240 x 320 gray uint8."""
    rows, columns = np.mgrid[:CLIP_HEIGHT, :CLIP_WIDTH]
    rng = np.random.default_rng(1)
    for t in range(count):
        frame = rng.random((CLIP_HEIGHT, CLIP_WIDTH)) * 0.15
        for disc in scene:
            if centre := disc.at(t):
                away = np.hypot(columns + 0.5 - centre[0], rows + 0.5 - centre[1])
                cover = np.clip(disc.radius + 0.5 - away, 0, 1)
                frame = frame * (1 - cover) + (0.5 if t in disc.dim else 1.0) * cover
        yield np.floor(frame * 255 + 0.5).astype(np.uint8)


def write_clip(path: Path, pictures: Iterator[Array]) -> None:
    """Gray frames (uint8, all of one size) as a Y4M video of 30 frames per second, in the full range."""
    with path.open("wb") as file:
        for k, picture in enumerate(pictures):
            height, width = picture.shape
            if k == 0:
                file.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 Cmono XCOLORRANGE=FULL\n".encode())
            file.write(b"FRAME\n" + picture.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the two files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blobs.onnx").write_bytes(model().SerializeToString(deterministic=True))
    write_clip(folder / "discs.y4m", frames())
    print(f"dlpack build {folder / 'blobs.onnx'} -o {folder / 'native'}")


if __name__ == "__main__":
    main()
