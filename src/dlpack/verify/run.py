"""Runs a bundle: as a library, as its target runs it, or under emulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.bundle.arrays import true_sizes
from dlpack.bundle.foreign import here
from dlpack.bundle.loader import Predictor, load
from dlpack.errors import ExceededError, ToolchainError, UsageError
from dlpack.graph.ir import Array
from dlpack.meaning.shape_sets import find_set, sets_of
from dlpack.targets import get_target

if TYPE_CHECKING:
    from dlpack.targets.base import Build, Target
    from dlpack.targets.toolchains.emulate import Emulator

Run = Callable[[Mapping[str, Array]], Mapping[str, Mapping[str, Array]]]
"""From inputs by name to the outputs by name of each build; the only one's name is empty."""


@contextmanager
def bundle_runner(bundle: Path, manifest: Mapping[str, Any]) -> Iterator[Run]:
    """What runs the builds of a bundle on this computer. Raises ToolchainError where nothing can."""
    target = get_target(manifest["target"])
    if target.run is not None:
        run = target.run
        yield lambda inputs: _true_sizes(manifest, inputs, run(bundle, inputs))
        return
    builds = built(target, manifest)
    library = "library" in manifest and any(b.runs_here() for b in builds)
    emulated = _emulators(builds)
    if not library and not emulated:
        why = f"is for {target.about} (target {target.name}) and cannot be run on this computer"
        raise ToolchainError(f"{bundle} {why}: {not_run(target, builds)}; {here()}")

    def emulate(inputs: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
        found = {label: e.run(bundle, inputs, machine) for label, (e, machine) in emulated.items()}
        return _true_sizes(manifest, inputs, found)

    if library:
        with load(bundle) as predictor:
            yield lambda inputs: {**_run_variants(predictor, inputs), **emulate(inputs)}
    else:
        yield emulate


def _true_sizes(
    manifest: Mapping[str, Any], inputs: Mapping[str, Array], outputs: Mapping[str, Mapping[str, Array]]
) -> dict[str, dict[str, Array]]:
    """What the builds gave for these inputs, cut to the true sizes."""
    number = find_set(manifest, {name: x.shape for name, x in inputs.items()}) or 0
    tensors = sets_of(manifest)[number]["outputs"]
    return {build: true_sizes(tensors, found) for build, found in outputs.items()}


def _emulators(builds: Sequence[Build]) -> dict[str, tuple[Emulator, str]]:
    """By the name that reports call it by, what emulates the machines of builds that this computer is not."""
    found = [(e, b.machine().name) for b in builds if not b.runs_here() for e in b.emulators if e.missing() is None]
    several = len(builds) > 1
    return {f"{machine} on {e.name}" if several else e.name: (e, machine) for e, machine in found}


def _run_variants(predictor: Predictor, inputs: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """The outputs of the kernels for each machine that the processor is or can act as."""
    if len(predictor.variants) == 1:
        return {"": _outputs(predictor, inputs)}
    out = {}
    best = predictor.variant
    for machine in predictor.variants:
        try:
            predictor.set_variant(machine)
        except UsageError:  # the processor lacks its instructions: AVX-512 does not imply AVX-VNNI, say
            continue
        out[machine] = _outputs(predictor, inputs)
    predictor.set_variant(best)
    return out


def _outputs(predictor: Predictor, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A run's outputs. Where the data exceeds a maximum they are what follows from that, in the reference as well."""
    predictor.bind(inputs)
    if "decoder" in predictor.manifest:  # a trial begins without a text
        predictor.reset()
    with suppress(ExceededError):
        predictor.compute()
    return predictor.results()


def built(target: Target, manifest: Mapping[str, Any]) -> list[Build]:
    """The builds of the target that a bundle holds."""
    machines = manifest.get("variants", [manifest["machine"]])
    return [b for b in target.builds if b.machine().name in machines] or list(target.builds[:1])


def where_run(target: Target, builds: Sequence[Build]) -> list[str]:
    """On what this computer can run builds: itself, emulators, or nothing."""
    here = any(b.runs_here() for b in builds) and (target.run or builds[0].library)
    return [*(["this computer"] if here else []), *_emulators(builds)]


def not_run(target: Target, builds: Sequence[Build]) -> str:
    """Why nothing here can run builds, and what would."""
    missing = dict.fromkeys(m for b in builds for e in b.emulators if (m := e.missing()))
    return f"install {', '.join(missing)}" if missing else f"nothing here runs target {target.name}"
