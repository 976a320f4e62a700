"""Folders of BART, mBART, Marian, Pegasus, M2M100 (NLLB) and Blenderbot → one ONNX graph of encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array
from dlpack.exporters.transformers.encoder_decoder import MOST_LAYERS, Layers, number_of, texts_read


@dataclass(frozen=True)
class Kind:
    """How a model_type differs from the others.

    `first`: norms stand before what they are for; `last`: a norm ends encoder and decoder; `embedded`: one follows the
    embedding, in the decoder before positions are added where it is `early`. The position of a token is `offset` rows
    further in the table, which is `made` of sines: "" (learned), "marian" or "m2m".
    """

    first: bool
    last: bool
    embedded: bool
    offset: int = 0
    made: str = ""
    early: bool = False


KINDS = {
    "bart": Kind(False, False, True, 2),
    "mbart": Kind(True, True, True, 2),
    "marian": Kind(False, False, False, made="marian"),
    "pegasus": Kind(True, True, False, made="marian"),
    "m2m_100": Kind(True, True, False, 2, "m2m"),
    "blenderbot": Kind(True, True, False),
    "blenderbot-small": Kind(False, False, True, early=True),
}


class Bart(Layers):
    """The graph in the making. `known`: the most tokens that encoder and decoder take."""

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Array], exported: str) -> None:
        """Raises ModelError for a damaged config."""
        self.kind, self.config = KINDS[config["model_type"]], config
        super().__init__(
            number_of(config, "d_model"), str(config.get("activation_function", "gelu")), self.kind.first, tensors,
            exported,
        )  # fmt: skip
        self.sides = {
            side: (number_of(config, f"{side}_layers"), number_of(config, f"{side}_attention_heads"))
            for side in ("encoder", "decoder")
        }
        if any(layers > MOST_LAYERS or self.width % heads for layers, heads in self.sides.values()):
            raise ModelError("config.json: the numbers of layers and heads do not fit d_model")
        self.vocabularies = {
            "encoder": number_of(config, "vocab_size"),
            "decoder": number_of(config, "decoder_vocab_size", "vocab_size"),
        }
        self.known = number_of(config, "max_position_embeddings")
        self.pad = config.get("pad_token_id")
        self.factor = math.sqrt(self.width) if config.get("scale_embedding") else 1.0

    def embedded(self, side: str, ids: str, positions: str) -> str:
        """The tokens of a side with their positions, int64[1, rows]."""
        table = self.embedding(side, self.vocabularies[side], self.width)
        x = self.scaled(self.add("Gather", table, ids, axis=0), self.factor, "embed_scale")
        early = self.kind.early and side == "decoder"
        x = self.norm(x, f"{side}.layernorm_embedding") if early else x
        x = self.add("Add", x, self.add("Gather", self.positions(side), positions, axis=0))
        return self.norm(x, f"{side}.layernorm_embedding") if self.kind.embedded and not early else x

    def positions(self, side: str) -> str:
        """The table of positions without the rows before the first."""
        name, offset = f"{side}.embed_positions.weight", self.kind.offset
        if self.kind.made and self.tensor(name) is None:
            table = (_marian if self.kind.made == "marian" else _m2m)(self.known + offset, self.width, self.pad)
            return self.constant(table[offset:].astype(np.float32), "sines")
        return self.matrix(f"{side}.positions", self.checked(name, self.known + offset, self.width)[offset:])

    def end(self, side: str, x: str) -> str:
        return self.norm(x, f"{side}.layer_norm") if self.kind.last else x

    def model(self) -> ModelProto:
        layers, heads = self.sides["encoder"]
        zero = self.constant(np.int64(0), "zero")
        positions = self.numbered(zero, self.count("encoder_input_ids", 1))
        positions = self.add("Unsqueeze", positions, self.axis(0))
        heard_bias = self.allowed(self.there("encoder_attention_mask"))
        x = self.embedded("encoder", "encoder_input_ids", positions)
        for k in range(layers):
            x = self.encoder_layer(x, f"encoder.layers.{k}", heads, heard_bias)
        heard = self.end("encoder", x)
        layers, heads = self.sides["decoder"]
        x, bias = self.embedded("decoder", "input_ids", "position_ids"), self.seen()
        for k in range(layers):
            x = self.decoder_layer(x, k, heads, heard, bias, heard_bias)
        self.scores(self.end("decoder", x))
        size, vocabulary = self.width // heads, self.vocabularies["decoder"]
        return self.whole("text_to_text", texts_read(), layers, heads, size, vocabulary, "source")

    def scores(self, x: str) -> None:
        vocabulary, bias = self.vocabularies["decoder"], self.tensor("final_logits_bias")
        product = self.matrix("scores", self.head(vocabulary), turned=True)
        if bias is None or not bias.any():
            self.add("MatMul", x, product, name="logits")
            return
        if bias.size != vocabulary:
            raise ModelError(f"the weight final_logits_bias has the shape {list(bias.shape)}")
        x = self.add("MatMul", x, product)
        self.add("Add", x, self.matrix("final_logits_bias", bias.reshape(vocabulary)), name="logits")


def _marian(rows: int, width: int, _: object) -> Array:
    """Sines, then cosines: transformers' MarianSinusoidalPositionalEmbedding."""
    angles = np.arange(rows)[:, None] / 10000 ** (2 * (np.arange(width) // 2) / width)
    return np.concatenate([np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])], axis=1)


def _m2m(rows: int, width: int, pad: object) -> Array:
    """The same with other wavelengths, and zeros for padding: M2M100SinusoidalPositionalEmbedding."""
    half = width // 2
    rate = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10000) / (half - 1)))
    angles = np.arange(rows, dtype=np.float32)[:, None] * rate
    table = np.concatenate([np.sin(angles), np.cos(angles), np.zeros((rows, width % 2))], axis=1)
    if type(pad) is int and 0 <= pad < rows:
        table[pad] = 0
    return table
