"""One engine's process: `python -m bench.decoders.worker ENGINE FOLDER THREADS`, spoken to by `bench.rounds.Worker`.

Without a folder it tells the engine's version. Else it loads the decoder, warms up, and says so. A line `round` is
answered with the times of one round; `end` with the tokens that follow the first prompt, and the scores after it go to
a file.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from bench.decoders.contestants import CONTESTANTS, Engine
from bench.decoders.model import Sizes
from bench.worker import peak_memory

PROMPTS = (64, 512)
"""Tokens of the prompts."""

WRITTEN = 32
"""Tokens that are written in a round, behind the first prompt."""


def prompt(count: int, vocabulary: int) -> list[int]:
    """Tokens without an order; never the last, which ends a text for onnxruntime-genai."""
    return [int(t) for t in np.random.default_rng(7).integers(2, vocabulary - 1, count)]


def timed(work: Callable[[], object], parts: int) -> dict[str, float]:
    """Milliseconds of the whole process' CPU and of the clock, for each of `parts`."""
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    work()
    wall_end, cpu_end = time.perf_counter_ns(), time.process_time_ns()
    return {"cpu_ms": (cpu_end - cpu) / parts / 1e6, "wall_ms": (wall_end - wall) / parts / 1e6}


def one_round(engine: Engine, prompts: dict[int, list[int]]) -> dict[str, dict[str, float]]:
    """Times of all: `read_N`, a prompt of N tokens, and `write`, a token."""
    told = {}
    for count, tokens in prompts.items():
        told[f"read_{count}"] = timed(lambda tokens=tokens: engine.read(tokens), 1)  # type: ignore[misc]
    engine.read(prompts[PROMPTS[0]])
    engine.write(2)
    told["write"] = timed(lambda: engine.write(WRITTEN), WRITTEN)
    return told


def serve(engine: str, folder: Path, threads: int, lines: TextIO, tell: Callable[[dict[str, Any]], None]) -> None:
    sizes = Sizes(**json.loads((folder / "sizes.json").read_text(encoding="utf-8")))
    contestant = CONTESTANTS[engine]
    began = time.perf_counter_ns()
    loaded = contestant.load(folder, sizes, threads)
    load_ms = (time.perf_counter_ns() - began) / 1e6
    prompts = {count: prompt(count, sizes.vocabulary) for count in PROMPTS}
    one_round(loaded, prompts)
    gc.collect()
    gc.disable()
    tell({"load_ms": load_ms})
    for line in lines:
        if line.strip() == "round":
            tell({"times": one_round(loaded, prompts)})
            continue
        loaded.read(prompts[PROMPTS[0]])
        np.save(folder / f"scores-{engine}-{threads}.npy", loaded.scores())
        tell({"tokens": loaded.write(WRITTEN), "peak_bytes": peak_memory()})
        return


def main(engine: str, folder: str = "", threads: str = "1") -> int:
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print

    def tell(message: dict[str, Any]) -> None:
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()

    try:
        if not folder:
            tell({"version": CONTESTANTS[engine].version()})
            return 0
        serve(engine, Path(folder), int(threads), sys.stdin, tell)
    except Exception as e:  # noqa: BLE001 - engines raise anything
        tell({"error": f"{type(e).__name__}: {e}".splitlines()[0]})
        return 1
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # some engines crash while they are torn down
