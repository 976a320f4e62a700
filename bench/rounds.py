"""Runs contestants side by side: a process each, rounds in turn, and the statistics of their times."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class WorkerError(Exception):
    """A contestant's process that failed; the text says how."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call over the rounds."""

    median_ms: float
    minimum_ms: float
    wall_ms: float
    rounds: int
    calls: int


def worker_command(python: str, *arguments: str) -> list[str]:
    return [python, "-m", "bench.worker", *arguments]


class Worker:
    """A process that answers JSON lines; `bench.worker` is the other end."""

    def __init__(self, command: Sequence[str], timeout_s: float = 600, threads: int = 1) -> None:
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - `close` closes it
        self._timeout = timeout_s
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, line: str = "") -> dict[str, Any]:
        """Sends a line, if there is one, and returns the answer; WorkerError for an error, a crash or a timeout."""
        assert self._process.stdin is not None and self._process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(self._timeout, stop)
        timer.start()
        self._signal("SIGCONT")
        try:
            if line:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        finally:
            timer.cancel()
        self._signal("SIGSTOP")  # threads that spin after their work would take the others' time
        if late.is_set():
            raise WorkerError(f"no answer within {self._timeout:g} s")
        if not answer:
            raise WorkerError(self._last_words())
        message: dict[str, Any] = json.loads(answer)
        if "error" in message:
            raise WorkerError(message["error"])
        return message

    def _signal(self, name: str) -> None:
        """Stops the process or lets it go on, where the system has signals for it."""
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))

    def _last_words(self) -> str:
        self._signal("SIGCONT")
        code = self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"the process ended ({how})" + (f": {lines[-1][:200]}" if lines else "")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was left to send has no reader
        self._log.close()


@dataclass(frozen=True)
class Race:
    """What a race gave: timings and last answers by contestant, and the reason for each that fell out."""

    timings: dict[str, Timing]
    ends: dict[str, dict[str, Any]]
    failed: dict[str, str]


def race(commands: Mapping[str, Sequence[str]], rounds: int, timeout_s: float = 600, threads: int = 1) -> Race:
    """Starts a worker for each command and times `rounds` rounds of each, one in turn: A B C, A B C, ...

    The first round of each is not counted. Median and minimum are of CPU time with one thread, of wall time with more.
    """
    workers: dict[str, Worker] = {}
    failed: dict[str, str] = {}
    ready: dict[str, dict[str, Any]] = {}
    ends: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[dict[str, Any]]] = {}
    try:
        for name, command in commands.items():
            workers[name] = Worker(command, timeout_s, threads)
            try:
                ready[name] = workers[name].ask()  # one after the other, so that they do not disturb their warm-ups
                samples[name] = []
            except WorkerError as e:
                failed[name] = str(e)
        for number in range(rounds + 1):
            for name in [n for n in samples if n not in failed]:
                try:
                    sample = workers[name].ask("round")
                except WorkerError as e:
                    failed[name] = str(e)
                    continue
                if number:
                    samples[name].append(sample)
        for name in [n for n in samples if n not in failed]:
            try:
                ends[name] = ready[name] | workers[name].ask("end")
            except WorkerError as e:
                failed[name] = str(e)
    finally:
        for worker in workers.values():
            worker.close()
    key = "cpu_ms" if threads == 1 else "wall_ms"
    timings = {name: summarise(samples[name], key, ready[name].get("calls", 1)) for name in ends}
    return Race(timings, ends, failed)


def summarise(samples: Sequence[Mapping[str, float]], key: str, calls: int) -> Timing:
    """The statistics of one contestant's rounds; `key` names the clock that counts."""
    times = [s[key] for s in samples]
    wall = statistics.median(s["wall_ms"] for s in samples)
    return Timing(statistics.median(times), min(times), wall, len(times), calls)


def ask_once(command: Sequence[str], timeout_s: float = 1200) -> dict[str, Any]:
    """Starts a worker for one answer."""
    worker = Worker(command, timeout_s)
    try:
        return worker.ask()
    finally:
        worker.close()
