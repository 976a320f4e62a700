"""SavedModels and frozen graphs, read as data: no function of the file runs, variables come from the checkpoint.

`tf.saved_model.load` would run the file's initialisers. Here the signature's part of the graph is cut out, its
variables are filled from the checkpoint's reader and turned into constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.tensorflow.calls import inline_calls
from dlpack.exporters.tensorflow.frozen import Frozen, OpenShapes, check_operators, check_shapes, fixed_shape

_VARIABLES = ("VarHandleOp", "Variable", "VariableV2")


def read_saved_model(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Frozen:
    """The signature `serving_default`, or the only one."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    _parse(saved, (folder / "saved_model.pb").read_bytes(), "saved_model.pb")
    metas = [m for m in saved.meta_graphs if "serve" in m.meta_info_def.tags] or list(saved.meta_graphs[:1])
    if not metas:
        raise ModelError("saved_model.pb holds no graph; save the model again")
    meta = metas[0]
    signatures = {k: v for k, v in meta.signature_def.items() if v.inputs and v.outputs}
    key = "serving_default" if "serving_default" in signatures else next(iter(sorted(signatures)), None)
    if key is None or (key != "serving_default" and len(signatures) > 1):
        names = ", ".join(sorted(signatures)) or "none"
        raise UsageError(
            f"it has no signature 'serving_default' to convert (its signatures: {names}); save it with "
            "tf.saved_model.save(model, folder, signatures={'serving_default': function})"
        )
    signature = signatures[key]
    inputs = tuple((v.name, k) for k, v in sorted(signature.inputs.items()))
    outputs = tuple((v.name, k) for k, v in sorted(signature.outputs.items()))
    strange = [k for k, v in (*signature.inputs.items(), *signature.outputs.items()) if not v.name]
    if strange:
        raise UnsupportedError(f"the signature's '{strange[0]}' is not a dense tensor")
    graph = _cut(meta.graph_def, [t for t, _ in outputs])
    said = _fix_inputs(graph, inputs, shapes)
    graph, outputs = inline_calls(_fill(graph, meta, folder, [t for t, _ in outputs]), outputs)
    return Frozen(graph, inputs, outputs, warnings=said)


