"""Tiny models that read a text and write another, with random weights, and what they write, computed with NumPy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hub_folders import write_folder

Array = np.ndarray[Any, Any]


@dataclass
class Answerer(ABC):
    """`words` is a tokenizer.json's content; the other numbers are those of config.json."""

    words: Mapping[str, Any]
    width: int = 16
    heads: int = 2
    layers: int = 2
    hidden: int = 20
    positions: int = 48
    seed: int = 4
    tensors: dict[str, Array] = field(default_factory=dict, init=False)

    start = (0,)
    """The tokens before an answer."""

    def __post_init__(self) -> None:
        self.vocabulary = len(self.words["model"]["vocab"])
        self.rng = np.random.default_rng(self.seed)
        self.make()

    @abstractmethod
    def make(self) -> None:
        """Puts the tensors."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What config.json has."""

    @abstractmethod
    def scores(self, heard: Array, tokens: Sequence[int]) -> Array:
        """Of all tokens to follow these of an answer."""

    @abstractmethod
    def encoded(self, source: Sequence[int]) -> Array:
        """What the encoder makes of a text's tokens: [tokens, width]."""

    def put(self, name: str, *shape: int) -> None:
        spread = 1.6 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.2
        self.tensors[name] = (self.rng.standard_normal(shape) * spread).astype(np.float32)

    def put_norm(self, name: str) -> None:
        self.tensors[name] = self.rng.uniform(0.7, 1.3, self.width).astype(np.float32)

    def save(self, folder: Path) -> Path:
        """The files that Hugging Face's folders have."""
        return write_folder(folder, {"config": self.config(), "tokenizer": self.words}, self.tensors)

    def weight(self, name: str) -> Array:
        return self.tensors[name].astype(np.float64)

    def answer(self, source: Sequence[int], count: int, never: Sequence[int] = ()) -> list[int]:
        """The likeliest tokens."""
        heard, text = self.encoded(source), list(self.start)
        for _ in range(count):
            scores = self.scores(heard, text)
            scores[list(never)] = -np.inf
            text.append(int(scores.argmax()))
        return text[len(self.start) :]


def attended(q: Array, k: Array, v: Array, heads: int, bias: Array | float) -> Array:
    """[rows, heads * size]; `bias` is [heads, rows, keys]."""
    q, k, v = (x.reshape(len(x), heads, -1).swapaxes(0, 1) for x in (q, k, v))
    scores = q @ k.swapaxes(1, 2) + bias
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (shares / shares.sum(-1, keepdims=True)) @ v
    result: Array = mixed.swapaxes(0, 1).reshape(q.shape[1], -1)
    return result


def causal(rows: int) -> Array:
    return np.where(np.tri(rows), 0.0, -np.inf)


