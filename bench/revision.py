"""The commit that a measurement is of."""

from __future__ import annotations

import subprocess

from bench.rounds import ROOT

_MEASURED = (".", ":(exclude)bench/results", ":(exclude)docs", ":(exclude)mkdocs.yml")


def revision() -> str:
    """The checked-out commit, with a plus where files differ from it, but for what a measurement writes."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "-uno", "--", *_MEASURED) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
