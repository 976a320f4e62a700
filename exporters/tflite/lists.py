"""What TensorFlow's converter makes of a list that is assigned in a loop: the part before a place, the element and the
part behind it, joined. The parts' sizes depend on the place, the result's does not."""

from __future__ import annotations

from dataclasses import replace

from dlpack.exporters.tflite.files import Operator, Subgraph

_SHAPED = ("RESHAPE", "EXPAND_DIMS", "PACK", "SQUEEZE", "CAST")


def assignments(subgraph: Subgraph) -> dict[int, tuple[int, Operator]]:
    """By the number of the SLICE that is the part before: that of the part behind, and a DYNAMIC_UPDATE_SLICE in place
    of the join of the three. The place is along the first dimension."""
    operators, tensors = subgraph.operators, subgraph.tensors
    makers = {o: k for k, operator in enumerate(operators) for o in operator.outputs}
    found = {}
    for join in operators:
        if join.kind != "CONCATENATION" or len(join.inputs) != 3 or join.options["axis"] or join.options["activation"]:
            continue
        before, element, behind = join.inputs
        parts = [operators[makers[t]] for t in (before, behind) if t in makers]
        if len(parts) < 2 or any(p.kind != "SLICE" or len(p.inputs) != 3 for p in parts):
            continue
        one, two = parts
        values = tensors[join.outputs[0]].shape, tensors[one.inputs[0]].shape
        start, rest = tensors[one.inputs[1]].data, tensors[two.inputs[2]].data
        whole = start is not None and not start.any() and rest is not None and (rest == -1).all()
        follows = _is_next(subgraph, makers, _scalar(subgraph, makers, one.inputs[2]), two.inputs[1])
        same = one.inputs[0] == two.inputs[0] and values[0] == values[1] and makers[before] < makers[behind]
        if whole and follows and same:
            update = replace(join, kind="DYNAMIC_UPDATE_SLICE", inputs=(one.inputs[0], element, one.inputs[2]))
            found[makers[before]] = makers[behind], replace(update, options={})
    return found


def _scalar(subgraph: Subgraph, makers: dict[int, int], tensor: int) -> int:
    """The tensor of which `tensor` is the only element, or its first, the others being of a constant."""
    while tensor in makers:
        maker = subgraph.operators[makers[tensor]]
        others = maker.inputs[1:]
        constant = all(subgraph.tensors[i].data is not None for i in others if i >= 0)
        if maker.kind not in (*_SHAPED, "CONCATENATION") or not constant:
            break
        tensor = maker.inputs[0]
    return tensor


def _is_next(subgraph: Subgraph, makers: dict[int, int], place: int, behind: int) -> bool:
    """Whether `behind` begins one element behind `place`."""
    following = _scalar(subgraph, makers, behind)
    maker = subgraph.operators[makers[following]] if following in makers else None
    if maker is None or maker.kind != "ADD" or place not in maker.inputs:
        return False
    steps = [subgraph.tensors[i].data for i in maker.inputs if i != place]
    return len(steps) == 1 and steps[0] is not None and steps[0].size == 1 and bool((steps[0] == 1).all())
