"""Which models a run takes: the zoo's, made where they are missing, or a folder's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click

from bench.models import MODELS
from bench.rounds import ROOT


def choose_models(models: Path | None, only: str, cache: Path, peer_python: str) -> list[Path]:
    """The ONNX files to run; makes those of the zoo that are not in the cache."""
    try:
        wanted = re.compile(only)
    except re.error as e:
        raise click.UsageError(f"--only {only!r} is no regular expression: {e}") from e
    names = [path.stem for path in sorted(models.glob("*.onnx"))] if models else list(MODELS)
    names.sort(key=lambda name: list(MODELS).index(name) if name in MODELS else len(MODELS))
    chosen = [name for name in names if wanted.search(name)]
    if not chosen:
        raise click.UsageError(f"--only {only!r} leaves none of: {', '.join(names) or 'an empty folder'}")
    if models:
        return [models / f"{name}.onnx" for name in chosen]
    return make_zoo(chosen, cache, peer_python)


def make_zoo(chosen: list[str], cache: Path, peer_python: str) -> list[Path]:
    """The files of these models, made where they are missing."""
    command = [peer_python, "-m", "bench.models", str(cache / "zoo"), *chosen]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise click.UsageError(
            "the zoo cannot be made: fix the problem reported above, or give existing models with --models DIR"
        )
    return [cache / "zoo" / f"{name}.onnx" for name in chosen]
