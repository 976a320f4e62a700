"""One contestant's process: `python -m bench.worker probe|convert|run ...`, spoken to by `bench.rounds` in JSON lines.

`run` loads the model, warms up, says how long loading took and how many calls make a round, and then answers each line
`round` with the time of one round and the line `end` with the peak memory, having written the outputs to a file.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from bench import peers
from bench.peers import CONTESTANTS, Session

ROUND_NS = 20_000_000
"""A round repeats a fast model for about this long, so that the clock and the cold start do not matter."""

Tell = Callable[[dict[str, Any]], None]


def peak_memory() -> int:
    """The most bytes of this process that were in memory at once.

    Linux' getrusage counts the parent's too, from before exec: hence VmHWM there.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def calls_per_round(run: Callable[[], object], round_ns: int = ROUND_NS) -> int:
    """Warms up and returns how many calls fill a round."""
    fastest, began = 1 << 62, time.perf_counter_ns()
    for number in range(1000):
        call = time.perf_counter_ns()
        run()
        now = time.perf_counter_ns()
        fastest = min(fastest, now - call)
        if number >= 2 and now - began > 5 * round_ns:
            break
    return max(1, round_ns // max(1, fastest))


def time_round(run: Callable[[], object], calls: int) -> dict[str, Any]:
    """CPU time of the whole process and wall time of `calls` runs, after one in ten that are not counted: they bring
    back to the caches what the other contestants drove out."""
    for _ in range(1 + calls // 10):
        run()
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    for _ in range(calls):
        run()
    wall_end, cpu_end = time.perf_counter_ns(), time.process_time_ns()
    return {"cpu_ms": (cpu_end - cpu) / calls / 1e6, "wall_ms": (wall_end - wall) / calls / 1e6}


def serve(make: Callable[[], Session], results: Path, lines: TextIO, tell: Tell, module: str = "numpy") -> None:
    """The `run` command; `make` loads the model with `module`, whose import is not counted."""
    base = peak_memory()
    importlib.import_module(module)
    began = time.process_time_ns()
    session = make()
    loaded = time.process_time_ns() - began
    gc.collect()
    gc.disable()
    calls = calls_per_round(session.run)
    tell({"ready": True, "load_ms": loaded / 1e6, "calls": calls})
    for line in lines:
        if line.strip() == "round":
            tell(time_round(session.run, calls))
        else:
            memory = peak_memory()
            np.savez(results, **{f"out_{name}": value for name, value in session.outputs().items()})  # type: ignore[arg-type]
            tell({"peak_bytes": memory, "base_bytes": base})
            return


def load_inputs(file: Path) -> dict[str, peers.Array]:
    """The inputs in the model's order, from a file with the keys `in_NAME`."""
    with np.load(file) as stored:
        return {key[3:]: stored[key] for key in stored.files if key.startswith("in_")}


def _own_stdout() -> TextIO:
    """The pipe to our parent; what libraries print goes to stderr."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def main(arguments: list[str]) -> int:
    pipe = _own_stdout()

    def tell(message: dict[str, Any]) -> None:
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()

    command, name, *rest = arguments
    peer = CONTESTANTS[name]
    try:
        if command == "probe":
            tell({"versions": peers.versions(peer), "bytes": peers.runtime_bytes(peer)})
        elif command == "convert":
            model, folder = Path(rest[0]), Path(rest[1])
            tell({"file": str(peer.convert(model, folder))})
        else:
            file, inputs, results, threads = Path(rest[0]), load_inputs(Path(rest[1])), Path(rest[2]), int(rest[3])
            serve(lambda: peer.load(file, inputs, threads), results, sys.stdin, tell, peer.module)
    except Exception as e:  # noqa: BLE001 - contestants raise anything
        tell({"error": f"{e}" if isinstance(e, peers.PeerError) else f"{type(e).__name__}: {e}".splitlines()[0]})
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # some runtimes crash while they are torn down