def read_graph(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Frozen:
    """A frozen GraphDef: its placeholders are the inputs; unused results are the outputs."""
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    _parse(graph, path.read_bytes(), path.name)
    variables = [n.name for n in graph.node if n.op in _VARIABLES]
    if variables:
        raise UsageError(
            f"the graph is not frozen: '{variables[0]}' is a variable, whose value is not in this file; save a "
            "SavedModel (tf.saved_model.save) in its place"
        )
    used = {_node(i) for n in graph.node for i in n.input}
    outputs = tuple(
        (f"{n.name}:0", n.name)
        for n in graph.node
        if n.name not in used and n.input and n.op not in ("NoOp", "Assert", "Print", "PrintV2")
    )
    if not outputs:
        raise ModelError("the graph has no output: every node is used by another one, or it has no nodes")
    graph = _cut(graph, [t for t, _ in outputs])
    inputs = tuple((f"{n.name}:0", n.name) for n in graph.node if n.op == "Placeholder")
    if not inputs:
        raise ModelError("the graph has no inputs (nodes 'Placeholder')")
    said = _fix_inputs(graph, inputs, shapes)
    return Frozen(graph, inputs, outputs, warnings=said)


def _parse(message: Any, data: bytes, name: str) -> None:
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(data)
    except DecodeError:
        raise ModelError(f"{name} is damaged or cut off; copy or save it again") from None


def _node(tensor: str) -> str:
    """The node of a tensor `node:0` or a control input `^node`."""
    return tensor.lstrip("^").split(":")[0]


def _cut(graph: Any, outputs: list[str]) -> Any:
    """The part of the graph, and of its functions, that the outputs need. Raises UnsupportedError for refused nodes."""
    nodes = {n.name: n for n in graph.node}
    functions = {f.signature.name: f for f in graph.library.function}
    needed, stack = set(), [_node(t) for t in outputs]
    while stack:
        name = stack.pop()
        if name in needed:
            continue
        if name not in nodes:
            raise ModelError(f"the graph has no node '{name}', which is referred to; the file is damaged")
        needed.add(name)
        stack += [_node(i) for i in nodes[name].input]
    result = type(graph)(versions=graph.versions)
    result.node.extend(n for n in graph.node if n.name in needed)
    wanted, called = set(), [n for n in result.node]
    while called:
        for name in _callees(called.pop()):
            if name in functions and name not in wanted:
                wanted.add(name)
                called += functions[name].node_def
    result.library.function.extend(functions[n] for n in sorted(wanted))
    check_operators(result)
    for node in [*result.node, *(n for f in result.library.function for n in f.node_def)]:
        for key in ("_output_shapes", "_class"):
            node.attr.pop(key, None)
    return result


def _callees(node: Any) -> list[str]:
    names = [node.op]
    for value in node.attr.values():
        names += [value.func.name] if value.HasField("func") else [f.name for f in value.list.func]
    return names


def _fix_inputs(
    graph: Any, inputs: tuple[tuple[str, str], ...], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, ...]:
    """Gives each placeholder its static shape; returns warnings."""
    nodes = {n.name: n for n in graph.node}
    found = OpenShapes()
    for tensor, name in inputs:
        node = nodes.get(_node(tensor))
        if node is None:
            continue  # an input that no output needs
        known = "shape" in node.attr  # reading an attribute that is not there makes one
        stated = node.attr["shape"].shape
        dims = None if not known or stated.unknown_rank else [d.size for d in stated.dim]
        fixed = fixed_shape(name, dims, shapes, found)
        del stated.dim[:]
        stated.unknown_rank = False
        for size in fixed:
            stated.dim.add().size = size
    check_shapes([n for t, n in inputs if _node(t) in nodes], shapes, found)
    return found.said()


# --- variables --------------------------------------------------------------------------------------------------------


def _fill(graph: Any, meta: Any, folder: Path, outputs: list[str]) -> Any:
    """The graph with its variables as constants."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    variables = [n for n in graph.node if n.op in _VARIABLES]
    inside = [n.name for f in graph.library.function for n in f.node_def if n.op in _VARIABLES]
    if inside:
        raise UnsupportedError(f"the variable '{inside[0]}' is made inside a function")
    if not variables:
        return graph
    names = {n.name for n in graph.node}
    for node in variables:  # the session's freezing fetches the values by these names
        read = f"{node.name}/Read/ReadVariableOp"
        if node.op == "VarHandleOp" and read not in names:
            made_node = graph.node.add(name=read, op="ReadVariableOp", input=[node.name])
            made_node.attr["dtype"].CopyFrom(node.attr["dtype"])
    keys = _checkpoint_keys(graph, meta, folder)
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    known = reader.get_variable_to_shape_map()
    with tf.Graph().as_default() as made, tf.compat.v1.Session(graph=made) as session:
        tf.import_graph_def(graph, name="")
        assigns, values = [], {}
        for node in variables:
            key = keys.get(node.name) or node.attr["shared_name"].s.decode("utf-8", "replace") or node.name
            if key not in known:
                raise ModelError(f"the weights hold no value for the variable '{node.name}'; save the model again")
            shape = [d.size for d in node.attr["shape"].shape.dim]
            if not node.attr["shape"].shape.unknown_rank and list(known[key]) != shape and -1 not in shape:
                raise ModelError(f"the variable '{node.name}' is {shape}, its value in the weights {known[key]}")
            handle = made.get_tensor_by_name(f"{node.name}:0")
            value = tf.compat.v1.placeholder(node.attr["dtype"].type, known[key])
            if node.op == "VarHandleOp":
                assign = tf.raw_ops.AssignVariableOp(resource=handle, value=value)
            else:
                assign = tf.compat.v1.assign(handle, value).op
            assigns.append(assign)
            values[value] = reader.get_tensor(key)
        session.run(assigns, values)
        return convert_to_constants.convert_variables_to_constants_from_session_graph(
            session, graph, [_node(t) for t in outputs]
        )


def _checkpoint_keys(graph: Any, meta: Any, folder: Path) -> dict[str, str]:
    """Variable's node → its key in the checkpoint, for TensorFlow 2, whose variables may share names.

    A function's captured objects are given by place in the object graph, whose edges the checkpoint's own object graph
    repeats under its keys. TensorFlow 1 has no object graph: there the key is the variable's name.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    objects = meta.object_graph_def
    if not objects.nodes:
        return {}
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    if not reader.has_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"):
        return {}
    stored = trackable_object_graph_pb2.TrackableObjectGraph()
    _parse(stored, reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"), "the checkpoint's object graph")
    same, stack = {0: 0}, [0]
    while stack:
        k = stack.pop()
        if k >= len(objects.nodes) or same[k] >= len(stored.nodes):
            raise ModelError("saved_model.pb names an object that it does not hold; the file is damaged")
        edges = {c.local_name: c.node_id for c in stored.nodes[same[k]].children}
        for child in objects.nodes[k].children:
            if child.local_name in edges and child.node_id not in same:
                same[child.node_id] = edges[child.local_name]
                stack.append(child.node_id)
    nodes = {n.name: n for n in graph.node}
    keys: dict[str, str] = {}
    for call in graph.node:
        bound = [list(objects.concrete_functions[name].bound_inputs) for name in _callees(call)
                 if name in objects.concrete_functions]  # fmt: skip
        if not bound or not bound[0]:
            continue
        captured = [_node(i) for i in call.input if not i.startswith("^")][-len(bound[0]) :]
        for name, k in zip(captured, bound[0], strict=False):
            if name in nodes and nodes[name].op in _VARIABLES and k in same:
                for attribute in stored.nodes[same[k]].attributes:
                    if attribute.name == "VARIABLE_VALUE":
                        keys[name] = attribute.checkpoint_key
    return keys
