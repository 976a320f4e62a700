"""Runs a bundle: as a library, as its target runs it, or under emulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.bundle.loader import load
from dlpack.errors import ToolchainError
from dlpack.graph.ir import Array
from dlpack.targets import get_target

if TYPE_CHECKING:
    from dlpack.targets.base import Build, Target

Run = Callable[[Mapping[str, Array]], Mapping[str, Mapping[str, Array]]]
"""From inputs by name to the outputs by name of each build; the only one's name is empty."""


@contextmanager
def bundle_runner(bundle: Path, manifest: Mapping[str, Any]) -> Iterator[Run]:
    """What runs the builds of a bundle on this computer. Raises ToolchainError where nothing can."""
    target = get_target(manifest["target"])
    if target.run is not None:
        run = target.run
        yield lambda inputs: run(bundle, inputs)
        return
    builds = built(target, manifest)
    emulators = [e for b in builds if not b.runs_here() for e in b.emulators if e.missing() is None]
    if "library" in manifest and any(b.runs_here() for b in builds):
        with load(bundle) as predictor:
            yield lambda inputs: {
                "": predictor.run(inputs),
                **{e.name: e.run(bundle, inputs) for e in emulators},
            }
    elif emulators:
        yield lambda inputs: {e.name: e.run(bundle, inputs) for e in emulators}
    else:
        raise ToolchainError(f"{bundle} cannot be run on this computer: {not_run(target, builds)}")


def built(target: Target, manifest: Mapping[str, Any]) -> list[Build]:
    """The builds of the target that a bundle holds."""
    machines = manifest.get("machines", [manifest["machine"]])
    return [b for b in target.builds if b.machine().name in machines] or list(target.builds[:1])


def where_run(target: Target, builds: list[Build]) -> list[str]:
    """On what this computer can run builds: itself, emulators, or nothing."""
    here = ["this computer"] if any(b.runs_here() for b in builds) and (target.run or builds[0].library) else []
    return here + [e.name for b in builds if not b.runs_here() for e in b.emulators if e.missing() is None]


def not_run(target: Target, builds: list[Build]) -> str:
    """Why nothing here can run builds, and what would."""
    missing = dict.fromkeys(m for b in builds for e in b.emulators if (m := e.missing()))
    return f"install {', '.join(missing)}" if missing else f"nothing here runs target {target.name}"
