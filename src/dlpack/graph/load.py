"""Reading an ONNX file that may be broken or hostile: every claim is checked before memory is taken for it.

Over 500 lines because everything that is refused on reading stands here, in the order in which it is looked at.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped, unused-ignore]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped, unused-ignore]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError

OLDEST_OPSET = 7
MAX_MODEL_BYTES = 2**31 - 1  # what one protobuf message can hold
MAX_RANK = 32
MAX_SUBGRAPH_DEPTH = 16
MAX_INLINED_NODES = 1_000_000

_BITS_BY_NAME = {
    "FLOAT": 32,
    "DOUBLE": 64,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    "BOOL": 8,
    **{f"{sign}INT{bits}": bits for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)},
    "COMPLEX64": 64,
    "COMPLEX128": 128,
    **{f"FLOAT8{kind}": 8 for kind in ("E4M3FN", "E4M3FNUZ", "E5M2", "E5M2FNUZ", "E8M0")},
    **{f"FLOAT6{kind}": 6 for kind in ("E2M3", "E3M2")},
    "FLOAT4E2M1": 4,
}
# ONNX element type → bits per element; those below 8 are packed. Strings have none.
TENSOR_BITS = {number: _BITS_BY_NAME[name] for name, number in TensorProto.DataType.items() if name in _BITS_BY_NAME}

_FOREIGN_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive, perhaps a PyTorch or Keras file: convert it with `dlpack export`"),
    (0, b"\x89HDF", "an HDF5 file, perhaps a Keras model: convert it with `dlpack export`"),
    (4, b"TFL3", "a TensorFlow Lite model: convert it with `dlpack export`"),
    (4, b"ORTM", "an onnxruntime (.ort) model: give the .onnx file it was made from"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model: run `git lfs pull`"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it first"),
    (0, b"<", "a text or HTML page, perhaps a failed download: download the model again"),
)


def load_model(path: Path) -> ModelProto:
    """Read and check the ONNX model at `path`, external data included.

    The result holds all weights in memory, has its nodes in topological order and opset 7 or newer.
    Raises UsageError for a file that cannot be read, ModelError for a broken one, UnsupportedError for a newer one.
    """
    path = Path(path)
    model = _parse(_read_file(path), path)
    try:
        _check_header(model, path)
        _load_tensors(model, path)
        _check_functions(model)
        _check_graph(model.graph, set(), 0)
        model = _convert_opset(model)
        _check_nodes(model)
    except DlpackError as error:
        message = str(error).replace("\n", "\n  ")
        if str(path) in message:
            raise
        if isinstance(error, UnsupportedError):
            raise UnsupportedError(f"{path}: {message}") from error
        raise type(error)(f"{path}: {message}") from error
    return model


def weight_warnings(model: ModelProto) -> list[str]:
    """A line for each weight that holds NaN or infinite values."""
    warnings = []
    for where, tensor in _tensors(model):
        if tensor.data_type not in _FLOATS or tensor.data_location == TensorProto.EXTERNAL:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype not in (np.float32, np.float64, np.float16):
            values = values.astype(np.float32)
        if np.isfinite(values).all():
            continue
        nans = int(np.isnan(values).sum())
        infinities = int(np.isinf(values).sum())
        warnings.append(f"{where} has {nans} NaN and {infinities} infinite values of {values.size}")
    return warnings


_FLOATS = frozenset(
    number
    for name, number in TensorProto.DataType.items()
    if name in ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16") or name.startswith("FLOAT8E4") or name.startswith("FLOAT8E5")
)


# --- the file ---------------------------------------------------------------------------------------------------------


def _read_file(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_MODEL_BYTES:
                raise ModelError(
                    f"{path}: the file has {size} bytes, more than the 2 GiB that an ONNX file can hold; "
                    "store the weights as external data"
                )
            return file.read(size)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: this is a folder; give the .onnx file in it") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def _parse(data: bytes, path: Path) -> ModelProto:
    if not data:
        raise ModelError(f"{path}: the file is empty; export or download the model again")
    model = ModelProto()
    try:
        model.ParseFromString(data)
        broken = model.ir_version <= 0 or not model.HasField("graph")
    except DecodeError:
        broken = True
    if not broken:
        if not _text_is_valid(model):
            raise ModelError(f"{path}: the model is damaged: a name in it is not UTF-8; export or download it again")
        return model
    for offset, magic, what in _FOREIGN_MAGIC:
        if data[offset:].startswith(magic):
            raise ModelError(f"{path}: not an ONNX model but {what}")
    raise ModelError(f"{path}: {_parse_failure(data)}")


def _text_is_valid(message: Message) -> bool:
    """Whether all text in the message is UTF-8: protobuf hands out other text as bytes."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            if any(isinstance(text, bytes) for text in (value if field.is_repeated else (value,))):
                return False
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                if isinstance(part, TensorProto):  # its data is large and no text
                    external = (text for entry in part.external_data for text in (entry.key, entry.value))
                    texts = (part.name, part.doc_string, *external)
                    if any(isinstance(text, bytes) for text in texts):
                        return False
                elif not _text_is_valid(part):
                    return False
    return True


