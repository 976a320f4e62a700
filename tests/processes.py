"""Processes of the tests: each has a time limit, is ended with all that it started, and a failure names the step."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Words: TypeAlias = Sequence[str | Path]

LIMIT_S = 240
"""Seconds for one process; below what pytest gives a test, so that the process is named."""


def run(
    words: Words, *, step: str = "", limit_s: float = LIMIT_S, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What a command did, as subprocess.run(..., capture_output=True, text=True) tells it; `options` go to Popen.

    With `check` an exit status other than 0 fails the test, with what the command wrote. A command that takes longer
    than `limit_s` seconds is ended with its children, and fails the test: "<step>: took over ...", where the step is
    the command unless it is given. An option `input` is its standard input, `text=False` makes all of it bytes.
    """
    command = [str(word) for word in words]
    given = options.pop("input", None)
    pipes = {"stdin": subprocess.DEVNULL if given is None else subprocess.PIPE, "text": True}
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **{**pipes, **options}) as process:
        try:
            out, err = process.communicate(given, timeout=limit_s)
        except subprocess.TimeoutExpired as e:
            end(process)
            told = "\n".join(_text(part)[-1500:] for part in (e.stdout, e.stderr) if part)
            pytest.fail(f"{step or _short(command)}: took over {limit_s:g} s and was ended\n{told}", pytrace=True)
    if check and process.returncode:
        pytest.fail(f"{step or _short(command)}: exit status {process.returncode}\n{_text(out)}\n{_text(err)[-3000:]}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@contextmanager
def started(words: Words, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, which ends with the block, as do its children; `options` go to Popen."""
    process = subprocess.Popen([str(word) for word in words], start_new_session=True, **options)
    try:
        yield process
    finally:
        end(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with suppress(OSError):  # its other end is gone
                    stream.close()


def hear_interrupts() -> None:
    """In a child process: when a shell runs the suite in the background, SIGINT is ignored, and children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(process: subprocess.Popen[Any], polite_s: float = 0) -> None:
    """Ends a process that leads a session, and all that came from it, groups of their own included.

    It has `polite_s` seconds to end by itself once it is told. On systems without /proc it is its own group that ends.
    """
    if polite_s and process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(polite_s)
    family = descendants(process.pid) if process.poll() is None else []
    with suppress(ProcessLookupError, PermissionError):  # the group may be left where its leader has ended
        os.killpg(process.pid, signal.SIGKILL)
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(60)


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on, as far as /proc tells."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parents[int(entry.parent.name)] = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def running(pid: int) -> bool:
    """Whether a process is there and has not ended, though nobody may have asked how; needs no parenthood."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc/self").exists()


class Lines:
    """The lines that a stream gives, waited for no longer than one wants."""

    def __init__(self, stream: Any) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Any) -> None:
        with suppress(OSError, ValueError):  # closed while it was read
            for line in stream:
                self._lines.put(line)
        self._lines.put("")

    def next(self, limit_s: float) -> str | None:
        """The next line, "" at the stream's end, None after `limit_s` seconds without one."""
        try:
            return self._lines.get(timeout=max(limit_s, 0))
        except queue.Empty:
            return None


def until(condition: Any, step: str, limit_s: float = 60, every_s: float = 0.02) -> None:
    """Returns as soon as `condition()` holds; fails the test "<step>: ..." where it does not within `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{step}: not within {limit_s:g} s")
        time.sleep(every_s)


def _text(part: str | bytes) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else part


def _short(command: Sequence[str]) -> str:
    words = " ".join(word if len(word) < 80 else "..." for word in command)
    return words if len(words) < 300 else f"{words[:300]} ..."
