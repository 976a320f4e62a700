"""python runner.py FOLDER NAME WHEEL ...: runs the package NAME of unpacked wheels, FOLDER/WHEEL, with each build.

Inputs are FOLDER/in/0 and so on, in the set of shapes whose number FOLDER/in/set has; outputs go to
FOLDER/WHEEL out/BUILD/0 and so on, raw bytes. run.py starts it in CPython, run.mjs in Pyodide.
"""

import importlib
import sys
from pathlib import Path
from typing import Any


def run_wheel(folder: Path, name: str, wheel: str) -> None:
    sys.path.insert(0, str(folder / wheel))
    for loaded in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[loaded]
    importlib.invalidate_caches()
    package: Any = importlib.import_module(name)
    predictor = package.Predictor()
    formats = package.buffers.FORMATS
    inputs = {}
    predictor.set_shape(int((folder / "in" / "set").read_text()))
    shaped = {"shapes", "open"} & predictor.manifest.keys()
    for k, (tensor, (dtype, shape)) in enumerate(predictor.inputs.items()):
        data = memoryview(bytearray((folder / "in" / str(k)).read_bytes()))
        inputs[tensor] = data.cast(formats[dtype], shape) if shape and shaped else data.cast(formats[dtype])
    for build in predictor.manifest.get("wasm") or predictor.manifest["side_module"]:
        out = folder / f"{wheel} out" / build
        out.mkdir(parents=True)
        for k, value in enumerate(package.Predictor(build=build).run(inputs).values()):
            (out / str(k)).write_bytes(memoryview(value).tobytes())
            (out / f"{k}.shape").write_text(" ".join(map(str, value.shape)))
    sys.path.pop(0)


if __name__ == "__main__":
    for each in sys.argv[3:]:
        run_wheel(Path(sys.argv[1]), sys.argv[2], each)
