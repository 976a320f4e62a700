"""A process that works on one line after another, and may crash or take too long without ending its user."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent


class Worker:
    """Runs a module that answers each line with one of JSON; it is started when it is needed, and again after its end.

    `log`: where its stderr goes; `lives`: the lines after which another process takes over, since what libraries keep
    adds up.
    """

    def __init__(self, module: str, log: Path, seconds: int, *arguments: str, lives: int = 80) -> None:
        self.command = [sys.executable, "-m", module, *arguments]
        self.log, self.seconds, self.lives = log, seconds, lives
        self.process: subprocess.Popen[str] | None = None
        self.done = 0

    def ask(self, line: str) -> dict[str, Any]:
        """The answer, or `failed`: that there was none in time, or that the process ended."""
        if self.process is None:
            with open(self.log, "a", encoding="utf-8") as log:
                self.process = subprocess.Popen(
                    self.command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], self.seconds)[0]:
            self.close()
            return {"failed": f"took more than {self.seconds} s"}
        answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            self.process = None
            return {"failed": f"the process ended with {code}"}
        self.done += 1
        if self.done % self.lives == 0:
            self.close()
        return dict(json.loads(answer))

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
