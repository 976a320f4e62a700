"""Classify ten held-out digits with a compiled predictor.

dlpack build examples/digits/digits.onnx --target native -o build/digits
python examples/digits/classify.py build/digits
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

import dlpack

HERE = Path(__file__).resolve().parent


def load_examples() -> list[tuple[int, np.ndarray]]:
    """The digits of ``held_out.csv`` with their images, 1x1x8x8 float32 in 0..16. Training has not seen them."""
    rows = np.loadtxt(HERE / "held_out.csv", delimiter=",", dtype=np.float32)
    return [(int(row[0]), row[1:].reshape(1, 1, 8, 8)) for row in rows]


def picture(image: np.ndarray) -> Text:
    """The image in 8x4 characters, each for two pixels one above the other, the denser the more ink."""
    shades = " .:-=+*#%"
    ink = image.reshape(4, 2, 8).mean(1)
    return Text("\n".join("".join(shades[int(value / 2)] for value in row) for row in ink))


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python classify.py BUNDLE", file=sys.stderr)
        return 2
    bundle = Path(sys.argv[1])
    predictor = dlpack.load(bundle)

    table = Table("image", "truth", "prediction", "probability", title="Ten held-out digits", show_lines=True)
    right = 0
    examples = load_examples()
    for truth, image in examples:
        probability = np.asarray(predictor.run({"image": image})["probability"]).reshape(10)
        prediction = int(probability.argmax())
        right += prediction == truth
        style = "green" if prediction == truth else "red"
        table.add_row(
            picture(image),
            Text(f"\n{truth}", justify="center"),
            Text(f"\n{prediction}", style=style, justify="center"),
            Text(f"\n{probability[prediction]:.4f}", justify="right"),
        )

    console = Console(highlight=False)
    console.print(table)
    console.print(f"{right} of {len(examples)} right. The predictor's files:")
    for path in sorted(p for p in bundle.rglob("*") if p.is_file()):
        console.print(Text(f"{path.stat().st_size:>12,} bytes  {path}"), soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
