"""A Llama-like decoder with random weights, in the files that each engine reads, of the same numbers.

The ONNX file is what onnxruntime-genai's model builder writes: GroupQueryAttention with its rotary embedding, RMS norms
of onnxruntime, and MatMulNBits in blocks of 32 rows, whose numbers are those of llama.cpp's Q8_0 and Q4_0: scales are
float16 numbers. Run with an environment's Python that has `gguf`, this module writes llama.cpp's file of the weights:
`python -m bench.decoders.model FOLDER FORM`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BLOCK = 32
FORMS = {"float32": 0, "int8": 8, "int4": 4}
"""How many bits a weight of a product has; 0 is float32."""


@dataclass(frozen=True)
class Sizes:
    """What a decoder is made of."""

    layers: int = 12
    width: int = 768
    heads: int = 12
    kv: int = 12
    hidden: int = 2048
    vocabulary: int = 32000
    context: int = 1024

    @property
    def head(self) -> int:
        return self.width // self.heads

    def products(self) -> dict[str, tuple[int, int]]:
        """The weights of products, [rows, columns], by their names in llama.cpp's files."""
        shared = self.kv * self.head
        parts = {
            "attn_q": (self.width, self.width),
            "attn_k": (self.width, shared),
            "attn_v": (self.width, shared),
            "attn_output": (self.width, self.width),
            "ffn_gate": (self.width, self.hidden),
            "ffn_up": (self.width, self.hidden),
            "ffn_down": (self.hidden, self.width),
        }
        found = {f"blk.{k}.{name}": shape for k in range(self.layers) for name, shape in parts.items()}
        return found | {"output": (self.width, self.vocabulary)}

    def parameters(self) -> int:
        """All weights, the table of the tokens' vectors and the norms among them."""
        return self.multiplied() + self.vocabulary * self.width + (2 * self.layers + 1) * self.width

    def multiplied(self) -> int:
        """The weights that a token is multiplied with."""
        return sum(rows * columns for rows, columns in self.products().values())


def weight_bytes(form: str, sizes: Sizes) -> int:
    """What ONNX's file has of the products' weights: what a token has at least to read."""
    bits = FORMS[form]
    return sizes.multiplied() * 4 if not bits else sizes.multiplied() * bits // 8 + sizes.multiplied() // BLOCK * 4


# --- the numbers ------------------------------------------------------------------------------------------------------


def embedding(sizes: Sizes) -> Array:
    """The vectors of the tokens, float32 [vocabulary, width]."""
    return np.random.default_rng(1).standard_normal((sizes.vocabulary, sizes.width), np.float32)


def products(sizes: Sizes) -> Iterator[tuple[str, Array]]:
    """Each product's weights by name, float32 [columns, rows], as torch and llama.cpp have them."""
    for number, (name, (rows, columns)) in enumerate(sizes.products().items()):
        values = np.random.default_rng([2, number]).standard_normal((columns, rows), np.float32)
        yield name, values / np.float32(np.sqrt(rows))


def quantised(weights: Array, bits: int) -> tuple[Array, Array]:
    """Codes, integers from 0 on of [columns, blocks, BLOCK], whose middle is 0, and scales [columns, blocks], float32
    numbers that are float16s."""
    blocks = weights.reshape(weights.shape[0], -1, BLOCK)
    middle = 1 << (bits - 1)
    scales = (np.abs(blocks).max(axis=2) / (middle - 1)).astype(np.float16).astype(np.float32)
    codes = np.rint(blocks / scales[:, :, None]).clip(-middle, middle - 1) + middle
    return codes.astype(np.uint8), scales


# --- ONNX -------------------------------------------------------------------------------------------------------------