def _parse_failure(data: bytes) -> str:
    """Why `data` is no ONNX model: another format, cut off, or damaged. Walks the outermost protobuf fields."""
    fields = ModelProto.DESCRIPTOR.fields_by_number
    lengths = {0: None, 1: 8, 2: None, 5: 4}
    pos = 0
    seen: set[int] = set()
    while pos < len(data):
        key, pos = _varint(data, pos)
        number, wire = key >> 3, key & 7
        if number not in fields or wire not in lengths:
            return "not an ONNX model; export the trained model to ONNX, for instance with `dlpack export`"
        if wire == 0:
            _, pos = _varint(data, pos)
            size = 0
        else:
            fixed = lengths[wire]
            size, pos = _varint(data, pos) if fixed is None else (fixed, pos)
        if pos + size > len(data):
            return (
                f"the file is cut off: its field '{fields[number].name}' needs {size} bytes, {max(0, len(data) - pos)} "
                "are there; export, copy or download the model again"
            )
        seen.add(number)
        pos += size
    if 7 not in seen:
        return "not an ONNX model: it holds no graph; it may be cut off, so export, copy or download it again"
    if 1 not in seen:
        return "not an ONNX model: it states no IR version"
    return "the model is damaged (its protobuf does not parse, or is nested too deeply); export or download it again"


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    value = shift = 0
    while pos < len(data) and shift < 70:
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, pos
        shift += 7
    return value, len(data) + 1


def _check_header(model: ModelProto, path: Path) -> None:
    for opset in model.opset_import:
        if opset.domain == "ai.onnx":
            opset.domain = ""
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        if versions.setdefault(opset.domain, opset.version) != opset.version:
            raise ModelError(f"the model imports two opsets of the domain '{opset.domain}'; export it again")
    newest = onnx.defs.onnx_opset_version()
    if model.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            f"the model has IR version {model.ir_version}; the installed onnx {onnx.__version__} knows up to "
            f"{onnx.IR_VERSION}: upgrade onnx, or export the model for an older one"
        )
    if "" not in versions:
        if model.ir_version < 3:
            versions[""] = 1
        elif any(node.domain in ("", "ai.onnx") for graph in _graphs(model.graph) for node in graph.node):
            raise ModelError("the model does not say which ONNX opset it uses; export it again")
        else:
            versions[""] = newest
        model.opset_import.append(onnx.helper.make_opsetid("", versions[""]))
    for domain, version in versions.items():
        if not 1 <= version < 1 << 31 and domain:
            raise UnsupportedError(f"the model uses opset {version} of the domain '{domain}', which does not exist")
    if versions[""] > newest or versions[""] < 1:
        raise UnsupportedError(
            f"the model uses ONNX opset {versions['']}; the installed onnx {onnx.__version__} knows 1 to {newest}: "
            "upgrade onnx, or export the model with an older opset"
        )


