"""Python: a wheel for the target's platform, which needs neither dlpack nor numpy."""

from __future__ import annotations

import json
import keyword
import re
import sys
import sysconfig
from importlib import resources
from pathlib import Path

from dlpack.bindings.api import INPUT_OF, OUTPUT_OF, RESHAPE, Api
from dlpack.bindings.base import Binding, Bundle
from dlpack.bindings.text import common, lines, render
from dlpack.errors import UsageError

_TAKEN = sys.stdlib_module_names | {*keyword.kwlist, "dlpack", "numpy"}
_ARCHITECTURES = {"arm": "armv7l", "arm64": "aarch64"}
_LIBC = {"gnu": "manylinux_2_17", "gnueabihf": "manylinux_2_17", "musl": "musllinux_1_2", "musleabihf": "musllinux_1_2"}


def wheel_platform(zig_target: str) -> str:
    """A wheel's platform tag for zig's name of a platform, such as "aarch64-linux-gnu.2.23"; "" is this computer's.

    https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
    Raises UsageError for one on which wheels do not install.
    """
    if not zig_target:
        return re.sub(r"[-.]", "_", sysconfig.get_platform())
    architecture, system, *more = zig_target.split("-")
    libc, _, version = (more or [""])[0].partition(".")
    system, _, release = system.partition(".")
    if system == "linux" and libc in _LIBC:
        tag = f"manylinux_{version.replace('.', '_')}" if version and libc.startswith("gnu") else _LIBC[libc]
        return f"{tag}_{_ARCHITECTURES.get(architecture, architecture)}"
    if system == "windows" and architecture in ("x86_64", "aarch64"):
        return {"x86_64": "win_amd64", "aarch64": "win_arm64"}[architecture]
    if system == "macos":
        arm = architecture == "aarch64"
        least = (release or "11.0").split(".")
        return f"macosx_{least[0]}_{[*least, '0'][1]}_{'arm64' if arm else architecture}"
    raise UsageError(f"--binding python-wheel: there is no tag for wheels on {zig_target}")


def _write(bundle: Bundle, folder: Path) -> None:
    from dlpack.targets.pyodide.wheel import write_wheel

    api = bundle.api
    if api.name in _TAKEN:
        raise UsageError(f"the wheel's package would be called {api.name!r}, which is taken: give another --name")
    names = [t.name for t in (*api.inputs, *api.outputs)]
    values = {
        **common(api),
        "dist": re.sub("_+", "-", api.name),
        "input_docs": lines("- {shown}: {about}", api.inputs, names[: len(api.inputs)]),
        "output_docs": lines("- {shown}: {about}", api.outputs, names[len(api.inputs) :]),
    }
    here = resources.files(__name__)
    init = render(here.joinpath("init.py.txt").read_text(encoding="utf-8"), values, api.conditions)
    metadata = render(here.joinpath("metadata.txt").read_text(encoding="utf-8"), values, api.conditions)
    files: dict[str, bytes | Path] = {
        "__init__.py": init.encode(),
        "predictor.py": here.joinpath("predictor.py").read_bytes(),
        "py.typed": b"",
        "api.json": _described(api, str(bundle.library)).encode(),
        str(bundle.library): bundle.folder / str(bundle.library),
    }
    if api.open:
        files["open_sizes.py"] = (resources.files("dlpack.meaning") / "open_sizes.py").read_bytes()
    if "texts" in api.conditions:
        files["text.py"] = here.joinpath("text.py").read_bytes()
    if api.weights:
        files[api.weights] = bundle.folder / api.weights
    tag = f"py3-none-{wheel_platform(bundle.platform)}"
    content = {f"{api.name}/{path}": data for path, data in files.items()}
    write_wheel(folder, re.sub("_+", "_", api.name), values["version"], tag, metadata, bundle.notice, content)


def _described(api: Api, library: str) -> str:
    """api.json: what predictor.py asks of the API."""
    tensors = {
        side: [
            {"name": t.name, "dtype": t.dtype, "shapes": [list(s) for s in (not api.open and t.shapes) or (t.shape,)]}
            for t in of
        ]
        for side, of in (("inputs", api.inputs), ("outputs", api.outputs))
    }
    functions = {
        f.name: [f.returns, [kind for _, kind in f.parameters]]
        for f in api.functions
        if f not in (RESHAPE, INPUT_OF, OUTPUT_OF)  # predictor.py knows all shapes
    }
    told = {
        **{name: getattr(api, name) for name in ("classes", "pictures", "scores", "boxes", "threshold", "most")},
        **({"embedding": api.texts.embedding, "text_bytes": api.texts.bytes} if "texts" in api.conditions else {}),
        **({"errors": api.texts.errors} if "texts" in api.conditions else {}),
        **({"open": api.open} if api.open else {}),
        **{"weights": api.weights, "sets": max(1, len(api.sets)), "threads": api.threads},
    }
    text = json.dumps({"name": api.name, "library": library, **tensors, **told, "functions": functions}, indent=1)
    return f"{text}\n"


BINDING = Binding("python-wheel", "a wheel for the target's platform", _write)
