"""The zoo under emulation: whether our bundles are right on Arm, and what they and the contestants execute."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from bench.arm.cycles import table
from bench.arm.emulated import MACHINES, Array, build_plugin, check, count, run_limited
from bench.arm.peers import count_peer, peer_versions
from bench.arm.results import LOOPS, Results, Row, digest_of
from bench.peers import CONTESTANTS, PeerError
from bench.revision import revision
from bench.rounds import ROOT
from bench.worker import load_inputs

CHECKED = {"a57": "generic", "max": "max", "a53": "a53", "armhf": "armhf"}
"""The processors that a bundle must be right on, as the page names them, and those of `MACHINES`."""

LIMIT = 1e-4
"""The largest difference from onnxruntime, as a part of the outputs' range."""


def compiler_digest() -> str:
    """That of all files that a bundle is made with."""
    folders = ("src", "amalgamate", "exporters", "runtime_c", "targets")
    return digest_of(
        f for name in folders for f in sorted((ROOT / name).rglob("*.*")) if f.is_file() and f.suffix != ".pyc"
    )


@dataclass(frozen=True)
class Bench:
    """What a run of all models needs: the contestants' root, a folder for bundles, the seconds that one step (a build,
    a count, a check) may take, and the command of llvm-mca; without root and command their results are left out."""

    root: Path | None
    bundles: Path
    timeout: float
    mca: str | None = None

    def wants(self, what: str, model: str) -> bool:
        return what != LOOPS or (self.mca is not None and model in LOOPS_OF)


OURS = {"linux-arm64": ("ours", "a57", "max", "a53", LOOPS), "linux-armhf": ("armhf",)}
"""By target what is measured of its bundles."""

PEER_NAMES = ("onnxruntime", "ncnn")

LOOPS_OF = ("squeezenet11", "mobilenetv2", "resnet18")
"""The models whose loops the page shows."""

LOOP_CPUS = ("cortex-a57", "neoverse-n1")

TITLES = {
    "ours": "our instructions", LOOPS: "our loops by llvm-mca",
    **{processor: f"our outputs on {processor}" for processor in CHECKED},
}  # fmt: skip

_FAILURES = (subprocess.SubprocessError, PeerError, OSError)


def measure(model: Path, bench: Bench, results: Results, tell: Callable[[str], None]) -> None:
    """Adds to the model's row what it lacks: our counts and errors, and with a root those of the contestants; or why
    there is none. What was measured with the same model, inputs and emitted source stands."""
    row = results.row(model)

    def attempt(what: str, doing: str, work: Callable[[], None], of: str = "") -> bool:
        tell(f"{model.stem}: {doing}")
        row.reasons.pop(what, None)
        if of:
            row.stamps[what] = (of, date.today().isoformat())
        try:
            work()
        except _FAILURES as e:
            row.reasons[what] = reason_of(e, bench.timeout)
            tell(f"{model.stem}: {what} {row.reasons[what]}\n{getattr(e, 'stderr', None) or ''}"[-2000:].rstrip())
        results.save()
        return what not in row.reasons

    with tempfile.TemporaryDirectory(prefix="dlpack-") as name:
        folder = Path(name)
        for target, measured in OURS.items():
            if attempt(target, f"bundle for {target}", partial(_bundle, row, model, target, bench)):
                for what in measured:
                    if bench.wants(what, model.stem) and not row.has(what):
                        work = partial(_measure_ours, row, model, target, what, bench, folder)
                        attempt(what, TITLES[what], work, revision())
        for peer in PEER_NAMES:
            if bench.root is not None and not row.has(peer):
                work = partial(_measure_peer, row, model, peer, bench.root, bench.timeout, folder)
                attempt(peer, f"instructions of {peer}", work, peer_versions(bench.root)[peer])


def reason_of(error: Exception, timeout: float) -> str:
    """Why a step gave no result, as the end of a sentence that begins with what it was about."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"took more than {timeout:.0f} s under emulation"
    if isinstance(error, subprocess.CalledProcessError):
        return f"ended with code {error.returncode}"
    return f"failed: {error}"


def _measure_ours(row: Row, model: Path, target: str, what: str, bench: Bench, folder: Path) -> None:
    bundle = bench.bundles / target / model.stem
    if what == "ours":
        row.counts[what] = count(bundle, MACHINES["generic"], folder, timeout=bench.timeout).total / 1e6
        row.code = code_bytes(bundle)
    elif what == LOOPS:
        row.loops = table(bundle, MACHINES["generic"], LOOP_CPUS, shlex.split(bench.mca or "llvm-mca"))
    else:
        wanted = _expected(model, bundle)
        row.errors[what] = check(bundle, MACHINES[CHECKED[what]], folder, wanted, timeout=bench.timeout)


def _measure_peer(row: Row, model: Path, name: str, root: Path, timeout: float, folder: Path) -> None:
    expected = _onnxruntime(model, load_inputs(model.with_suffix(".npz")))
    counted = count_peer(name, model, root, folder, expected, build_plugin(folder), timeout)
    if counted.error > LIMIT:
        row.reasons[name] = f"is wrong by {counted.error:.0e} of the range"
    else:
        row.counts[name] = counted.total / 1e6


def _bundle(row: Row, model: Path, target: str, bench: Bench) -> None:
    """Makes the model's bundle, unless the same compiler made the one that is there; forgets what was measured with
    other source."""
    bundle = bench.bundles / target / model.stem
    made_of, stamp = f"{compiler_digest()} {row.digests['model']}", bundle.with_name(f"{model.stem}.made_of")
    if not stamp.is_file() or stamp.read_text(encoding="ascii") != made_of:
        shutil.rmtree(bundle, ignore_errors=True)
        bundle.parent.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        run_limited([sys.executable, "-c", _BUILD, str(model), target, str(bundle)], bench.timeout)
        stamp.write_text(made_of, encoding="ascii")
    digest = digest_of([next(bundle.glob("*.cc")), *bundle.glob("*.weights")])
    if row.digests.get(target) != digest:
        row.digests[target] = digest
        for what in OURS[target]:
            row.forget(what)


_BUILD = """\
import sys
from dlpack.pipeline import Options, build
build(sys.argv[1], sys.argv[3], Options(target=sys.argv[2], verify=False))  # it is checked here
"""


def _expected(model: Path, bundle: Path) -> list[Array]:
    """onnxruntime's outputs for the inputs of the bundle's reference, in the model's order."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    with np.load(bundle / "reference.npz") as reference:
        inputs = [reference[f"in_{i}"] for i in range(len(manifest["inputs"]))]
    return _onnxruntime(model, dict(zip(load_inputs(model.with_suffix(".npz")), inputs, strict=True)))


def _onnxruntime(model: Path, inputs: dict[str, Array]) -> list[Array]:
    session = CONTESTANTS["onnxruntime"].load(model, inputs, 1)
    session.run()
    return list(session.outputs().values())


def code_bytes(bundle: Path) -> int:
    """The bytes of machine code that the linker keeps of a linux-arm64 bundle: .text of the library."""
    library = next(bundle.glob("lib*.so"))
    table = subprocess.run(["size", "-A", str(library)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"^\.text\s+(\d+)", table, re.M)
    assert found is not None, table
    return int(found[1])