# --- walking ----------------------------------------------------------------------------------------------------------


def _graphs(graph: GraphProto, depth: int = 0) -> Iterator[GraphProto]:
    """`graph` and the graphs nested in it."""
    if depth > MAX_SUBGRAPH_DEPTH:
        raise ModelError(
            f"graphs are nested more than {MAX_SUBGRAPH_DEPTH} deep (in '{graph.name}'); the file may be damaged"
        )
    yield graph
    for node in graph.node:
        for sub in subgraphs(node):
            yield from _graphs(sub, depth + 1)


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The graphs in the node's attributes: the branches of If, the bodies of Loop and Scan."""
    found = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def _tensors(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every dense tensor of the model with words that say where it is."""
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            yield f"weight '{tensor.name}'", tensor
        yield from _attribute_tensors(graph.node)
    for function in model.functions:
        yield from _attribute_tensors(function.node)
        for node in function.node:
            for sub in subgraphs(node):
                for graph in _graphs(sub, 1):
                    for tensor in graph.initializer:
                        yield f"weight '{tensor.name}' in function '{function.name}'", tensor
                    yield from _attribute_tensors(graph.node)


def _attribute_tensors(nodes: Iterable[NodeProto]) -> Iterator[tuple[str, TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            where = f"attribute '{attribute.name}' of {describe(node)}"
            if attribute.HasField("t"):
                yield where, attribute.t
            for tensor in attribute.tensors:
                yield where, tensor
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                if sparse.HasField("values"):
                    yield where, sparse.values
                    yield where, sparse.indices


def describe(node: NodeProto) -> str:
    """The node in words: its name, or what it computes where it has none."""
    if node.name:
        return f"node '{node.name}' ({node.op_type})"
    return f"the {node.op_type} that computes '{next(iter(node.output), '')}'"


# --- tensors ----------------------------------------------------------------------------------------------------------


def tensor_size(tensor: TensorProto) -> int:
    """Number of elements that the tensor's dims claim."""
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes that the tensor's dims and type claim; 0 for strings and unknown types."""
    return (tensor_size(tensor) * TENSOR_BITS.get(tensor.data_type, 0) + 7) // 8


def _load_tensors(model: ModelProto, path: Path) -> None:
    """Check every tensor's claim against the bytes that are there, and read external data."""
    total = 0
    for graph in _graphs(model.graph):
        if graph.sparse_initializer:
            names = tuple(sparse.values.name for sparse in graph.sparse_initializer)
            raise UnsupportedError("sparse weights are not supported; store them densely", names)
    for where, tensor in _tensors(model):
        if len(tensor.dims) > MAX_RANK:
            raise UnsupportedError(f"{where} has {len(tensor.dims)} dimensions; {MAX_RANK} are supported")
        if any(dim < 0 for dim in tensor.dims):
            raise ModelError(f"{where} has a negative dimension: {list(tensor.dims)}; export the model again")
        if tensor.data_type != TensorProto.STRING and tensor.data_type not in TENSOR_BITS:
            raise ModelError(f"{where} has the unknown element type {tensor.data_type}")
        if tensor.HasField("segment"):
            raise UnsupportedError(f"{where} is stored in segments; save the model again with onnx.save")
        claim = tensor_bytes(tensor)
        external = tensor.data_location == TensorProto.EXTERNAL
        if external:
            total += claim
            if total > MAX_MODEL_BYTES:
                raise UnsupportedError("the model has more than 2 GiB of weights, which is not supported")
            _read_external(tensor, where, path)
        elif not _fields_match(tensor, claim):
            raise ModelError(
                f"{where} claims the shape {list(tensor.dims)} of "
                f"{TensorProto.DataType.Name(tensor.data_type).lower()} ({claim} bytes), but the file does not hold "
                "that much data for it; the file is damaged: export or download it again"
            )


def _fields_match(tensor: TensorProto, claim: int) -> bool:
    if tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING:
        return len(tensor.raw_data) == claim
    size, kind = tensor_size(tensor), tensor.data_type
    if kind == TensorProto.STRING:
        return len(tensor.string_data) == size
    if kind in (TensorProto.FLOAT, TensorProto.COMPLEX64):
        return len(tensor.float_data) * 4 == claim
    if kind in (TensorProto.DOUBLE, TensorProto.COMPLEX128):
        return len(tensor.double_data) * 8 == claim
    if kind == TensorProto.INT64:
        return len(tensor.int64_data) == size
    if kind in (TensorProto.UINT32, TensorProto.UINT64):
        return len(tensor.uint64_data) == size
    return len(tensor.int32_data) == (claim if TENSOR_BITS[kind] < 8 else size)


def _read_external(tensor: TensorProto, where: str, path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    claim = tensor_bytes(tensor)
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(claim)))
    except ValueError:
        raise ModelError(f"{where}: offset and length of its external data are not numbers") from None
    if offset < 0 or length != claim:
        raise ModelError(
            f"{where} claims the shape {list(tensor.dims)} ({claim} bytes), but its external data is {length} bytes at "
            f"offset {offset}; the model is damaged"
        )
    file = _inside(path.parent, location, where)
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise ModelError(
            f"{where}: the external data file '{location}' is missing; put it into {path.parent.absolute()}"
        ) from None
    except OSError as error:
        raise ModelError(f"{where}: the external data file '{location}' cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as data:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{where}: the external data '{location}' is not a regular file")
        if offset + length > status.st_size:
            raise ModelError(
                f"{where} needs {length} bytes at offset {offset} of '{location}', which has {status.st_size}; "
                "the file is cut off: copy or download it again"
            )
        data.seek(offset)
        tensor.raw_data = data.read(length)
    if len(tensor.raw_data) != length:
        raise ModelError(f"{where}: the external data file '{location}' changed while it was read")
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def _inside(folder: Path, location: str, where: str) -> str:
    """The real path of `location`, which must lie in `folder`: no absolute path, no "..", no link that leaves it."""
    refusal = f"{where}: its external data '{location}' lies outside the model's folder, which is refused"
    if not location or "\0" in location:
        raise ModelError(f"{where}: it names no external data file")
    parts = location.replace("\\", "/").split("/")
    if parts[0] == "" or ":" in parts[0] or ".." in parts:
        raise ModelError(f"{refusal}; move the file beside the model and save the model again")
    root = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(root, location))
    if os.path.commonpath((root, real)) != root:
        raise ModelError(f"{refusal} (it is a symbolic link); copy the file into the model's folder")
    return real


