"""A tiny Whisper's folder with random weights, and what it writes, computed with NumPy as the paper describes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hub_folders import write_folder

from dlpack.meaning.sound import Sound

Array = np.ndarray[Any, Any]
SPECIAL = ("<|end|>", "<|start|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>", "<|notimestamps|>")
TIMES = tuple(f"<|{k / 50:.2f}|>" for k in range(11))


@dataclass
class Whisper:
    """`words` is a tokenizer.json's content, whose tokens the special ones follow."""

    words: Mapping[str, Any]
    width: int = 16
    heads: int = 2
    mels: int = 6
    heard: int = 10
    context: int = 16
    tensors: dict[str, Array] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        count = len(self.words["model"]["vocab"])
        self.ids = {name: count + k for k, name in enumerate((*SPECIAL, *TIMES))}
        self.vocabulary, self.times = count + len(self.ids), self.ids[TIMES[0]]
        self.suppressed = [3, 5, self.ids["<|start|>"]]
        self.suppressed_first = [self.ids["<|end|>"]]
        rng, w = np.random.default_rng(8), self.width

        def put(name: str, *shape: int) -> None:
            spread = 1.6 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.2
            self.tensors[f"model.{name}"] = (rng.standard_normal(shape) * spread).astype(np.float32)

        put("encoder.conv1.weight", w, self.mels, 3), put("encoder.conv1.bias", w)
        put("encoder.conv2.weight", w, w, 3), put("encoder.conv2.bias", w)
        put("encoder.embed_positions.weight", self.heard, w), put("decoder.embed_positions.weight", self.context, w)
        put("decoder.embed_tokens.weight", self.vocabulary, w)
        norms = ["encoder.layer_norm", "decoder.layer_norm"]
        for side, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
            layer = f"{side}.layers.0"
            for attention in attentions:
                norms.append(f"{layer}.{attention}_layer_norm")
                for part in "qkv":
                    put(f"{layer}.{attention}.{part}_proj.weight", w, w)
                    if part != "k":
                        put(f"{layer}.{attention}.{part}_proj.bias", w)
                put(f"{layer}.{attention}.out_proj.weight", w, w), put(f"{layer}.{attention}.out_proj.bias", w)
            put(f"{layer}.fc1.weight", 20, w), put(f"{layer}.fc1.bias", 20)
            put(f"{layer}.fc2.weight", w, 20), put(f"{layer}.fc2.bias", w)
            norms.append(f"{layer}.final_layer_norm")
        for norm in norms:
            put(f"{norm}.bias", w)
            self.tensors[f"model.{norm}.weight"] = rng.uniform(0.7, 1.3, w).astype(np.float32)

    def save(self, folder: Path) -> Path:
        """The files that Hugging Face's folders have."""
        ids = self.ids
        config = {
            "model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "d_model": self.width,
            "num_mel_bins": self.mels, "vocab_size": self.vocabulary, "max_source_positions": self.heard,
            "max_target_positions": self.context, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_attention_heads": self.heads, "decoder_attention_heads": self.heads,
        }  # fmt: skip
        generation = {
            "decoder_start_token_id": ids["<|start|>"], "eos_token_id": ids["<|end|>"],
            "no_timestamps_token_id": ids["<|notimestamps|>"], "is_multilingual": True,
            "lang_to_id": {code: ids[code] for code in ("<|en|>", "<|de|>")},
            "task_to_id": {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
            "suppress_tokens": self.suppressed, "begin_suppress_tokens": self.suppressed_first,
            "max_initial_timestamp_index": 3,
        }  # fmt: skip
        sound = {"feature_size": self.mels, "sampling_rate": 16000, "n_fft": 400, "hop_length": 160,
                 "chunk_length": 2 * self.heard * 160 / 16000}  # fmt: skip
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = [{"id": number, "content": name, "special": True, **flags} for name, number in ids.items()]
        words = {**self.words, "added_tokens": [*self.words["added_tokens"], *added]}
        files = {"config": config, "generation_config": generation, "preprocessor_config": sound, "tokenizer": words}
        return write_folder(folder, files, self.tensors)

    # --- with NumPy, in double

    def weight(self, name: str) -> Array:
        return self.tensors[f"model.{name}"].astype(np.float64)

    def linear(self, x: Array, layer: str) -> Array:
        bias = self.weight(f"{layer}.bias") if f"model.{layer}.bias" in self.tensors else 0
        result: Array = x @ self.weight(f"{layer}.weight").T + bias
        return result

    def norm(self, x: Array, layer: str) -> Array:
        spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        result: Array = (x - x.mean(-1, keepdims=True)) / spread
        return result * self.weight(f"{layer}.weight") + self.weight(f"{layer}.bias")

    def attend(self, x: Array, of: Array, layer: str, causal: bool = False) -> Array:
        q, k, v = (
            self.linear(rows, f"{layer}.{part}_proj").reshape(len(rows), self.heads, -1).swapaxes(0, 1)
            for part, rows in (("q", x), ("k", of), ("v", of))
        )
        scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[2])
        if causal:
            scores = np.where(np.tri(len(x)), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ v
        return self.linear(mixed.swapaxes(0, 1).reshape(len(x), -1), f"{layer}.out_proj")

    def hidden(self, x: Array, layer: str) -> Array:
        h = gelu(self.linear(self.norm(x, f"{layer}.final_layer_norm"), f"{layer}.fc1"))
        return x + self.linear(h, f"{layer}.fc2")

    def encoded(self, samples: Array) -> Array:
        x = Sound("", self.mels, 2 * self.heard)(samples)[0].T.astype(np.float64)
        for k, step in ((1, 1), (2, 2)):
            padded = np.pad(x, ((1, 1), (0, 0)))
            windows = np.stack([padded[t : t + 3] for t in range(0, len(x), step)])
            kernel, bias = self.weight(f"encoder.conv{k}.weight"), self.weight(f"encoder.conv{k}.bias")
            x = gelu(np.einsum("tki,oik->to", windows, kernel) + bias)
        x = x + self.weight("encoder.embed_positions.weight")
        layer = "encoder.layers.0"
        h = self.norm(x, f"{layer}.self_attn_layer_norm")
        x = self.hidden(x + self.attend(h, h, f"{layer}.self_attn"), layer)
        return self.norm(x, "encoder.layer_norm")

    def scores(self, heard: Array, tokens: Sequence[int]) -> Array:
        """Of all tokens to follow these."""
        table, layer = self.weight("decoder.embed_tokens.weight"), "decoder.layers.0"
        x = table[list(tokens)] + self.weight("decoder.embed_positions.weight")[: len(tokens)]
        h = self.norm(x, f"{layer}.self_attn_layer_norm")
        x = x + self.attend(h, h, f"{layer}.self_attn", causal=True)
        x = x + self.attend(self.norm(x, f"{layer}.encoder_attn_layer_norm"), heard, f"{layer}.encoder_attn")
        result: Array = self.norm(self.hidden(x, layer), "decoder.layer_norm")[-1] @ table.T
        return result

    def language(self, samples: Array) -> str:
        scores = self.scores(self.encoded(samples), [self.ids["<|start|>"]])
        return max(("en", "de"), key=lambda code: float(scores[self.ids[f"<|{code}|>"]]))

    def transcribed(self, samples: Array, language: str, task: str = "transcribe") -> list[int]:
        """The likeliest tokens for one window."""
        heard = self.encoded(samples)
        text = [self.ids[name] for name in ("<|start|>", f"<|{language}|>", f"<|{task}|>", "<|notimestamps|>")]
        begin = len(text)
        while len(text) < self.context:
            scores = self.scores(heard, text)
            scores[self.suppressed + (self.suppressed_first if len(text) == begin else [])] = -np.inf
            token = int(scores.argmax())
            if token == self.ids["<|end|>"]:
                break
            text.append(token)
        return text[begin:]

    def timed(self, samples: Array, language: str) -> list[tuple[float, float, list[int]]]:
        """Begin, end and tokens of each segment, as transformers' rules for texts with times have it."""
        told, at, window = [], 0, 320 * self.heard
        while at < len(samples):
            ids, heard = self.timed_window(samples[at : at + window], language), min(window, len(samples) - at)
            time = [t - self.times if t >= self.times else None for t in ids]
            cuts = [k for k in range(1, len(ids)) if time[k - 1] is not None and time[k] is not None]
            closed = len(ids) > 1 and time[-1] is not None and time[-2] is None
            seen, begin = heard, 0
            for cut in [*cuts, *([len(ids)] if cuts and closed else [])]:
                told.append((at / 16000 + time[begin] / 50, at / 16000 + time[cut - 1] / 50, ids[begin:cut]))
                seen, begin = heard if closed else 320 * time[cut - 1], cut
            if not cuts:
                last = [t for t in time if t is not None]
                end = last[-1] if last and last[-1] else heard // 320
                told.append((at / 16000, at / 16000 + end / 50, ids))
            at += seen or heard
        words = [(begin, end, [t for t in ids if t < self.times]) for begin, end, ids in told]
        return [segment for segment in words if segment[2]]

    def timed_window(self, samples: Array, language: str) -> list[int]:
        heard, names = self.encoded(samples), ("<|start|>", f"<|{language}|>", "<|transcribe|>")
        prompt = [self.ids[name] for name in names]
        ids: list[int] = []
        while len(prompt) + len(ids) < self.context:
            scores = self.scores(heard, [*prompt, *ids])
            scores[[*self.suppressed, self.ids["<|notimestamps|>"]]] = -np.inf
            kinds = [t >= self.times for t in ids]
            times = [t for t in ids if t >= self.times]
            opened = kinds[-1:] == [True] and (len(ids) < 2 or kinds[-2])
            closing = kinds[-1:] == [True] and not opened
            if opened:
                scores[self.times :] = -np.inf
            if closing:
                scores[: self.ids["<|end|>"]] = -np.inf
            if times:
                scores[self.times : times[-1] + (0 if closing else 1)] = -np.inf
            if not ids:
                scores[: self.times], scores[self.times + 4 :] = -np.inf, -np.inf
            with np.errstate(over="ignore", divide="ignore"):
                if np.log(np.exp(scores[self.times :]).sum()) > scores[: self.times].max():
                    scores[: self.times] = -np.inf
            token = int(scores.argmax())
            if token == self.ids["<|end|>"]:
                break
            ids.append(token)
        return ids


def gelu(x: Array) -> Array:
    result: Array = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return result
