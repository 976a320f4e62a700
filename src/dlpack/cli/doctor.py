"""`dlpack doctor`: what is installed, and what is missing for which target, source or check."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
from rich.table import Table

from dlpack.cli.console import OUT, plain
from dlpack.cli.version import version_text

_REQUIRED = ("apache-tvm", "apache-tvm-ffi", "click", "numpy", "onnx", "onnxruntime", "rich", "ziglang")

_SOURCES = {
    "PyTorch": ("torch", ("torch", "onnxscript")),
    "TensorFlow, Keras": ("tensorflow", ("tensorflow", "keras", "tf2onnx")),
    "scikit-learn": ("sklearn", ("sklearn", "skl2onnx", "skops")),
}
"""Frameworks whose models need packages: the extra that installs them, and the modules."""

_TOOLS = {"node": "verifies and times target wasm", "javac": "compiles target android (a JDK)"}


def diagnosis() -> dict[str, Any]:
    """What `dlpack doctor` tells, as JSON data; `healthy`: whether `dlpack build` works for this computer."""
    from dlpack.targets import all_targets

    packages = {name: _version(name) for name in _REQUIRED}
    sources = []
    for name, (extra, modules) in _SOURCES.items():
        missing = [m for m in modules if importlib.util.find_spec(m) is None]
        sources.append({"source": name, "missing": missing, "install": f"pip install 'dlpack-aot[{extra}]'"})
    missing_of = {name: target.missing() for name, target in all_targets().items()}
    return {
        "version": version_text(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": packages,
        "sources": sources,
        "targets": [
            {"target": name, "missing": missing_of[name], "limited": target.limited()}
            for name, target in all_targets().items()
        ],
        "tools": [
            {"tool": t, "path": shutil.which(t), "purpose": purpose}
            for t, purpose in {**_TOOLS, **_emulators()}.items()
        ],
        "pictures": importlib.util.find_spec("PIL") is not None,
        "healthy": all(packages.values()) and missing_of["native"] is None,
    }


def _emulators() -> dict[str, str]:
    """By command, which targets are verified with it."""
    from dlpack.targets import all_targets

    used: dict[tuple[str, str], list[str]] = {}
    for name, target in all_targets().items():
        for command, package in dict.fromkeys((e.command[0], e.package) for e in target.emulators() if e.command):
            used.setdefault((command, package), []).append(name)
    return {
        command: f"verifies {', '.join(names)} (Debian's package {package})"
        for (command, package), names in sorted(used.items())
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@click.command(epilog="Exit codes: 0 dlpack build works for this computer, 4 something that it needs is missing.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def doctor(json_: bool) -> None:
    """Show what is installed, and what is missing for which target, framework or check."""
    found = diagnosis()
    if json_:
        click.echo(json.dumps(found, indent=2))
    else:
        _print(found)
    if not found["healthy"]:
        sys.exit(4)


def _print(found: dict[str, Any]) -> None:
    OUT.print(f"dlpack {found['version']}, Python {found['python']}, {found['system']}", soft_wrap=True)

    def table(head: str, rows: list[tuple[str, bool, str]]) -> None:
        shown = Table(head, "", "", box=None, pad_edge=False)
        for name, good, text in rows:
            shown.add_row(name, "[green]ok[/]" if good else "[yellow]missing[/]", plain(text))
        OUT.print()
        OUT.print(shown)

    table("package", [(name, bool(v), v or f"pip install {name}") for name, v in found["packages"].items()])
    rows = [
        (s["source"], not s["missing"], f"{', '.join(s['missing'])}: {s['install']}" if s["missing"] else "")
        for s in found["sources"]
    ]
    table("models of", [*rows, ("pictures", found["pictures"], "" if found["pictures"] else "pip install pillow")])
    table("target", [(t["target"], t["missing"] is None, t["missing"] or t["limited"] or "") for t in found["targets"]])
    table("tool", [(t["tool"], bool(t["path"]), t["purpose"]) for t in found["tools"]])
    OUT.print()
    word = "works here" if found["healthy"] else "does not work here: install what is missing above"
    OUT.print(f"dlpack build {word}", soft_wrap=True)
