"""Runs contestants side by side: a process each, rounds in turn, and the statistics of their times."""

from __future__ import annotations

import functools
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
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
class Answers:
    """What workers told, by contestant: when ready, in each round, at the end; and why some fell out."""

    ready: dict[str, dict[str, Any]]
    rounds: dict[str, list[dict[str, Any]]]
    ends: dict[str, dict[str, Any]]
    failed: dict[str, str]


def in_turn(commands: Mapping[str, Sequence[str]], rounds: int, timeout_s: float = 600, threads: int = 1) -> Answers:
    """Starts a worker for each command, and asks for `rounds` rounds of each, one in turn: A B C, A B C, ..."""
    told = Answers({}, {name: [] for name in commands}, {}, {})
    workers: dict[str, Worker] = {}

    def ask(name: str, line: str, put: Callable[[dict[str, Any]], object]) -> None:
        if name not in told.failed:
            try:
                put(workers[name].ask(line))
            except WorkerError as e:
                told.failed[name] = str(e)

    try:
        for name, command in commands.items():  # one after the other, so that they do not disturb their warm-ups
            workers[name] = Worker(command, timeout_s, threads)
            ask(name, "", functools.partial(told.ready.__setitem__, name))
        for _ in range(rounds):
            for name in commands:
                ask(name, "round", told.rounds[name].append)
        for name in commands:
            ask(name, "end", functools.partial(told.ends.__setitem__, name))
    finally:
        for worker in workers.values():
            worker.close()
    return told


@dataclass(frozen=True)
class Race:
    """What a race gave: timings and last answers by contestant, and the reason for each that fell out."""

    timings: dict[str, Timing]
    ends: dict[str, dict[str, Any]]
    failed: dict[str, str]


def race(commands: Mapping[str, Sequence[str]], rounds: int, timeout_s: float = 600, threads: int = 1) -> Race:
    """Times `rounds` rounds of the workers of the commands, in turn.

    The first round of each is not counted. Median and minimum are of `clock(threads)`.
    """
    told = in_turn(commands, rounds + 1, timeout_s, threads)
    timings = {
        name: summarise(told.rounds[name][1:], clock(threads), told.ready[name].get("calls", 1)) for name in told.ends
    }
    return Race(timings, {name: told.ready[name] | end for name, end in told.ends.items()}, told.failed)


def clock(threads: int) -> str:
    """The time of a round that counts: CPU time with one thread, wall time with more."""
    return "cpu_ms" if threads == 1 else "wall_ms"


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
