"""Converters of TensorFlow's operators that tf2onnx does not have."""

from __future__ import annotations

from typing import Any

import numpy as np


def erfc(ctx: Any, node: Any, name: str, _args: Any) -> None:
    """1 - erf(x), as TensorFlow's gelu has it."""
    (x,), (y,) = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(name)
    erf = ctx.make_node("Erf", [x], name=f"{name}_erf", shapes=shapes, dtypes=dtypes).output[0]
    one = ctx.make_const(f"{name}_one", np.array(1, np.float32))
    ctx.make_node("Sub", [one.output[0], erf], outputs=[y], name=name, shapes=shapes, dtypes=dtypes)


HANDLERS: dict[str, Any] = {"Erfc": (erfc, [])}
