"""`script/conformance`: ONNX's node tests, a summary, and docs/operators.md."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path

import onnx

from conformance import cases, harness, table
from conformance.batch import OUTCOMES, Result


def main() -> int:
    options = _options()
    chosen = cases.select(options.expanded)
    if options.only:
        chosen = [case for case in chosen if re.search(options.only, case.name)]
    if options.list:
        print("\n".join(case.name for case in chosen))
        return 0
    began = time.monotonic()

    def progress(done: int) -> None:
        print(f"{done} of {len(chosen)} tests, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    machine = harness.MACHINES[options.machine]
    results = harness.run(chosen, machine, options.jobs, progress, options.keep, options.cc)
    report = summary(results, options.unsupported)
    worse: list[Result] = []
    for way in () if options.run_time else cases.WAYS[1:]:
        again = [cases.given(case, way) for case, r in zip(chosen, results, strict=True) if r.outcome == "passed"]
        others = harness.run(again, machine, options.jobs, progress, options.keep, options.cc)
        worse += [r for r in others if r.outcome != "passed"]
        report += f"{way}: {sum(r.outcome == 'passed' for r in others)} of {len(others)} that pass at run time pass\n"
    report += "".join(f"{r.outcome} {r.name}: {' | '.join(r.detail.splitlines())}\n" for r in worse)
    print(report, end="")
    if options.report:
        options.report.write_text(report, encoding="utf-8")
    broken = bool(worse) or any(
        r.outcome not in ("passed", "unsupported") and r.name not in cases.INEXACT for r in results
    )
    if options.only or options.expanded or options.cc or options.machine != DEFAULT_MACHINE:
        return int(broken)
    first = chosen[0]
    text = table.render(results, f"onnx {onnx.__version__}", first.rtol, first.atol)
    if not options.check:
        table.PATH.write_text(text, encoding="utf-8")
    elif not table.PATH.is_file() or table.PATH.read_text(encoding="utf-8") != text:
        print("error: docs/operators.md is stale: run script/conformance and commit it", file=sys.stderr)
        return 1
    return int(broken)


DEFAULT_MACHINE = "avx2"
"""The same on every computer, so that docs/operators.md is."""


def summary(results: list[Result], unsupported: bool = False) -> str:
    """The totals, and what is wrong with which test."""
    count = Counter(r.outcome for r in results)
    lines = []
    for outcome in OUTCOMES[1:]:
        if outcome == "unsupported" and not unsupported:
            continue
        for r in results:
            if r.outcome == outcome:
                lines.append(f"{outcome} {r.name}: {' | '.join(r.detail.splitlines())}")
    lines.append(f"{len(results)} tests: " + ", ".join(f"{count[o]} {o}" for o in OUTCOMES))
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/conformance", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when docs/operators.md is stale, and leave it")
    parser.add_argument("--only", metavar="REGEX", help="only the tests whose name holds this; no document is written")
    parser.add_argument(
        "--machine", choices=harness.MACHINES, default=DEFAULT_MACHINE, help="whose vectors (default: %(default)s)"
    )
    parser.add_argument("--expanded", action="store_true", help="also the tests named ..._expanded")
    parser.add_argument(
        "--run-time",
        action="store_true",
        help="leave out the runs whose inputs are constants: all but the first, and all",
    )
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--unsupported", action="store_true", help="also list what is not supported")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the summary to FILE too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the last batch's C++ in DIR")
    parser.add_argument("--cc", default="", help="another compiler, flags included (default: zig cc)")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one per core)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
