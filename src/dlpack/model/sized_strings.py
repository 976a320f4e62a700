"""Strings, as rows of bytes, of which only a run knows how many there are: our operators go row by row."""

from __future__ import annotations

from onnx import NodeProto, helper

from dlpack.model.sized_work import Refused, Sizing, rule

_TWO = ("SameText", "JoinText")


@rule(
    *(f"dlpack.{op}" for op in _TWO), "dlpack.FindText", "dlpack.FitText", "dlpack.ChangeCase", "dlpack.MatchText",
    "dlpack.TextOfInteger", "dlpack.NumberOfText", "dlpack.SplitText", "dlpack.TokensOfText",
    "dlpack.HashText",
)  # fmt: skip
def row_by_row(s: Sizing, node: NodeProto) -> None:
    """Each output has the rows of the first input. Two inputs with sizes are not told apart here."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    operands = node.input[:2] if node.op_type in _TWO else node.input[:1]
    shapes = [s.shape(name)[:-1] for name in operands]
    shape = tuple(attrs["shape0"][: len(shapes[0])])
    if any(found not in ((), shape) for found in shapes):
        raise Refused("its operands differ in size")
    if sum(name in s.sizes for name in operands) > 1:
        raise Refused("two values whose size only a run knows may differ in it")
    sizes = next(s.sizes[name] for name in operands if name in s.sizes)
    s.types.update({name: (attrs[f"elem{k}"], tuple(attrs[f"shape{k}"])) for k, name in enumerate(node.output)})
    s.keep(node, {name: sizes for name in node.output})
