"""optimum's exports of an encoder and a decoder in files of their own → the tensors of their checkpoint.

Exporters call linear layers' weights by numbers, but name a node after the module that it is of, such as
`/model/decoder/layers.0/self_attn/q_proj/MatMul`. So the tensors get their names from the nodes that read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array
from dlpack.exporters.compare import difference
from dlpack.model.load import load_model

ENCODER = "encoder_model.onnx"
DECODERS = ("decoder_model.onnx", "decoder_model_merged.onnx")
"""The decoder alone, or both of its graphs as branches of an If. The one with a past cannot read the encoder."""

_MERGED = re.compile(r"_merged_\d+$")
_NORM = "norm"
_BIAS = "final_logits_bias"


def exported_files(folder: Path) -> tuple[Path, Path] | None:
    """Encoder and decoder in the folder, or in `onnx` in it; None where there are none."""
    for place in (folder, folder / "onnx"):
        decoder = next((place / name for name in DECODERS if (place / name).is_file()), None)
        if decoder and (place / ENCODER).is_file():
            return place / ENCODER, decoder
    return None


def read_exported(encoder: Path, decoder: Path) -> tuple[dict[str, Array], tuple[ModelProto, ModelProto]]:
    """The tensors that the two files have, under the names of the checkpoint, and the two models."""
    models = load_model(encoder), load_model(decoder)
    found: dict[str, Array] = {}
    for model, side in zip(models, ("encoder", "decoder"), strict=True):
        found |= _tensors(model, side)
    return found, models


def check_exported(model: ModelProto, files: tuple[ModelProto, ModelProto]) -> None:
    """Raises ModelError where `model`, made of their tensors, gives other scores than the two models."""
    from dlpack.verify.runners import run_onnxruntime

    rng, tokens = np.random.default_rng(0), np.array([[1, 2, 0]])
    encoder, decoder = files
    dims = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    past = {n: np.zeros([*d[:2], 0, d[3]], np.float32) for n, d in dims.items() if n.startswith("past_key_values.")}
    own = {"input_ids": tokens, "attention_mask": np.ones((1, 3), np.int64), "position_ids": np.arange(3)[None]}
    if "input_features" in dims:
        read = own_read = {"input_features": rng.standard_normal(dims["input_features"], np.float32)}
    else:
        read = {"input_ids": np.array([[2, 1, 3, 1, 0]]), "attention_mask": np.array([[1, 1, 1, 1, 0]])}
        own_read = {f"encoder_{name}": value for name, value in read.items()}
    found = run_onnxruntime(model, {**own_read, **own, **past})[0]
    heard = run_onnxruntime(encoder, {name: x.astype(_type(encoder, name)) for name, x in read.items()})[0]
    given: dict[str, Any] = {"input_ids": tokens, "encoder_hidden_states": heard, "use_cache_branch": np.array([False])}
    given |= {"encoder_attention_mask": own_read["encoder_attention_mask"]} if len(read) > 1 else {}
    for value in decoder.graph.input:
        shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        given.setdefault(value.name, np.zeros(shape, _type(decoder, value.name)))
    named = {v.name: v for v in decoder.graph.input}
    wanted = run_onnxruntime(decoder, {n: x for n, x in given.items() if n in named})[0]
    if told := difference(found, wanted, 1e-3 if wanted.dtype == np.float32 else 3e-2):
        raise ModelError(
            f"the scores of {ENCODER} and its decoder differ from those of a model of their weights {told}"
        )


def _type(model: ModelProto, name: str) -> Any:
    kinds = {TensorProto.FLOAT16: np.float16, TensorProto.INT64: np.int64, TensorProto.BOOL: np.bool_}
    found = next((v.type.tensor_type.elem_type for v in model.graph.input if v.name == name), TensorProto.FLOAT)
    return kinds.get(found, np.float32)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _tensors(model: ModelProto, side: str) -> dict[str, Array]:
    """The constants of a model whose name, or whose reader's name, says of which module they are."""
    graphs = list(_graphs(model.graph))
    constants: dict[str, TensorProto] = {}
    for graph in graphs:
        constants |= {t.name: t for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Identity" and node.input[0] in constants:  # one of several that are equal
                constants[node.output[0]] = constants[node.input[0]]
            elif node.op_type == "Constant":
                constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    found = {_full(_MERGED.sub("", name), side): t for name, t in constants.items() if _says(name)}
    turned = set[str]()
    for graph in graphs:
        for node in graph.node:
            for name, constant, turn in _read(node, constants):
                if (full := _full(name, side)) not in found:
                    found[full] = constant
                    turned |= {full} if turn else set()
    arrays = {name: numpy_helper.to_array(t) for name, t in found.items() if t.data_type in _FLOATS}
    return {name: x.T if name in turned else x for name, x in arrays.items()}


def _says(name: str) -> bool:
    """Whether a constant's name says of which module it is."""
    return ("." in name or _MERGED.sub("", name) == _BIAS) and ":" not in name


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def _read(node: NodeProto, constants: dict[str, TensorProto]) -> Iterator[tuple[str, TensorProto, bool]]:
    """Name, value and whether it is turned of the weights that a node reads; the module's name is in the node's."""
    module = ".".join(node.name.strip("/").split("/")[:-1])
    held = [constants[name] for name in node.input if name in constants and constants[name].dims]
    held = [t for t in held if _MERGED.sub("", t.name) != _BIAS]
    if node.op_type in ("MatMul", "Gemm") and held and len(held[0].dims) == 2:
        turn = not any(a.name == "transB" and a.i for a in node.attribute)
        yield f"{module}.weight", held[0], turn
        yield from ((f"{module}.bias", bias, False) for bias in held[1:])
    elif node.op_type in ("Conv", "LayerNormalization"):
        yield from ((f"{module}.{kind}", t, False) for kind, t in zip(("weight", "bias"), held, strict=False))
    elif node.op_type in ("Add", "Mul") and held:
        vector, kind = len(held[0].dims) == 1, "bias" if node.op_type == "Add" else "weight"
        if vector and (kind == "bias" or _NORM in module):
            yield f"{module}.{kind}", held[0], False
        elif not vector and node.op_type == "Add":
            yield "embed_positions.weight", held[0], False
    elif module.endswith(("embed_tokens", "embed_positions")) and held and len(held[0].dims) == 2:
        yield f"{module}.weight", held[0], False


def _full(name: str, side: str) -> str:
    """The checkpoint's name of a tensor; an encoder that is exported alone leaves out where it stands."""
    name = name.removeprefix("model.")
    if name.startswith(("proj_out.", "lm_head.", "shared.")) or name == _BIAS:
        return name
    return f"model.{side}.{name.removeprefix(f'{side}.')}"