# --- the graph --------------------------------------------------------------------------------------------------------


def _check_graph(graph: GraphProto, outer: set[str], depth: int) -> None:
    """Check that each value is produced exactly once and that nothing waits for itself; sort the nodes."""
    if depth > MAX_SUBGRAPH_DEPTH:
        raise ModelError(f"graphs are nested more than {MAX_SUBGRAPH_DEPTH} deep (in '{graph.name}')")
    inputs: set[str] = set()
    for value in graph.input:
        if not value.name:
            raise ModelError(f"an input of the graph '{graph.name}' has no name")
        if not depth:
            _check_input_type(value)
        if value.name in inputs:
            raise ModelError(f"two inputs of the graph are named '{value.name}'; rename one")
        inputs.add(value.name)
    known = set(inputs)
    constants: set[str] = set()
    for tensor in graph.initializer:
        if tensor.name in constants:
            raise ModelError(f"two weights are named '{tensor.name}'; rename one")
        constants.add(tensor.name)
    known |= constants
    producers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        if not node.op_type:
            raise ModelError(f"{describe(node)} names no operator")
        if node.domain == "ai.onnx":
            node.domain = ""
        for name in filter(None, node.output):
            if name in producers:
                raise ModelError(
                    f"the value '{name}' is computed twice: by {describe(graph.node[producers[name]])} and "
                    f"by {describe(node)}; each value needs its own name"
                )
            if name in known:
                kind = "an input" if name in inputs else "a weight"
                raise ModelError(f"{describe(node)} computes '{name}', which is {kind} already; rename one")
            producers[name] = index
    known |= outer
    needs = [sorted(_reads(node)) for node in graph.node]
    for node, names in zip(graph.node, needs, strict=True):
        for name in names:
            if name not in known and name not in producers:
                raise ModelError(
                    f"{describe(node)} reads '{name}', which no node, input or weight gives; export the model again"
                )
    _sort(graph, [[producers[name] for name in names if name in producers] for names in needs])
    if not graph.output:
        raise ModelError(f"the graph '{graph.name}' has no outputs, so that nothing is to be computed")
    outputs: set[str] = set()
    for value in graph.output:
        if value.name in outputs:
            raise ModelError(f"two outputs of the graph are named '{value.name}'")
        outputs.add(value.name)
        if value.name not in known and value.name not in producers:
            raise ModelError(f"the output '{value.name}' is computed by no node; export the model again")
    visible = known | set(producers)
    for node in graph.node:
        for sub in subgraphs(node):
            _check_graph(sub, visible, depth + 1)


