"""Workers on this computer: processes that build tasks, each the next as soon as it is free."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dlpack.bundle.folder import remove_leftovers
from dlpack.many.tasks import Outcome, Task

_PATIENCE_S = 15
"""How long a worker that is told to end may take to remove what it has begun."""


class Worker:
    """A process that builds tasks. It is made anew where it ends in one, as when memory runs out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the worker is used
        self._process: subprocess.Popen[bytes] | None = None
        self._lock, self._closed = threading.Lock(), False

    def run(self, task: Task) -> Iterator[Outcome]:
        """Yields what becomes of each of the task's bundles; of one that the process did not live to build, why."""
        left = dict(zip(task.numbers, task.bundles, strict=True))
        try:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None
            pickle.dump(task, process.stdin)
            process.stdin.flush()
            while (outcome := pickle.load(process.stdout)) is not None:
                del left[outcome.number]
                yield outcome
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            status = self.end()
            for bundle in left.values():
                remove_leftovers(bundle.folder)
            if not left:  # it had told all of them
                return
            number, *others = left
            yield Outcome(number, 0.0, f"the process that built it ended ({_ending(status)}){self._words()}", 4)
            if others and not self._closed:
                yield from self.run(replace(task, numbers=tuple(others), bundles=tuple(left[n] for n in others)))

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise EOFError
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "dlpack.many.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._said,
                    cwd=self._root,
                    start_new_session=True,  # so that Ctrl-C reaches this process alone, which then ends the workers
                )
            return self._process

    def close(self) -> None:
        """Ends the process for good, also while another thread waits for its answers."""
        self._closed = True
        self.end()

    def end(self) -> int:
        """Ends the process with its children and returns its exit status."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        with suppress(ProcessLookupError, PermissionError):  # compilers that it started
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        return process.wait()

    def _words(self) -> str:
        """The last lines that the process wrote to standard error."""
        self._said.seek(0)
        text = self._said.read().decode(errors="replace").strip()
        return f"; it said:\n{text[-2000:]}" if text else ""


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in {*signal.Signals} else str(-status)
    return f"signal {name}" + (", as when memory runs out" if name == "SIGKILL" else "")


def run_here(tasks: Sequence[Task], processes: int) -> Generator[Outcome, None, None]:
    """Builds tasks in so many processes and yields outcomes as they come. Ends the processes when it is closed, and
    waits until what they had begun is removed."""
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    stopping = threading.Event()
    workers = [Worker(tasks[0].root) for _ in range(min(processes, len(tasks)))]

    def serve(worker: Worker) -> None:
        with suppress(queue.Empty):
            while not stopping.is_set():
                for outcome in worker.run(waiting.get_nowait()):
                    outcomes.put(outcome)

    threads = [threading.Thread(target=serve, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        for _ in range(sum(len(task.bundles) for task in tasks)):
            yield outcomes.get()
    finally:
        stopping.set()
        close_all(workers)
        for task in tasks:
            for bundle in task.bundles:
                remove_leftovers(bundle.folder)


def close_all(workers: Sequence[Worker]) -> None:
    """Ends workers side by side."""
    closers = [threading.Thread(target=worker.close) for worker in workers]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()


_apart: set[Worker] = set()
"""The workers of `run_apart` in this process."""


def run_apart(task: Task) -> list[Outcome]:
    """Builds a task in a process of its own, which sees a model's code as it is now; for engines that have processes
    of their own, on any computer."""
    worker = Worker(task.root if task.root.is_dir() else Path.cwd())
    _apart.add(worker)
    try:
        return list(worker.run(task))
    finally:
        worker.close()
        _apart.discard(worker)


def end_apart() -> None:
    """Ends what `run_apart` has begun in other threads of this process."""
    close_all([*_apart])
