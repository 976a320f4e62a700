"""Pickles, which run code when they are loaded, so that they are not read: what saves their model otherwise."""

from __future__ import annotations

import re
from pathlib import Path

_START = re.compile(rb"\x80[\x02-\x05]")
_HEAD_BYTES = 1 << 20
_WHY = "a pickle runs code when it is loaded, so it is not read. "
_SAVED = (
    (b"lightgbm", "Save the model, in the program that made it, with model.booster_.save_model('model.txt')"),
    (b"xgboost", "Save the model, in the program that made it, with model.save_model('model.json')"),
    (b"catboost", "Save the model, in the program that made it, with model.save_model('model.cbm')"),
    (b"sklearn", "Save a scikit-learn model, in the program that made it, with skops.io.dump(estimator, "
                 "'model.skops')"),
    (b"fastai", "Save its network, in the program that made it, with torch.export.save(torch.export.export("
                "learn.model.eval(), (example,)), 'model.pt2')"),
    (b"torch", "Save the model, in the program that made it, with torch.export.save(torch.export.export(model.eval(), "
               "(example,)), 'model.pt2')"),
    (b"keras", "Save the model, in the program that made it, with model.save('model.keras')"),
)  # fmt: skip
_ELSE = (
    "Save a scikit-learn model, in the program that made it, with skops.io.dump(estimator, 'model.skops'); "
    "give a function over NumPy arrays as Python code: my_model.py:predict --shape x=1x784"
)


def is_pickle(start: bytes) -> bool:
    return _START.match(start) is not None


def saving(path: Path) -> str:
    """What to do in place of giving the pickle at `path`, by the framework whose classes it names."""
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    first = min(_SAVED, key=lambda entry: _place(head, entry[0]))
    return _WHY + (f"{first[1]}, and give that file" if first[0] in head else _ELSE)


def _place(head: bytes, name: bytes) -> int:
    """Where a framework is named first: a pipeline's own class stands before those of what is in it."""
    found = head.find(name)
    return found if found >= 0 else len(head)
