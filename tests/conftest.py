"""What tests share. A tool or a data folder that is missing skips a test with the reason; with CI=true it fails it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the running test with ``reason``; in continuous integration, where everything has to be there, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, but {reason}", pytrace=False)
    pytest.skip(reason)


def requires_tool(name: str) -> str:
    """The path of the command ``name``; without it the running test is skipped (with CI=true: fails).

    In a test or a fixture: ``gcc = requires_tool("g++")``, after ``from conftest import requires_tool``.
    """
    path = shutil.which(name)
    if path is None:
        skip_or_fail(f"the tool {name} is not installed")
    return path


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real trained models beside the repository, which a user's clone does not have."""
    path = ROOT.parent / "shared" / "models"
    if not path.is_dir():
        skip_or_fail("the folder ../shared/models is absent")
    return path
