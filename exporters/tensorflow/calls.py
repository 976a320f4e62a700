"""Calls of functions in a graph, replaced by the functions' nodes: SavedModels of Keras hold calls within calls."""

from __future__ import annotations

from typing import Any

from dlpack.errors import ModelError

MAX_CALLS = 10_000
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def inline_calls(graph: Any, outputs: tuple[tuple[str, str], ...]) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """The GraphDef without calls, and the outputs (tensor's name, name for the user) with their tensors' new names.

    Control inputs are dropped: accepted operators have no side effects. Raises ModelError for a function
    that is not there, or that calls itself.
    """
    import tensorflow as tf

    functions = {f.signature.name: f for f in graph.library.function}
    with tf.Graph().as_default():  # where TensorFlow looks for the functions that functions call
        tf.import_graph_def(type(graph)(versions=graph.versions, library=graph.library), name="")
        return _inlined(graph, outputs, functions)


def _inlined(
    graph: Any, outputs: tuple[tuple[str, str], ...], functions: dict[str, Any]
) -> tuple[Any, tuple[tuple[str, str], ...]]:
    count = 0
    while any(_callee(n, functions) is not None for n in graph.node):
        made = type(graph)(versions=graph.versions, library=graph.library)
        moved: dict[str, str] = {}
        for node in graph.node:
            function = _callee(node, functions)
            if function is None:
                made.node.add().CopyFrom(node)
                continue
            count += 1
            if count > MAX_CALLS:
                raise ModelError(f"its functions call one another more than {MAX_CALLS:,} times")
            moved |= _body(node, function, made)
        for node in made.node:
            data = [_followed(i, moved) for i in node.input if not i.startswith("^")]
            del node.input[:]
            node.input.extend(data)
        outputs = tuple((_followed(tensor, moved), name) for tensor, name in outputs)
        graph = made
    return graph, outputs


def _callee(node: Any, functions: dict[str, Any]) -> Any:
    if node.op in _CALLS:
        name = node.attr["f"].func.name
        if name not in functions:
            raise ModelError(f"node '{node.name}' calls the function '{name}', which the file does not hold")
        return functions[name]
    return functions.get(node.op)


def _body(call: Any, function: Any, made: Any) -> dict[str, str]:
    """Adds the function's nodes to `made`, for this call; returns where the call's outputs are now."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    body, flat = function_def_to_graph_def(function)
    given = [i for i in call.input if not i.startswith("^")]
    formals = [a.name for a in function.signature.input_arg]
    if len(given) != len(formals):
        raise ModelError(f"node '{call.name}' gives its function {len(given)} values; it takes {len(formals)}")
    arguments = dict(zip(formals, given, strict=True))

    def renamed(tensor: str) -> str:
        name, mark, index = tensor.partition(":")
        return arguments.get(name) or f"{call.name}/{name}{mark}{index}"

    for node in body.node:
        if node.name in arguments:
            continue
        inner = made.node.add()
        inner.CopyFrom(node)
        inner.name = f"{call.name}/{node.name}"
        del inner.input[:]
        inner.input.extend(renamed(i) for i in node.input if not i.startswith("^"))
    results = [function.ret[a.name] for a in function.signature.output_arg]
    return {f"{call.name}:{k}": renamed(flat.get(r, r)) for k, r in enumerate(results)}


def _followed(tensor: str, moved: dict[str, str]) -> str:
    """Where a tensor is once calls are inlined; outputs of further calls are followed."""
    key = tensor if ":" in tensor else f"{tensor}:0"
    steps = 0
    while key in moved and steps <= MAX_CALLS:
        tensor, steps = moved[key], steps + 1
        key = tensor if ":" in tensor else f"{tensor}:0"
    return tensor