class _Net:
    """Nodes, weights and their names."""

    def __init__(self, sizes: Sizes, form: str) -> None:
        from onnx import helper, numpy_helper

        self.sizes, self.bits = sizes, FORMS[form]
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._node, self._tensor = helper.make_node, numpy_helper.from_array

    def constant(self, name: str, value: Array) -> str:
        self.weights.append(self._tensor(value, name))
        return name

    def add(self, op: str, inputs: list[str], name: str, outputs: list[str] | None = None, **attrs: Any) -> str:
        made = outputs or [f"{name}/out"]
        self.nodes.append(self._node(op, inputs, made, name=name, **attrs))
        return made[-1] if outputs and made[0] == "" else made[0]

    def product(self, x: str, name: str, weights: Array, output: str = "") -> str:
        columns, rows = weights.shape
        made = [output] if output else None
        if not self.bits:
            return self.add("MatMul", [x, self.constant(f"{name}.weight", weights.T.copy())], name, made)
        codes, scales = quantised(weights, self.bits)
        if self.bits == 4:
            codes = codes[:, :, ::2] | codes[:, :, 1::2] << 4
        given = [x, self.constant(f"{name}.codes", codes), self.constant(f"{name}.scales", scales.reshape(-1))]
        sizes = {"K": rows, "N": columns, "bits": self.bits, "block_size": BLOCK, "accuracy_level": 4}
        return self.add("MatMulNBits", given, name, made, domain="com.microsoft", **sizes)

    def norm(self, x: str, name: str) -> str:
        scale = self.constant(f"{name}.weight", np.ones(self.sizes.width, np.float32))
        return self.add("SimplifiedLayerNormalization", [x, scale], name, axis=-1, epsilon=1e-5, stash_type=1)