def _check_input_type(value: ValueInfoProto) -> None:
    kind = value.type.WhichOneof("value")
    elem = value.type.tensor_type.elem_type
    if kind is None or (kind == "tensor_type" and not elem):
        raise ModelError(f"the input '{value.name}' has no type; export the model again")
    if kind == "tensor_type" and elem not in TensorProto.DataType.values():
        raise ModelError(f"the input '{value.name}' has the unknown element type {elem}")


def _reads(node: NodeProto) -> set[str]:
    """The values that a node reads, those that its subgraphs take from outside included."""
    names = {name for name in node.input if name}
    for sub in subgraphs(node):
        names |= free_names(sub)
    return names


def free_names(graph: GraphProto) -> set[str]:
    """The values that a subgraph takes from the graphs around it."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    read = {value.name for value in graph.output}
    for node in graph.node:
        own |= set(node.output)
        read |= _reads(node)
    return read - own


def _sort(graph: GraphProto, needs: list[list[int]]) -> None:
    """Bring the nodes into topological order; a graph in order stays as it is. `needs`: node → producers' indices."""
    if all(need < index for index, indices in enumerate(needs) for need in indices):
        return
    order: list[int] = []
    waiting = [len(set(indices)) for indices in needs]
    readers: list[list[int]] = [[] for _ in needs]
    for index, indices in enumerate(needs):
        for need in set(indices):
            readers[need].append(index)
    ready = [index for index, count in enumerate(waiting) if not count][::-1]
    while ready:
        index = ready.pop()
        order.append(index)
        for reader in sorted(readers[index], reverse=True):
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(order) < len(needs):
        stuck = [index for index, count in enumerate(waiting) if count]
        cycle = _cycle(stuck[0], needs, set(stuck))
        names = " -> ".join(describe(graph.node[index]) for index in cycle[:6])
        raise ModelError(f"the nodes wait for each other in a cycle: {names}{' -> ...' if len(cycle) > 6 else ''}")
    nodes = [graph.node[index] for index in order]
    copies = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def _cycle(start: int, needs: list[list[int]], stuck: set[int]) -> list[int]:
    path: list[int] = []
    place: dict[int, int] = {}
    index = start
    while index not in place:
        place[index] = len(path)
        path.append(index)
        index = next(need for need in needs[index] if need in stuck)
    return [*path[place[index] :], index][::-1]


