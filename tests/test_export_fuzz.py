"""Damaged model files end in a bundle or a DlpackError, soon: a few of each format; ``script/fuzz`` makes more."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys

import pytest
from conftest import ROOT, skip_or_fail
from fuzz.formats import FORMATS, MODULES
from processes import run

pytestmark = pytest.mark.timeout(900)


GROUPS: dict[str, list[str]] = {}
"""The formats that need the same packages, by the first package: they share a process, which imports them once."""
for _name in FORMATS:
    GROUPS.setdefault(next(iter(MODULES.get(_name, ())), "dlpack"), []).append(_name)


@pytest.mark.parametrize("group", GROUPS)
def test_mutations_end_in_a_bundle_or_an_error(group: str) -> None:
    formats = GROUPS[group]
    for module in MODULES.get(formats[0], ()):
        if importlib.util.find_spec(module) is None:
            skip_or_fail(f"{module} is not installed")
    chosen = [word for name in formats for word in ("--format", name)]
    command = [ROOT / "script" / "fuzz", *chosen, "--count", "100", "--seed", "1", "--builds", "2"]
    done = run(command, env=os.environ | {"PYTHON": sys.executable}, limit_s=840)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    reports = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in reports] == formats
    assert all("Error" in line and " 0 findings" in line for line in reports)


FAULTS = {
    "an exception": ("1 / 0", "ZeroDivisionError"),
    "a crash": ("__import__('os').abort()", "SIGABRT"),
    "a loop": ("[1 for _ in iter(int, 1)]", "too slow"),
    "memory": ("__import__('numpy').ones(1 << 30)", "asked for more than 4 GiB|MemoryError"),
    "a file": ("open('left', 'w').close()", "files outside the output folder"),
    "a file elsewhere": ("open('/dev/full', 'w').close()", "files outside the output folder.*/dev/full"),
}


def test_faults_are_found() -> None:
    """Each is found twice, in two mutations; one process stages them all, since it takes long to start."""
    code = """
import json, sys
from fuzz import worker
from fuzz.__main__ import Plan, fuzz
worker.LIMIT_S = 0.3
found = {}
for fault, expression in json.loads(sys.argv[1]).items():
    worker._stages = eval(f"lambda *given: {expression}")
    found[fault] = fuzz(Plan("caffe_weights", 0, 2, 0, 1.0), 0).findings
print(json.dumps(found))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    expressions = json.dumps({fault: expression for fault, (expression, _) in FAULTS.items()})
    done = run([sys.executable, "-c", code, expressions], env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for fault, (_, words) in FAULTS.items():
        assert len(found[fault]) == 2 and re.search(words, found[fault][0], re.DOTALL), (fault, found[fault])