def make_onnx(sizes: Sizes, form: str) -> Any:
    """The decoder with its past, as onnxruntime-genai's builder has it. transformers.js knows sizes by their names."""
    from onnx import TensorProto, helper

    net = _Net(sizes, form)
    weights = dict(products(sizes))
    ints = {name: net.constant(name, np.array(value)) for name, value in (("one", [1]), ("first", 1), ("less", 1))}
    seen = net.add("ReduceSum", ["attention_mask", ints["one"]], "seen", keepdims=0)
    last = net.add("Cast", [net.add("Sub", [seen, ints["less"]], "sub")], "last", to=TensorProto.INT32)
    total = net.add("Gather", [net.add("Shape", ["attention_mask"], "shape"), ints["first"]], "total", axis=0)
    total = net.add("Cast", [total], "total_32", to=TensorProto.INT32)
    angle = np.arange(sizes.context)[:, None] * 1e4 ** (-np.arange(0, sizes.head, 2) / sizes.head)
    tables = [net.constant(f.__name__, f(angle).astype(np.float32)) for f in (np.cos, np.sin)]
    x = net.add("Gather", [net.constant("embedding", embedding(sizes)), "input_ids"], "embed", axis=0)
    for k in range(sizes.layers):
        at = f"blk.{k}."
        h = net.norm(x, f"{at}attn_norm")
        own = [net.product(h, at + name, weights[at + name]) for name in ("attn_q", "attn_k", "attn_v")]
        past = [f"past_key_values.{k}.{kind}" for kind in ("key", "value")]
        after = [f"{at}mixed", *(f"present.{k}.{kind}" for kind in ("key", "value"))]
        shared = {"num_heads": sizes.heads, "kv_num_heads": sizes.kv, "do_rotary": 1, "rotary_interleaved": 0}
        given = [*own, *past, last, total, *tables]
        mixed = net.add("GroupQueryAttention", given, f"{at}attention", after, domain="com.microsoft", **shared)
        x = net.add("Add", [x, net.product(mixed, f"{at}attn_output", weights[f"{at}attn_output"])], f"{at}add")
        h = net.norm(x, f"{at}ffn_norm")
        gate = net.product(h, f"{at}ffn_gate", weights[f"{at}ffn_gate"])
        gate = net.add("Mul", [gate, net.add("Sigmoid", [gate], f"{at}sigmoid")], f"{at}silu")
        up = net.add("Mul", [gate, net.product(h, f"{at}ffn_up", weights[f"{at}ffn_up"])], f"{at}gated")
        x = net.add("Add", [x, net.product(up, f"{at}ffn_down", weights[f"{at}ffn_down"])], f"{at}add_2")
    net.product(net.norm(x, "output_norm"), "output", weights["output"], "logits")
    info, cache = helper.make_tensor_value_info, [(k, kind) for k in range(sizes.layers) for kind in ("key", "value")]

    def caches(which: str, rows: str) -> list[Any]:
        shape = ["batch_size", sizes.kv, rows, sizes.head]
        return [info(f"{which}.{k}.{kind}", TensorProto.FLOAT, shape) for k, kind in cache]

    graph = helper.make_graph(
        net.nodes,
        "decoder",
        [
            info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
            info("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
            *caches("past_key_values", "past_sequence_length"),
        ],
        [
            info("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", sizes.vocabulary]),
            *caches("present", "total_sequence_length"),
        ],
        net.weights,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def genai_config(sizes: Sizes, threads: int) -> dict[str, Any]:
    """genai_config.json, which onnxruntime-genai reads beside model.onnx."""
    decoder = {
        "session_options": {"intra_op_num_threads": threads, "log_id": "genai", "provider_options": []},
        "filename": "model.onnx",
        "head_size": sizes.head,
        "hidden_size": sizes.width,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.kv,
    }
    tokens = {"bos_token_id": 1, "eos_token_id": sizes.vocabulary - 1, "pad_token_id": 0}
    model = {"type": "llama", "context_length": sizes.context, "vocab_size": sizes.vocabulary, **tokens}
    search = {"max_length": sizes.context, "do_sample": False, "num_beams": 1, "past_present_share_buffer": True}
    return {"model": {**model, "decoder": decoder}, "search": search}


def make_folder(sizes: Sizes, form: str, folder: Path) -> Path:
    """Writes model.onnx and sizes.json, where they are not there already; the ONNX file."""
    import onnx

    file, told = folder / "model.onnx", folder / "sizes.json"
    text = json.dumps(asdict(sizes))
    if file.is_file() and told.is_file() and told.read_text(encoding="utf-8") == text:
        return file
    folder.mkdir(parents=True, exist_ok=True)
    told.unlink(missing_ok=True)
    onnx.save(make_onnx(sizes, form), file)
    told.write_text(text, encoding="utf-8")
    return file


# --- llama.cpp --------------------------------------------------------------------------------------------------------


def _paired(weights: Array, heads: int) -> Array:
    """The rows of queries or keys in the order of llama.cpp, whose rotary embedding takes neighbours as pairs."""
    columns, rows = weights.shape
    return weights.reshape(heads, 2, columns // heads // 2, rows).swapaxes(1, 2).reshape(columns, rows)


def _as_blocks(weights: Array, bits: int) -> Array:
    """The bytes of Q8_0 or Q4_0, uint8 [columns, bytes]: of each block a float16 scale, then its codes."""
    codes, scales = quantised(weights, bits)
    if bits == 8:
        codes = codes - np.uint8(128)  # wraps: int8
    else:
        codes = codes[:, :, : BLOCK // 2] | codes[:, :, BLOCK // 2 :] << 4
    heads = scales.astype(np.float16)[:, :, None].view(np.uint8)
    return np.concatenate([heads, codes], axis=2).reshape(weights.shape[0], -1)


def write_gguf(sizes: Sizes, form: str, file: Path) -> None:
    """llama.cpp's file of the same decoder, without a vocabulary. Needs the package `gguf`."""
    import gguf

    bits = FORMS[form]
    kinds = {8: gguf.GGMLQuantizationType.Q8_0, 4: gguf.GGMLQuantizationType.Q4_0}
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.width)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.hidden)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv)
    writer.add_rope_dimension_count(sizes.head)
    writer.add_rope_freq_base(1e4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_tokenizer_model("none")
    writer.add_tensor("token_embd.weight", embedding(sizes))
    for name, values in products(sizes):
        kind = name.rpartition(".")[2]
        heads = {"attn_q": sizes.heads, "attn_k": sizes.kv}.get(kind)
        weights = _paired(values, heads) if heads else values
        if bits:
            writer.add_tensor(f"{name}.weight", _as_blocks(weights, bits), raw_dtype=kinds[bits])
        else:
            writer.add_tensor(f"{name}.weight", np.ascontiguousarray(weights))
    norms = [f"blk.{k}.{part}_norm" for k in range(sizes.layers) for part in ("attn", "ffn")]
    for name in (*norms, "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(sizes.width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(folder: Path, form: str) -> None:
    """Writes model.gguf beside a folder's sizes.json."""
    sizes = Sizes(**json.loads((folder / "sizes.json").read_text(encoding="utf-8")))
    write_gguf(sizes, form, folder / "model.gguf")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
