"""The user's own inputs: `--inputs FILE.npz`, an array per input under its name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.archives import ZIP_ERRORS
from dlpack.bundle.texts import encoded_inputs, is_text
from dlpack.errors import UsageError, did_you_mean
from dlpack.graph.ir import Array


@dataclass(frozen=True)
class Given:
    """Arrays from a file, and the file's name and SHA-256, which are all that is recorded of it."""

    file: str
    sha256: str
    arrays: Mapping[str, Array]

    def to_json(self) -> dict[str, str]:
        return {"file": self.file, "sha256": self.sha256}

    def fitting(self, sets: Sequence[Mapping[str, Any]], maxima: Mapping[str, int]) -> tuple[int, dict[str, Array]]:
        """The first set of shapes that the arrays have, and they in its order.

        `sets`: as the manifest has them, with `inputs` of name, dtype and shape. `maxima`: those of `--max`. Raises
        UsageError, which says what is wrong, for names, types and shapes that are not those of an input, and for
        elements above the input's maximum.
        """
        numbers = {name: x for name, x in self.arrays.items() if x.dtype.kind not in "SU"}
        wrong = [
            f"'{name}' has {numbers[name].max()}, and the build --max {name}={most}"
            for name, most in maxima.items()
            if name in numbers and numbers[name].size and numbers[name].max() > most
        ]
        if wrong:
            raise UsageError(f"--inputs {self.file}: {'; '.join(wrong)}")
        for number, s in enumerate(sets):
            problems = self._problems(s["inputs"])
            if not problems:
                arrays = encoded_inputs({t["name"]: (t["dtype"], ()) for t in s["inputs"]}, self.arrays)
                return number, {t["name"]: np.asarray(arrays[t["name"]], order="C") for t in s["inputs"]}
            wrong += [problem for problem in problems if problem not in wrong]
        raise UsageError(f"--inputs {self.file}: {'; '.join(wrong)}")

    def _problems(self, inputs: Sequence[Mapping[str, Any]]) -> list[str]:
        problems = []
        names = [t["name"] for t in inputs]
        for name in self.arrays:
            if name not in names:
                known = ", ".join(f"'{n}'" for n in names)
                problems.append(f"the model has no input '{name}'; it has {known}{did_you_mean(name, names)}")
        for t in inputs:
            array, shape = self.arrays.get(t["name"]), tuple(t["shape"])
            if array is None:
                problems.append(f"the array of the input '{t['name']}' is missing: {t['dtype']} {list(shape)}")
            elif array.dtype.name != t["dtype"] and not (is_text(t["dtype"]) and array.dtype.kind in "SU"):
                problems.append(f"'{t['name']}' is {array.dtype.name}, and the input {t['dtype']}")
            elif array.shape != shape:
                problems.append(f"'{t['name']}' has the shape {list(array.shape)}, and the input {list(shape)}")
        return problems


def read_given(path: Path, option: str = "--inputs") -> Given:
    """Reads the .npz file that `option` names. Raises UsageError for what is none, or holds other than numbers."""
    try:
        data = path.read_bytes()
        with np.load(path, allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("it is not an .npz file; write it with numpy.savez")
            arrays = {name: stored[name] for name in stored.files}
    except ZIP_ERRORS as e:
        raise UsageError(f"{option} {path} cannot be read: {e}") from e
    return Given(path.name, hashlib.sha256(data).hexdigest(), arrays)
