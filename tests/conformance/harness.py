"""Runs cases in batches, each in a process of its own; a process that dies costs the case it was at, no more."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from conformance.batch import Result, result, run_cases
from conformance.cases import Case, find
from dlpack.targets.cpu.machine import AVX2, AVX512, NEON, SCALAR, WASM, Machine

MACHINES: dict[str, Machine] = {m.name: m for m in (AVX512, AVX2, NEON, WASM, SCALAR)}
"""Only the vectors' width and the number of registers matter here: all are compiled for, and run on, this computer."""

BATCH = 60

# Processes split off from a server that has loaded the cases and no more: the compiler's threads would not survive it.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["conformance.preload"])


def run(
    cases: Sequence[Case],
    machine: Machine,
    jobs: int = 0,
    progress: Callable[[int], None] = lambda _: None,
    keep: Path | None = None,
    cc: str = "",
) -> list[Result]:
    """The results in the order of the cases. `jobs` processes (0: one per core); the emitted C++ is left in `keep`.

    `cc` names another compiler than the default one.
    """
    todo = [list(cases[i : i + BATCH]) for i in range(0, len(cases), BATCH)]
    results: dict[str, Result] = {}
    workers: dict[Connection, _Worker] = {}
    while todo or workers:
        while todo and len(workers) < (jobs or os.cpu_count() or 1):
            worker = _Worker(todo.pop(0), machine, keep, cc)
            workers[worker.receiver] = worker
        for receiver in wait(list(workers)):
            assert isinstance(receiver, Connection)
            worker = workers[receiver]
            try:
                message = receiver.recv()
            except EOFError:
                del workers[receiver]
                worker.process.join()
                case = worker.at
                results[case.name] = result(case, "crash", f"the compiler died (exit code {worker.process.exitcode})")
                todo.insert(0, [c for c in worker.cases if c is not case])
                continue
            if isinstance(message, int):
                worker.at = worker.cases[message]
                continue
            del workers[receiver]
            worker.process.join()
            if isinstance(message, Exception):
                raise message
            results.update({r.name: r for r in message})
            progress(len(results))
    return [results[case.name] for case in cases]


class _Worker:
    """A process at a batch: it sends the number of each case that it begins, and at the end the results.

    `at` is the case that it is at.
    """

    def __init__(self, cases: list[Case], machine: Machine, keep: Path | None, cc: str) -> None:
        self.cases = cases
        self.at = cases[0]
        self.receiver, sender = _CONTEXT.Pipe(duplex=False)
        self.process = _CONTEXT.Process(target=_work, args=([c.name for c in cases], machine, keep, cc, sender))
        self.process.start()
        sender.close()


def _work(names: list[str], machine: Machine, keep: Path | None, cc: str, sender: Connection) -> None:
    numbers = {name: k for k, name in enumerate(names)}
    try:
        sender.send(run_cases(find(names), machine, lambda case: sender.send(numbers[case.name]), keep, cc))
    except Exception as e:  # noqa: BLE001 - the parent raises it
        traceback.print_exc()
        sender.send(RuntimeError(str(e)))
