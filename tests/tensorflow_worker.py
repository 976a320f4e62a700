"""The exporter's process with TensorFlow, split off from one that has imported it: half a second in place of six.

As a program: a line of JSON per task, {"task": what the worker reads, "stderr": a file}, answered with its exit status.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import processes
import pytest


@contextmanager
def warm_worker(folder: Path) -> Iterator[Callable[..., Any]]:
    """What takes the place of `subprocess.run` in the exporter; the process starts with the first task."""
    kept: list[tuple[subprocess.Popen[str], processes.Lines]] = []
    with ExitStack() as ends:

        def run(_command: list[str], input: bytes, env: dict[str, str], timeout: float, **_more: Any) -> Any:
            if not kept:
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
                process = ends.enter_context(processes.started([sys.executable, __file__], **pipes))
                kept.append((process, processes.Lines(process.stdout)))
            process, lines = kept[0]
            errors = folder / "stderr"
            assert process.stdin
            process.stdin.write(json.dumps({"task": input.decode(), "stderr": str(errors)}) + "\n")
            process.stdin.flush()
            status = lines.next(min(timeout, processes.LIMIT_S))
            if not status:
                pytest.fail("the process with TensorFlow gives no answer")
            return types.SimpleNamespace(returncode=int(status), stderr=errors.read_bytes())

        yield run


def _serve() -> None:
    import keras  # noqa: F401 - imported before the split, as the next two
    import tensorflow  # noqa: F401
    import tf2onnx  # noqa: F401

    from dlpack.exporters.tensorflow import worker

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            errors = os.open(asked["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(errors, 1)
            os.dup2(errors, 2)
            sys.stdin = io.TextIOWrapper(io.BytesIO(asked["task"].encode()))
            status = 1
            try:
                worker.main()
                status = 0
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
