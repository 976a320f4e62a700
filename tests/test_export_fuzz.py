"""Damaged model files end in a bundle or a DlpackError, soon: a few of each format; ``script/fuzz`` makes more."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from conftest import ROOT, skip_or_fail
from fuzz.formats import FORMATS, MODULES
from processes import run

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("name", FORMATS)
def test_mutations_end_in_a_bundle_or_an_error(name: str) -> None:
    for module in MODULES.get(name, ()):
        if importlib.util.find_spec(module) is None:
            skip_or_fail(f"{module} is not installed")
    command = [ROOT / "script" / "fuzz", "--format", name, "--count", "100", "--seed", "1", "--builds", "2"]
    done = run(command, env=os.environ | {"PYTHON": sys.executable}, limit_s=840)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "Error" in done.stdout and "0 findings" in done.stdout


FAULTS = {
    "an exception": ("1 / 0", "ZeroDivisionError"),
    "a crash": ("__import__('os').abort()", "SIGABRT"),
    "a loop": ("[1 for _ in iter(int, 1)]", "too slow"),
    "memory": ("__import__('numpy').ones(1 << 30)", "asked for more than 4 GiB|MemoryError"),
    "a file": ("open('left', 'w').close()", "files outside the output folder"),
    "a file elsewhere": ("open('/dev/full', 'w').close()", "files outside the output folder.*/dev/full"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str) -> None:
    expression, words = FAULTS[fault]
    code = f"""
import re
from fuzz import worker
from fuzz.__main__ import Plan, fuzz
worker._stages = lambda *given: {expression}
worker.LIMIT_S = 0.3
report = fuzz(Plan("caffe_weights", 0, 2, 0, 1.0), 0)
assert len(report.findings) == 2 and re.search({words!r}, report.findings[0]), report
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    done = run([sys.executable, "-c", code], env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
