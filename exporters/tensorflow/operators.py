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


def bucketize(ctx: Any, node: Any, name: str, _args: Any) -> None:
    """How many of the boundaries are not above x."""
    (x,), (y,) = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    boundaries = np.array(node.get_attr_value("boundaries"), np.float32)
    ctx.remove_node(name)
    last = ctx.make_const(f"{name}_last", np.array([-1], np.int64)).output[0]
    bounds = ctx.make_const(f"{name}_boundaries", boundaries).output[0]
    real = ctx.make_node("Cast", [x], name=f"{name}_real", attr={"to": 1}).output[0]
    column = ctx.make_node("Unsqueeze", [real, last], name=f"{name}_column").output[0]
    reached = ctx.make_node("GreaterOrEqual", [column, bounds], name=f"{name}_reached").output[0]
    counted = ctx.make_node("Cast", [reached], name=f"{name}_counted", attr={"to": 6}).output[0]
    ctx.make_node("ReduceSum", [counted, last], outputs=[y], name=name, attr={"keepdims": 0}, shapes=shapes,
                  dtypes=dtypes)  # fmt: skip


HANDLERS: dict[str, Any] = {"Erfc": (erfc, []), "Bucketize": (bucketize, [])}
