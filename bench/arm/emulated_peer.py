"""A contestant of `bench.peers` in an emulated Python: `emulated_peer NAME FILE INPUTS RUNS RESULTS`.

Loads the model, runs it RUNS times on one thread and writes its outputs; `bench.arm.peers` counts what that executes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from bench.peers import CONTESTANTS, PeerError
from bench.worker import load_inputs


def main(name: str, file: str, inputs: str, runs: str, results: str) -> int:
    try:
        session = CONTESTANTS[name].load(Path(file), load_inputs(Path(inputs)), 1)
        for _ in range(int(runs)):
            session.run()
        outputs = session.outputs()
    except Exception as e:  # noqa: BLE001 - contestants raise anything
        print(f"PEER FAILED: {e if isinstance(e, PeerError) else f'{type(e).__name__}: {e}'}", file=sys.stderr)
        return 1
    np.savez(results, **{f"out_{i}": value for i, value in enumerate(outputs.values())})  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # some runtimes crash while they are torn down
