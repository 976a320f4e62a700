"""Write text with a compiled character LSTM.

dlpack build char_lstm.onnx --target native -o build/char_lstm
python examples/char_lstm/generate.py build/char_lstm --seed "ROMEO:" --length 500
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dlpack


def generate(
    predictor: dlpack.Predictor, seed: str, length: int, temperature: float, rng: np.random.Generator
) -> Iterator[str]:
    """`length` characters that follow `seed`; temperature 0 takes the likeliest, 1 draws by the model's probabilities.

    Raises ValueError for an empty seed, and for a character that the model does not know.
    """
    characters = predictor.labels or []
    task = predictor.manifest["task"]
    states: dict[str, Any] = {name: np.zeros(predictor.inputs[name][1], np.float32) for name in task["states"]}

    def read(character: str) -> np.ndarray[Any, Any]:
        nonlocal states
        number = np.array([characters.index(character)], np.int64)
        outputs = predictor.run({task["input"]: number, **states})
        states = {before: outputs[after].copy() for before, after in task["states"].items()}
        return outputs[task["output"]].ravel().astype(np.float64)

    unknown = [c for c in seed if c not in characters]
    if unknown or not seed:
        raise ValueError(f"the model does not know the character {unknown[0]!r}" if seed else "the seed is empty")
    for character in seed:
        scores = read(character)
    for _ in range(length):
        if temperature > 0:
            shares = np.exp((scores - scores.max()) / temperature)
            number = int(rng.choice(len(shares), p=shares / shares.sum()))
        else:
            number = int(scores.argmax())
        yield characters[number]
        scores = read(characters[number])


def main() -> int:
    parser = argparse.ArgumentParser(description="Write text with a compiled character LSTM.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seed", default="ROMEO:\n", help="what the text begins with")
    parser.add_argument("--length", type=int, default=500, help="how many characters follow")
    parser.add_argument(
        "--temperature", type=float, default=0.8, help="0: the likeliest character; 1: as it was trained"
    )
    parser.add_argument("--draw", type=int, help="seed of the random numbers (default: each run differs)")
    arguments = parser.parse_args()
    predictor = dlpack.load(arguments.bundle)
    rng = np.random.default_rng(arguments.draw)
    print(arguments.seed, end="")
    try:
        for character in generate(predictor, arguments.seed, arguments.length, arguments.temperature, rng):
            print(character, end="", flush=True)
    except ValueError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
