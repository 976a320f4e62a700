"""The whole suite's limit, `--suite-limit MINUTES`: past it, all that runs is told and ended. A plugin of conftest.py.

The limit of one test is pytest-timeout's (pyproject.toml), that of a process processes.py's; this one holds where those
do not, for instance while pytest waits for a worker.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from processes import descendants


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "after so many minutes, tell what runs, end it and exit with status 1"
    parser.addoption("--suite-limit", type=float, metavar="MINUTES", help=help)


def pytest_configure(config: pytest.Config) -> None:
    minutes = config.getoption("--suite-limit")
    if minutes and not hasattr(config, "workerinput"):  # the workers' tests are told to the process that started them
        config.pluginmanager.register(_SuiteLimit(minutes))


_WORKER = "exec(eval(sys.stdin.readline()))"
"""How execnet, on which pytest-xdist stands, starts a worker."""


class _SuiteLimit:
    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        self._running: dict[str, float] = {}
        self._stderr = os.dup(2)  # before tests' output is captured
        self._timer = threading.Timer(60 * minutes, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._running.pop(nodeid, None)

    def pytest_unconfigure(self) -> None:
        self._timer.cancel()

    def _give_up(self) -> None:
        now = time.monotonic()
        family = descendants(os.getpid())
        told = [f"\n\nThe suite took over {self._minutes:g} minutes and is ended. Tests that were running:"]
        told += [f"  {name} ({now - began:.0f} s)" for name, began in list(self._running.items())] or ["  none"]
        told += ["Processes:", *(f"  {pid} {command}" for pid in family if (command := _command(pid))), ""]
        os.write(self._stderr, "\n".join(told).encode(errors="replace"))
        faulthandler.dump_traceback(self._stderr)
        workers = [pid for pid in family if _WORKER in _command(pid)]
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)  # pytest's faulthandler tells where they are
        time.sleep(2 if workers else 0)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        sys.stdout.flush()
        os._exit(1)


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return " ".join(words)[:200].replace("\n", " ").strip()
    return ""
