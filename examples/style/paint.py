"""Paint a picture with a compiled bundle of ``style.onnx``.

dlpack build examples/style/style.onnx --shape picture=1x3x256x256 -o build/style
python examples/style/paint.py build/style photo.jpg painted.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import dlpack


def paint(predictor: dlpack.Predictor, picture: np.ndarray) -> np.ndarray:
    """uint8, height x width x 3, in the bundle's size, of a picture of any size (uint8, height x width x 3)."""
    task = predictor.manifest["task"]
    (name,) = predictor.inputs
    values = predictor.run({name: predictor.preprocess(picture)})[task["output"]][0]
    low, high = task["range"]
    return np.clip((values.transpose(1, 2, 0) - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("painted", type=Path, help="the file that is written; stretched to the picture's proportions")
    arguments = parser.parse_args()
    with Image.open(arguments.picture) as opened:
        picture = opened.convert("RGB")
    with dlpack.load(arguments.bundle) as predictor:
        painted = Image.fromarray(paint(predictor, np.asarray(picture)))
    scale = max(painted.width / picture.width, painted.height / picture.height)
    painted.resize((round(picture.width * scale), round(picture.height * scale))).save(arguments.painted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
