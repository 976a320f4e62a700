"""Folders of T5, mT5 and UMT5 → one ONNX graph of encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array
from dlpack.exporters.transformers.encoder_decoder import MOST_LAYERS, EncoderDecoder, number_of, texts_read

KINDS = ("t5", "mt5", "umt5")


class T5(EncoderDecoder):
    """The graph in the making. T5 knows texts of any length, since it sees distances alone: `known` is 0."""

    known = 0

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Array], exported: str) -> None:
        """Raises ModelError for a damaged config."""
        super().__init__(number_of(config, "d_model"), tensors, exported)
        self.size, self.inner, self.heads = (number_of(config, key) for key in ("d_kv", "d_ff", "num_heads"))
        layers = number_of(config, "num_layers")
        self.layers = {"encoder": layers, "decoder": number_of(config, "num_decoder_layers", "num_layers")}
        if max(self.layers.values()) > MOST_LAYERS:
            raise ModelError("config.json: more layers than are possible")
        self.vocabulary = number_of(config, "vocab_size")
        self.buckets = number_of({"relative_attention_num_buckets": 32, **config}, "relative_attention_num_buckets")
        usual = {"relative_attention_max_distance": 128, **config}
        self.farthest = number_of(usual, "relative_attention_max_distance")
        if self.buckets < 4 or self.farthest <= self.buckets // 2:
            raise ModelError("config.json: the buckets of relative attention make no sense")
        form = str(config.get("feed_forward_proj", "relu"))
        self.gated, self.act = form.startswith("gated-"), form.removeprefix("gated-")
        self.act = "gelu_new" if form == "gated-gelu" else self.act
        self.each = config["model_type"] == "umt5"  # has a table of distances in each layer
        tied = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
        self.factor = self.width**-0.5 if tied else 1.0
        self.epsilon = float(config.get("layer_norm_epsilon", 1e-6))

    def norm(self, x: str, layer: str) -> str:
        mean = self.add("ReduceMean", self.add("Mul", x, x), axes=[-1], keepdims=1)
        root = self.add("Sqrt", self.add("Add", mean, self.constant(np.float32(self.epsilon), "epsilon")))
        return self.add("Mul", self.add("Div", x, root), self.weight(f"{layer}.weight", self.width))

    def projected(self, x: str, layer: str, part: str) -> str:
        return self.linear(x, f"{layer}.{part}", self.width, self.heads * self.size, bias=False)

    def rows_of(self, x: str, layer: str, part: str, name: str = "") -> str:
        return self.split(self.projected(x, layer, part), self.heads, self.size, name)

    def attend(self, x: str, layer: str, keys: str, values: str, bias: str) -> str:
        inner = self.heads * self.size
        mixed = self.mixed(self.rows_of(x, layer, "q"), keys, values, inner, bias)
        return self.linear(mixed, f"{layer}.o", inner, self.width, bias=False)

    def hidden(self, x: str, layer: str) -> str:
        """The linear layers behind an attention, and what they are added to."""
        h, inner = self.norm(x, f"{layer}.layer_norm"), self.inner
        dense = f"{layer}.DenseReluDense"
        if self.gated:
            gate = self.activation(self.linear(h, f"{dense}.wi_0", self.width, inner, bias=False), self.act)
            h = self.add("Mul", gate, self.linear(h, f"{dense}.wi_1", self.width, inner, bias=False))
        else:
            h = self.activation(self.linear(h, f"{dense}.wi", self.width, inner, bias=False), self.act)
        return self.add("Add", x, self.linear(h, f"{dense}.wo", inner, self.width, bias=False))

    def distances(self, side: str, k: int, of: str, to: str) -> str:
        """What is added to the scores [1, heads, rows, keys] for the distance of tokens `of` [1, rows] to keys `to`
        [1, keys], positions in int64."""
        name = f"{side}.block.{k}.layer.0.SelfAttention.relative_attention_bias.weight"
        table = self.checked(name, self.buckets, self.heads)
        reach = np.arange(-self.farthest, self.farthest + 1)
        bias = table.astype(np.float32)[_buckets(reach, side == "encoder", self.buckets, self.farthest)]
        apart = self.add(
            "Sub", self.add("Unsqueeze", to, self.axis(1)), self.add("Unsqueeze", of, self.axis(2))
        )  # [1, rows, keys]
        limits = [self.constant(np.int64(n), f"limit_{n}") for n in (-self.farthest, self.farthest)]
        apart = self.add("Max", self.add("Min", apart, limits[1]), limits[0])
        apart = self.add("Add", apart, limits[1])
        found = self.add("Gather", self.constant(bias, f"{side}.{k}.distances"), apart, axis=0)
        return self.add("Transpose", found, perm=[0, 3, 1, 2])

    def biased(self, side: str, of: str, to: str, allowed: str) -> list[str]:
        """For each layer of a side what is added to the scores of its own tokens."""
        shared = [
            self.add("Add", self.distances(side, k, of, to), allowed)
            for k in range(self.layers[side] if self.each else 1)
        ]
        return shared if self.each else shared * self.layers[side]

    def encoded(self, heard_bias: str) -> str:
        x = self.add("Gather", self.embedding("encoder", self.vocabulary, self.width), "encoder_input_ids", axis=0)
        zero = self.constant(np.int64(0), "zero")
        at = self.add("Unsqueeze", self.numbered(zero, self.count("encoder_input_ids", 1)), self.axis(0))
        for k, bias in enumerate(self.biased("encoder", at, at, heard_bias)):
            layer = f"encoder.block.{k}.layer"
            h, own = self.norm(x, f"{layer}.0.layer_norm"), f"{layer}.0.SelfAttention"
            keys, values = (self.rows_of(h, own, part) for part in "kv")
            x = self.hidden(self.add("Add", x, self.attend(h, own, keys, values, bias)), f"{layer}.1")
        return self.norm(x, "encoder.final_layer_norm")

    def decoded(self, heard: str, heard_bias: str) -> str:
        x = self.add("Gather", self.embedding("decoder", self.vocabulary, self.width), "input_ids", axis=0)
        past, zero = self.slots()[0], self.constant(np.int64(0), "zero")
        before = self.add("Unsqueeze", self.numbered(zero, past), self.axis(0))
        keys_at = self.add("Concat", before, "position_ids", axis=1)
        for k, bias in enumerate(self.biased("decoder", "position_ids", keys_at, self.seen())):
            layer, cross = f"decoder.block.{k}.layer", [f"cross_key_values.{k}.{kind}" for kind in ("key", "value")]
            h, own = self.norm(x, f"{layer}.0.layer_norm"), f"{layer}.0.SelfAttention"
            present = self.present(k, [self.rows_of(h, own, part) for part in "kv"])
            x = self.add("Add", x, self.attend(h, own, present[0], present[1], bias))
            h, own = self.norm(x, f"{layer}.1.layer_norm"), f"{layer}.1.EncDecAttention"
            for part, name in zip("kv", cross, strict=True):
                self.rows_of(heard, own, part, name)
            x = self.add("Add", x, self.attend(h, own, cross[0], cross[1], heard_bias))
            x = self.hidden(x, f"{layer}.2")
        return self.scaled(self.norm(x, "decoder.final_layer_norm"), self.factor, "scores_scale")

    def model(self) -> ModelProto:
        heard_bias = self.allowed(self.there("encoder_attention_mask"))
        x = self.decoded(self.encoded(heard_bias), heard_bias)
        self.add("MatMul", x, self.matrix("scores", self.head(self.vocabulary), turned=True), name="logits")
        layers = self.layers["decoder"]
        return self.whole("text_to_text", texts_read(), layers, self.heads, self.size, self.vocabulary, "source")


def _buckets(distance: Array, both: bool, buckets: int, farthest: int) -> Array:
    """The bucket of each distance from a token to a key: transformers' T5Attention._relative_position_bucket."""
    first = np.zeros(distance.shape, np.int64)
    if both:
        buckets //= 2
        first += (distance > 0) * buckets
        distance = np.abs(distance)
    else:
        distance = -np.minimum(distance, 0)
    exact = buckets // 2
    with np.errstate(divide="ignore"):
        share = np.log(distance.astype(np.float32) / np.float32(exact)) / np.float32(math.log(farthest / exact))
    far = exact + np.where(distance < exact, 0, share * np.float32(buckets - exact)).astype(np.int64)
    return first + np.where(distance < exact, distance, np.minimum(far, buckets - 1))
