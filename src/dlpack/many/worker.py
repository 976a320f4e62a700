"""`python -m dlpack.many.worker`: builds the tasks that come in by standard input, one after the other.

Tasks and outcomes are pickled; None ends a task's outcomes, and the worker as a task.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import Any, NoReturn

from dlpack.many.tasks import work

_stopping = False


def _stop(*_: object) -> NoReturn:
    """Ends the build, which takes its unfinished folder away; nothing may interrupt that."""
    global _stopping
    _stopping = True
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """The worker; returns its exit status."""
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, _stop)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    try:
        while (task := pickle.load(sys.stdin.buffer)) is not None:
            for outcome in work(task):
                if _stopping:  # the interrupt was raised in a callback and became an error of the library
                    return 130
                _answer(answers, outcome)
            _answer(answers, None)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        return 130
    return 0


def _answer(stream: Any, outcome: Any) -> None:
    pickle.dump(outcome, stream)
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