def _check_functions(model: ModelProto) -> None:
    """Refuse functions that call themselves or that blow up when inlined."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    if len(functions) < len(model.functions):
        raise ModelError("two functions of the model have the same domain and name; rename one")
    sizes: dict[tuple[str, str, str], int] = {}

    def size(nodes: Iterable[NodeProto], active: tuple[tuple[str, str, str], ...], depth: int) -> int:
        if depth > MAX_SUBGRAPH_DEPTH * 4:
            raise ModelError("functions and graphs are nested too deeply; the file may be damaged")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            total += 1
            for sub in subgraphs(node):
                total += size(sub.node, active, depth + 1)
            if key not in functions:
                continue
            if key in active:
                raise ModelError(f"the function '{node.op_type}' calls itself, which ONNX does not allow")
            if key not in sizes:
                sizes[key] = size(functions[key].node, (*active, key), depth + 1)
            total += sizes[key]
        return total

    if functions and size(model.graph.node, (), 0) > MAX_INLINED_NODES:
        raise ModelError(f"the model has more than {MAX_INLINED_NODES} nodes once its functions are inlined")


def _convert_opset(model: ModelProto) -> ModelProto:
    version = opset_versions(model)[""]
    if version >= OLDEST_OPSET:
        return model
    try:
        converted = onnx.version_converter.convert_version(model, OLDEST_OPSET)
        _check_graph(converted.graph, set(), 0)
        return converted
    except Exception as error:  # the converter raises many kinds
        raise UnsupportedError(
            f"the model uses ONNX opset {version}, and converting it to {OLDEST_OPSET} failed "
            f"({first_line(error)}); export it again with opset {OLDEST_OPSET} or newer"
        ) from None


def opset_versions(model: ModelProto) -> dict[str, int]:
    """Domain → opset version; "" is ONNX's own domain."""
    return {opset.domain: opset.version for opset in model.opset_import}


def _check_nodes(model: ModelProto) -> None:
    """Check each node of a known operator against its schema: attributes there and of the right type, input counts."""
    versions = opset_versions(model)
    context = onnx.checker.DEFAULT_CONTEXT.__class__()
    context.ir_version = model.ir_version
    context.opset_imports = versions
    functions = {(function.domain, function.name) for function in model.functions}
    problems = []
    for graph in _graphs(model.graph):
        for node in graph.node:
            if (node.domain, node.op_type) in functions or node.domain not in versions:
                continue
            if not onnx.defs.has(node.op_type, node.domain):
                continue
            try:
                schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
            except onnx.defs.SchemaError:
                problems.append(f"{describe(node)} is not in opset {versions[node.domain]}")
                continue
            if schema.deprecated:
                problems.append(f"{describe(node)} was removed before opset {versions[node.domain]}")
                continue
            try:
                onnx.checker.check_node(_without_bodies(node), context)
            except Exception as error:  # ValidationError, and what C++ throws
                problems.append(f"{describe(node)}: {first_line(error)}")
                continue
            problems.extend(f"{describe(node)}: {problem}" for problem in _unchecked(node, schema))
    if problems:
        raise ModelError("\n- ".join(["the model breaks the ONNX specification; export it again:", *problems]))


def _unchecked(node: NodeProto, schema: onnx.defs.OpSchema) -> Iterator[str]:
    """What onnx's checker lets pass, though onnx or onnxruntime crash on it."""
    for index, name in enumerate(node.input):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if not name and formal.option != onnx.defs.OpSchema.FormalParameterOption.Optional:
            yield f"its input {index} ('{formal.name}') is absent"
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            yield f"its attribute '{attribute.name}' refers to one of a function, and it is in none"
        if node.op_type == "Split" and attribute.name == "num_outputs" and attribute.i != len(node.output):
            yield f"its attribute num_outputs is {attribute.i}, and it has {len(node.output)} outputs"


def _without_bodies(node: NodeProto) -> NodeProto:
    """The node with empty subgraphs: the checker does not know the values around them."""
    if not subgraphs(node):
        return node
    hollow = NodeProto()
    hollow.CopyFrom(node)
    for sub in subgraphs(hollow):
        sub.CopyFrom(GraphProto(name="body"))
    return hollow


def first_line(error: BaseException) -> str:
    """The first line of a library's error text, without its code and its C++ place."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", lines[0])
    text = re.sub(r"/onnxruntime_src/\S+:\d+ .*\) (?=[A-Z])", "", text)
    return text[:300]
