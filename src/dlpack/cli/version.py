"""The version, with the git revision of a development tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dlpack import __version__


def version_text() -> str:
    """`0.1.0`, or `0.1.0 (git 1a2b3c4, changed)` where the package is imported from its repository."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return __version__
    revision = _git(root, "rev-parse", "--short", "HEAD")
    if not revision:
        return __version__
    changed = ", changed" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{__version__} (git {revision}{changed})"


def _git(root: Path, *arguments: str) -> str:
    """What git prints; "" where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