class T5(Answerer):
    """Distances in buckets, norms without means, gated linear layers (as of Flan-T5), an own table of scores."""

    size, buckets, farthest = 6, 8, 12

    def config(self) -> dict[str, Any]:
        return {
            "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": self.width,
            "d_kv": self.size, "d_ff": self.hidden, "num_layers": self.layers, "num_decoder_layers": self.layers,
            "num_heads": self.heads, "vocab_size": self.vocabulary, "feed_forward_proj": "gated-gelu",
            "relative_attention_num_buckets": self.buckets, "relative_attention_max_distance": self.farthest,
            "tie_word_embeddings": False, "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
        }  # fmt: skip

    def make(self) -> None:
        w, inner = self.width, self.heads * self.size
        self.put("shared.weight", self.vocabulary, w), self.put("lm_head.weight", self.vocabulary, w)
        for side, attentions in (("encoder", ["SelfAttention"]), ("decoder", ["SelfAttention", "EncDecAttention"])):
            for k in range(self.layers):
                block = f"{side}.block.{k}.layer"
                for n, attention in enumerate(attentions):
                    for part in "qkv":
                        self.put(f"{block}.{n}.{attention}.{part}.weight", inner, w)
                    self.put(f"{block}.{n}.{attention}.o.weight", w, inner)
                    self.put_norm(f"{block}.{n}.layer_norm.weight")
                dense = f"{block}.{len(attentions)}.DenseReluDense"
                self.put(f"{dense}.wi_0.weight", self.hidden, w), self.put(f"{dense}.wi_1.weight", self.hidden, w)
                self.put(f"{dense}.wo.weight", w, self.hidden)
                self.put_norm(f"{block}.{len(attentions)}.layer_norm.weight")
            self.put(f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", self.buckets, self.heads)
            self.put_norm(f"{side}.final_layer_norm.weight")

    def norm(self, x: Array, layer: str) -> Array:
        result: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * self.weight(f"{layer}.weight")
        return result

    def bucket(self, distance: int, both: bool) -> int:
        """Of a key so many tokens behind: half of the buckets are exact, the others grow like logarithms."""
        count, first = (self.buckets // 2, (self.buckets // 2) * (distance > 0)) if both else (self.buckets, 0)
        apart = abs(distance) if both else max(-distance, 0)
        exact = count // 2
        if apart < exact:
            return first + apart
        share = math.log(apart / exact) / math.log(self.farthest / exact)
        return first + min(count - 1, exact + int(share * (count - exact)))

    def bias(self, side: str, rows: int) -> Array:
        table = self.weight(f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
        numbers = [[self.bucket(key - row, side == "encoder") for key in range(rows)] for row in range(rows)]
        result: Array = table[np.array(numbers)].transpose(2, 0, 1)
        return result

    def attend(self, x: Array, of: Array, layer: str, bias: Array | float) -> Array:
        q, k, v = (rows @ self.weight(f"{layer}.{part}.weight").T for part, rows in (("q", x), ("k", of), ("v", of)))
        result: Array = attended(q, k, v, self.heads, bias) @ self.weight(f"{layer}.o.weight").T
        return result

    def dense(self, x: Array, layer: str) -> Array:
        h, dense = self.norm(x, f"{layer}.layer_norm"), f"{layer}.DenseReluDense"
        gate = h @ self.weight(f"{dense}.wi_0.weight").T
        gate = gate * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        result: Array = x + (gate * (h @ self.weight(f"{dense}.wi_1.weight").T)) @ self.weight(f"{dense}.wo.weight").T
        return result

    def encoded(self, source: Sequence[int]) -> Array:
        x, bias = self.weight("shared.weight")[list(source)], self.bias("encoder", len(source))
        for k in range(self.layers):
            layer = f"encoder.block.{k}.layer"
            h = self.norm(x, f"{layer}.0.layer_norm")
            x = self.dense(x + self.attend(h, h, f"{layer}.0.SelfAttention", bias), f"{layer}.1")
        return self.norm(x, "encoder.final_layer_norm")

    def scores(self, heard: Array, tokens: Sequence[int]) -> Array:
        x = self.weight("shared.weight")[list(tokens)]
        bias = self.bias("decoder", len(tokens)) + causal(len(tokens))
        for k in range(self.layers):
            layer = f"decoder.block.{k}.layer"
            h = self.norm(x, f"{layer}.0.layer_norm")
            x = x + self.attend(h, h, f"{layer}.0.SelfAttention", bias)
            h = self.norm(x, f"{layer}.1.layer_norm")
            x = self.dense(x + self.attend(h, heard, f"{layer}.1.EncDecAttention", 0.0), f"{layer}.2")
        result: Array = self.norm(x, "decoder.final_layer_norm")[-1] @ self.weight("lm_head.weight").T
        return result


@dataclass
class Bart(Answerer):
    """`kind`: "marian" (norms behind, sines, an offset of scores, a token that is never written) or "mbart" (norms
    before and around, learned positions, the language first)."""

    kind: str = "marian"

    @property
    def start(self) -> tuple[int, ...]:  # type: ignore[override]
        return (4,) if self.kind == "marian" else (1, 7)

    @property
    def first(self) -> bool:
        return self.kind == "mbart"

    def config(self) -> dict[str, Any]:
        names = {"marian": "MarianMTModel", "mbart": "MBartForConditionalGeneration"}
        own: dict[str, Any] = {"bad_words_ids": [[4]]} if self.kind == "marian" else {"forced_bos_token_id": 7}
        return {
            "model_type": self.kind, "architectures": [names[self.kind]], "d_model": self.width,
            "vocab_size": self.vocabulary, "encoder_layers": self.layers, "decoder_layers": self.layers,
            "encoder_attention_heads": self.heads, "decoder_attention_heads": self.heads,
            "encoder_ffn_dim": self.hidden, "decoder_ffn_dim": self.hidden,
            "max_position_embeddings": self.positions, "scale_embedding": True, "pad_token_id": 4,
            "activation_function": "swish" if self.kind == "marian" else "relu",
            "decoder_start_token_id": self.start[0], "eos_token_id": 1, **own,
        }  # fmt: skip

    def make(self) -> None:
        w = self.width
        self.put("model.shared.weight", self.vocabulary, w)
        self.tensors["model.shared.weight"] /= 2  # it is scaled, and scores are products with it
        self.put("final_logits_bias", 1, self.vocabulary)
        norms = []
        for side, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
            if self.first:
                norms += [f"{side}.layernorm_embedding", f"{side}.layer_norm"]
                self.put(f"model.{side}.embed_positions.weight", self.positions + 2, w)
            for k in range(self.layers):
                layer = f"{side}.layers.{k}"
                for attention in attentions:
                    norms.append(f"{layer}.{attention}_layer_norm")
                    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                        self.put(f"model.{layer}.{attention}.{part}.weight", w, w)
                        self.put(f"model.{layer}.{attention}.{part}.bias", w)
                self.put(f"model.{layer}.fc1.weight", self.hidden, w), self.put(f"model.{layer}.fc1.bias", self.hidden)
                self.put(f"model.{layer}.fc2.weight", w, self.hidden), self.put(f"model.{layer}.fc2.bias", w)
                norms.append(f"{layer}.final_layer_norm")
        for norm in norms:
            self.put_norm(f"model.{norm}.weight"), self.put(f"model.{norm}.bias", w)

    def norm(self, x: Array, layer: str) -> Array:
        spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        result: Array = (x - x.mean(-1, keepdims=True)) / spread
        return result * self.weight(f"model.{layer}.weight") + self.weight(f"model.{layer}.bias")

    def linear(self, x: Array, layer: str) -> Array:
        result: Array = x @ self.weight(f"model.{layer}.weight").T + self.weight(f"model.{layer}.bias")
        return result

    def added(self, x: Array, norm: str, change: Any) -> Array:
        return x + change(self.norm(x, norm)) if self.first else self.norm(x + change(x), norm)

    def attend(self, x: Array, of: Array | None, layer: str, bias: Array | float) -> Array:
        def change(h: Array) -> Array:
            rows = h if of is None else of
            q, k, v = (self.linear(a, f"{layer}.{part}_proj") for part, a in (("q", h), ("k", rows), ("v", rows)))
            q = q / math.sqrt(self.width / self.heads)
            return self.linear(attended(q, k, v, self.heads, bias), f"{layer}.out_proj")

        return self.added(x, f"{layer}_layer_norm", change)

    def dense(self, x: Array, layer: str) -> Array:
        def change(h: Array) -> Array:
            h = self.linear(h, f"{layer}.fc1")
            return self.linear(np.maximum(h, 0) if self.first else h / (1 + np.exp(-h)), f"{layer}.fc2")

        return self.added(x, f"{layer}.final_layer_norm", change)

    def embedded(self, side: str, tokens: Sequence[int]) -> Array:
        x = self.weight("model.shared.weight")[list(tokens)] * math.sqrt(self.width)
        if self.first:
            x = x + self.weight(f"model.{side}.embed_positions.weight")[2 : 2 + len(tokens)]
            return self.norm(x, f"{side}.layernorm_embedding")
        half = self.width // 2
        angles = np.arange(len(tokens))[:, None] * 1e4 ** (-np.arange(half) / half)
        return x + np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def encoded(self, source: Sequence[int]) -> Array:
        x = self.embedded("encoder", source)
        for k in range(self.layers):
            x = self.dense(self.attend(x, None, f"encoder.layers.{k}.self_attn", 0.0), f"encoder.layers.{k}")
        return self.norm(x, "encoder.layer_norm") if self.first else x

    def scores(self, heard: Array, tokens: Sequence[int]) -> Array:
        x = self.embedded("decoder", tokens)
        for k in range(self.layers):
            layer = f"decoder.layers.{k}"
            x = self.attend(x, None, f"{layer}.self_attn", causal(len(tokens)))
            x = self.dense(self.attend(x, heard, f"{layer}.encoder_attn", 0.0), layer)
        x = self.norm(x, "decoder.layer_norm") if self.first else x
        result: Array = x[-1] @ self.weight("model.shared.weight").T + self.weight("final_logits_bias")[0]
        return result


def small(kind: str, words: Mapping[str, Any]) -> Answerer:
    """One of "t5", "marian" and "mbart"."""
    return T5(words) if kind == "t5" else Bart(words, kind=kind)
