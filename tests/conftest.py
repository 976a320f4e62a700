"""What tests share. A tool or a data folder that is missing skips a test with the reason; with CI=true it fails it."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import nets
import onnx
import processes
import pytest

import dlpack.operators  # noqa: F401 - the graph stages ask for operators; the pipeline enters them

pytest_plugins = ["emitted_files", "limits", "manifest_schema", "shape_bundles", "wasm_bundles"]

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the texts in tests/golden/ anew")


def skip_or_fail(reason: str, whole_file: bool = False) -> NoReturn:
    """Skip the running test with ``reason``; in continuous integration, where everything has to be there, fail it.

    With ``whole_file``, called at the top of a module, the module's tests are skipped.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, but {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=whole_file)


def requires_module(name: str) -> Any:
    """The Python module ``name``; without it the running test is skipped (with CI=true: fails)."""
    try:
        return importlib.import_module(name)
    except ImportError:
        skip_or_fail(f"the Python module {name} is not installed")


def requires_tool(name: str) -> str:
    """The path of the command ``name``; without it the running test is skipped (with CI=true: fails).

    In a test or a fixture: ``gcc = requires_tool("g++")``, after ``from conftest import requires_tool``.
    """
    path = shutil.which(name)
    if path is None:
        skip_or_fail(f"the tool {name} is not installed")
    return path


def optional_tool(name: str, why: str) -> str:
    """The path of a command that script/test does not install, for the reason `why`; script/toolchains may have.
    Without it the running test is skipped, in continuous integration too."""
    path = shutil.which(name) or shutil.which(name, path=str(ROOT / "build" / "toolchains" / "bin"))
    if path is None:
        pytest.skip(f"the tool {name} is not installed, and script/test does not install it: {why}")
    return path


def optional_module(name: str, why: str) -> Any:
    """The Python module ``name``, which script/test does not install, for the reason ``why``. Without it the running
    test is skipped, in continuous integration too."""
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"the Python module {name} is not installed, and script/test does not install it: {why}")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real trained models beside the repository, which a user's clone does not have."""
    path = ROOT.parent / "shared" / "models"
    if not path.is_dir():
        skip_or_fail("the folder ../shared/models is absent")
    return path


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ONNX files by name: the digits example and the models of nets.py."""
    folder = tmp_path_factory.mktemp("models")
    files = {"digits": DIGITS}
    for name in ("conv_net", "attention_net", "wide_net", "winograd_net", "unsupported_net"):
        files[name] = folder / f"{name}.onnx"
        onnx.save(getattr(nets, name)(), files[name])
    return files


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, model_files: dict[str, Path]) -> Callable[[str], Path]:
    """``bundles("digits")`` is that model built for native; each is built once. Tests must not write in it."""
    folder = tmp_path_factory.mktemp("bundles")

    def get(name: str) -> Path:
        from dlpack.pipeline import build

        path = folder / name
        return path if path.exists() else build(model_files[name], path)

    return get


@pytest.fixture(scope="session")
def digits(bundles: Callable[[str], Path]) -> Path:
    """The digits example built for native."""
    return bundles("digits")


@pytest.fixture(scope="session")
def side_file_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example with its weights in a file of their own."""
    from dlpack.pipeline import Options, build

    return build(DIGITS, tmp_path_factory.mktemp("side") / "digits", Options(weights="file"))


@pytest.fixture(scope="session")
def cuda_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libcuda.so.1 for tests, which runs kernels on the CPU; see tests/fake_cuda/."""
    requires_module("nvidia.cuda_nvrtc")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-soname,libcuda.so.1"]
    processes.run(
        [requires_tool("g++"), *flags, ROOT / "tests" / "fake_cuda" / "fake_cuda.cc", "-o", library, "-ldl"], check=True
    )
    return library
