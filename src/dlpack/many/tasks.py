"""What a worker is asked and what it answers, and the work itself: bundles of one model, built one after the other."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from dlpack.errors import DlpackError
from dlpack.many.contents import digest_of, host_key, is_code
from dlpack.many.jobs import Bundle
from dlpack.options import Progress


@dataclass(frozen=True)
class Task:
    """Bundles of one model that differ in the target alone, so that it is read and run by the reference once.

    `numbers` are those of the bundles in the job; `files` are what is known to be read, with their digests; `host` is
    the processor of the computer that asks.
    """

    root: Path
    source: Path
    bundles: tuple[Bundle, ...]
    numbers: tuple[int, ...]
    files: dict[str, str] = field(default_factory=dict)
    host: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of bundle `number`: built, or an error with its exit code.

    `files` are the further files that the build read, with their digests.
    """

    number: int
    seconds: float
    error: str = ""
    exit_code: int = 0
    warnings: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)


def tasks_of(bundles: Sequence[tuple[int, Bundle]], root: Path, processes: int) -> list[Task]:
    """The bundles, by their numbers, as tasks: the largest models first. Tasks are cut while processes would idle."""
    groups: dict[str, list[tuple[int, Bundle]]] = {}
    for number, bundle in bundles:
        common = replace(bundle.options, target="", target_options={})
        groups.setdefault(f"{bundle.source} {common!r}", []).append((number, bundle))
    parts = list(groups.values())
    while 0 < len(parts) < processes and len(longest := max(parts, key=len)) > 1:
        parts.remove(longest)
        parts += [longest[: len(longest) // 2], longest[len(longest) // 2 :]]
    parts.sort(key=lambda part: -_size(part[0][1].source) * len(part))
    return [Task(root, p[0][1].source, tuple(b for _, b in p), tuple(n for n, _ in p)) for p in parts]


def _size(source: Path) -> int:
    try:
        return max(1, source.stat().st_size)
    except OSError:
        return 1


def work(task: Task) -> Iterator[Outcome]:
    """Builds a task's bundles and yields what became of each as soon as it is known; an error does not end it."""
    from dlpack.pipeline import build_each

    if problem := _misfit(task):
        yield from (Outcome(number, 0.0, problem, 2) for number in task.numbers)
        return
    left = list(zip(task.numbers, task.bundles, strict=True))
    files: dict[str, str] = {}  # of all: the model is read for the first one
    while left:
        warnings: list[str] = []
        built = build_each(task.source, [(b.folder, b.options) for _, b in left], Progress(warn=warnings.append))
        error, code = "", 0
        while left and not error:
            number, bundle = left.pop(0)
            began = time.perf_counter()
            with _Reads(bundle) as reads:
                try:
                    _refuse_other_processor(task, bundle)
                    next(built)
                except DlpackError as e:
                    error, code = str(e), e.exit_code
                except Exception:  # noqa: BLE001 - a fault in one build must not end those of other models
                    error, code = f"internal error\n{traceback.format_exc()}", 1
            files |= reads.digests()
            yield Outcome(number, time.perf_counter() - began, error, code, tuple(warnings), dict(files))
            warnings.clear()


def _misfit(task: Task) -> str:
    """Why this computer cannot take a task: it sees other files than the one that asks."""
    for name, digest in task.files.items():
        if digest and digest_of(Path(name)) != digest:
            return (
                f"{socket.gethostname()} does not see {name} as this computer does: the models and the output "
                "must be on a file system that all machines share"
            )
    return ""


def _refuse_other_processor(task: Task, bundle: Bundle) -> None:
    if bundle.options.target == "native" and task.host and task.host != host_key():
        raise DlpackError(
            f"target native means the computer that builds, and the processor of {socket.gethostname()} differs from "
            "this one's: name a target, x86-64 or linux-arm64, say"
        )


# --- what a build reads -----------------------------------------------------------------------------------------------

_opened: set[str] | None = None
"""The paths opened since a build began; None between builds."""


@cache
def _listen() -> None:
    """Notes each file that Python opens for reading, from now on: an audit hook stays."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and _opened is not None and isinstance(args[0], str | bytes):
            mode = args[1] or ""
            if not set("wax+") & set(mode) and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR):
                _opened.add(os.fsdecode(args[0]))

    sys.addaudithook(hook)


class _Reads:
    """The files that the build of a bundle reads while this context is open."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._paths: set[Path] = set()

    def __enter__(self) -> _Reads:
        global _opened
        _listen()
        _opened = set()
        return self

    def __exit__(self, *_: object) -> None:
        global _opened
        self._paths = {Path(os.path.abspath(name)) for name in _opened or ()}
        _opened = None
        if is_code(self._bundle.source):  # its modules may have been imported by an earlier build
            files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
            self._paths |= {Path(file) for file in files if isinstance(file, str)}

    def digests(self) -> dict[str, str]:
        """Those that belong to the model: not to Python, dlpack or the system, and still there."""
        output = self._bundle.folder.resolve().parent
        own = [p for p in sorted(self._paths) if p.is_file() and not _is_installed(p) and output not in p.parents]
        return {str(path): digest_of(path) for path in own}


@cache
def _installed() -> tuple[Path, ...]:
    from dlpack.many.contents import code_folders

    fixed = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/opt/homebrew", "/Library", "/System")
    return (*map(Path, (*fixed, sys.prefix, sys.base_prefix)), *code_folders())


def _is_installed(path: Path) -> bool:
    inside = {"site-packages", "dist-packages", "__pycache__"} & set(path.parts)
    return bool(inside) or any(folder in path.parents for folder in _installed())
