"""Computes a symbol with MXNet 1.9 or 2 itself, for the comparison with the exported model (`check.py`).

``python -I worker.py SYMBOL.json WEIGHTS.params INPUTS.npz RESULT.npz``, in a Python that has MXNet and not dlpack:
MXNet needs a NumPy before 1.24, MXNet 2 one before 1.20, and Python 3.8. INPUTS.npz has the input NAME of run R as
``R/NAME``; RESULT.npz gets its outputs, ``R/0``, ``R/1`` ...
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np


def main(symbol_file: str, params_file: str, inputs_file: str, result_file: str) -> None:
    warnings.simplefilter("ignore")
    import mxnet as mx  # type: ignore[import-not-found,unused-ignore]

    with open(symbol_file) as text:
        modern = "is_np_shape" in json.load(text).get("attrs", {})
    with np.load(inputs_file) as file:
        given = dict(file)
    runs: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        run, _, name = key.partition("/")
        runs.setdefault(run, {})[name] = value
    found = {}
    for run, values in runs.items():
        outputs = (_modern if modern else _classic)(mx, symbol_file, params_file, values)
        found.update({f"{run}/{k}": y.asnumpy() for k, y in enumerate(outputs)})
    np.savez(result_file, **found)


def _modern(mx: Any, symbol_file: str, params_file: str, values: dict[str, Any]) -> list[Any]:
    """Symbols of mx.np."""
    mx.util.set_np()
    block = mx.gluon.SymbolBlock.imports(symbol_file, list(values), params_file, allow_missing=True)
    outputs = block(*(mx.np.array(v) for v in values.values()))
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]  # before Python 3.10, too


def _classic(mx: Any, symbol_file: str, params_file: str, values: dict[str, Any]) -> list[Any]:
    """What the weights do not have, such as labels, are zeros."""
    symbol = mx.sym.load(symbol_file)
    weights = {key.partition(":")[2]: v for key, v in mx.nd.load(params_file).items()}
    shapes, _, states = symbol.infer_shape(**{n: v.shape for n, v in values.items()})

    def arrays(names: list[str], sizes: list[Any]) -> dict[str, Any]:
        here = {n: mx.nd.array(v) for n, v in values.items()}
        return {n: here[n] if n in here else weights.get(n, mx.nd.zeros(s)) for n, s in zip(names, sizes, strict=True)}

    arguments = arrays(symbol.list_arguments(), shapes)
    aux = arrays(symbol.list_auxiliary_states(), states)
    return list(symbol.bind(mx.cpu(), arguments, aux_states=aux, grad_req="null").forward(is_train=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
