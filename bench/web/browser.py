"""A headless Chromium with a page per contestant, and the CPU time of each page's process."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.rounds import Worker, WorkerError

DRIVER = Path(__file__).with_name("driver.mjs")
_BURN_MS, _TRIES = 50, 40
"""How long a page works so that its process stands out, and how often at most."""
_TICK_MS = 10

CHECK_MS = 500
"""How long a page is kept busy to check the clock."""


class CpuClock:
    """The CPU time of all threads of another process, those that have ended too (POSIX clock_getcpuclockid).

    Its resolution is nanoseconds, where /proc and Chromium's own SystemInfo count ticks of 10 ms. Raises WorkerError
    where there is no such process or no such clock.
    """

    def __init__(self, process: int) -> None:
        clock = ctypes.c_int()
        try:
            failed = ctypes.CDLL(None).clock_getcpuclockid(process, ctypes.byref(clock))
        except (OSError, AttributeError) as e:
            raise WorkerError(f"this system has no clock for another process: {e}") from e
        if failed:
            raise WorkerError(f"process {process} has no clock: {os.strerror(failed)}")
        self._clock = clock.value

    def ms(self) -> float:
        try:
            return time.clock_gettime_ns(self._clock) / 1e6
        except OSError as e:
            raise WorkerError("the page's process has ended") from e


class Browser:
    """Chromium through driver.mjs. Every method raises WorkerError for what went wrong in the browser or a page."""

    def __init__(self, chromium: str, modules: Path, node: str = "node") -> None:
        """`modules`: the node_modules with puppeteer-core."""
        self._driver = Worker([node, str(DRIVER), str(modules.resolve()), chromium], timeout_s=300)
        self._known: set[int] = set()  # the processes of all pages so far
        try:
            self.version = str(self._driver.ask()["value"])
        except WorkerError:
            self._driver.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(WorkerError):
            self._ask("quit")
        self._driver.close()

    def _ask(self, do: str, **command: Any) -> Any:
        return self._driver.ask(json.dumps({"do": do, **command}))["value"]

    def open(self, name: str, url: str) -> Page:
        """A page in a process of its own."""
        self._ask("open", id=name, url=url)
        return Page(self, name)

    def call(self, page: str, function: str, *arguments: Any) -> Any:
        return self._ask("call", id=page, name=function, arguments=arguments)

    def visit(self, url: str, network: Mapping[str, float] | None) -> Any:
        """What the promise globalThis.first of a page gives, in a new context. `network`: as DevTools emulate it, in
        bytes per second and milliseconds; None for that of this machine."""
        return self._ask("visit", url=url, network=network)

    def close(self, page: str) -> None:
        self._ask("close", id=page)

    def clock_of(self, page: str) -> CpuClock:
        """The clock of the page's process, which DevTools do not name: the one that stands where the page's own count
        does (ProcessTime, in ticks of 10 ms), and still does after some work."""
        last = None
        for _ in range(_TRIES):
            self.call(page, "burn", _BURN_MS)
            told = 1e3 * self._ask("processTime", id=page)
            clocks = {process: CpuClock(process) for process in self._ask("renderers") if process not in self._known}
            near = [process for process, clock in clocks.items() if -_TICK_MS < clock.ms() - told < 4 * _TICK_MS]
            if len(near) == 1 and near[0] == last:
                self._known.add(near[0])
                return clocks[near[0]]
            last = near[0] if len(near) == 1 else None
        raise WorkerError("the page's process cannot be distinguished from Chromium's others")


class Page:
    """One contestant's page; its functions are those of page.mjs."""

    def __init__(self, browser: Browser, name: str) -> None:
        self._browser, self._name = browser, name
        self._clock = browser.clock_of(name)

    def call(self, function: str, *arguments: Any) -> Any:
        return self._browser.call(self._name, function, *arguments)

    def round(self, calls: int) -> dict[str, float]:
        """CPU time of the page's process and wall time in the page, milliseconds per call, after one call in ten that
        is not counted: they bring back to the caches what the other contestants drove out."""
        self.call("round", 1 + calls // 10)
        before = self._clock.ms()
        wall = self.call("round", calls)
        return {"cpu_ms": (self._clock.ms() - before) / calls, "wall_ms": wall / calls}

    def check_clock(self) -> float:
        """The CPU milliseconds of CHECK_MS of work: as many, where no other program wants the core."""
        before = self._clock.ms()
        self.call("burn", CHECK_MS)
        return self._clock.ms() - before

    def close(self) -> None:
        self._browser.close(self._name)
