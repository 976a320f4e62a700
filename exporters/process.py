"""A process in which a framework reads an untrusted file, and computes what an export of it is compared with.

Frameworks' compiled code reads outside of a damaged file's arrays, or does not end on it; that must end this process
and no other.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np

from dlpack.errors import ModelError

MEMORY_BYTES = 4 << 30


class Results:
    """What ``python -m MODULE FILE RESULT.npz MORE`` writes, which starts at once; `timeout_s` is of the clock.

    A context: at its end the process is ended too.
    """

    def __init__(self, module: str, path: Path, framework: str, timeout_s: float, *more: str) -> None:
        self.framework, self._timeout_s = framework, timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="dlpack-")
        self._result = Path(self._folder.name) / "result.npz"
        command = [sys.executable, "-m", module, str(path.resolve()), str(self._result), *more]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def survives(self) -> None:
        """Raises ModelError if the file made the framework crash or hang. Other errors are reported later."""
        status = self._status()
        if status == -signal.SIGPROF:
            raise ModelError(f"{self.framework} does not end on it: the file is damaged")
        if status < 0:
            raise ModelError(f"{self.framework} crashed on it (signal {-status}): the file is damaged")

    def _status(self) -> int:
        try:
            return self._process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            raise ModelError(f"{self.framework} has not computed in {self._timeout_s:g} s") from None

    def arrays(self) -> dict[str, Any]:
        """The content of RESULT.npz. Raises ModelError if the process ended before writing it."""
        status = self._status()
        if status or not self._result.is_file():
            raise ModelError(f"{self.framework} ended while it computed (status {status}): the file is damaged")
        with np.load(self._result) as file:
            return dict(file)


def limit(cpu_s: float, memory_bytes: int = MEMORY_BYTES) -> None:
    """Called in that process: it ends (SIGPROF) after this CPU time, and its memory is limited."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or hard > memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # its signal ends the process
