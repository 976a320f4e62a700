"""The table of docs/operators-contrib.md: `python tests/contrib_table.py` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

import dlpack.model.contrib  # noqa: F401 - enters the operators
from dlpack.model.contrib_node import DOMAIN, REWRITES

PATH = Path(__file__).resolve().parent.parent / "docs" / "operators-contrib.md"
_MARKS = ("<!-- table -->\n", "<!-- end -->\n")

REFUSED = {
    "Attention": "do_rotary (onnxruntime's CPU kernel neither), past_present_share_buffer, masks of 4 dimensions",
    "QAttention": "do_rotary, past_present_share_buffer",
    "MultiHeadAttention": "past_sequence_length, cache_indirection; masks of (3 * batch + 2)",
    "DecoderMaskedMultiHeadAttention": "packed queries, keys and values; cache_indirection",
    "GroupQueryAttention": "a total_sequence_length that is not constant; sliding_window_cache, quantised caches, "
    "q_norm_weight, query_seqlens, qk_output",
    "RotaryEmbedding": "is_packed_batching, a scale",
    "DynamicQuantizeLSTM": "sequence_lens, peepholes, clip, input_forget, other activations",
    "MatMulNBits": "weights that are not constant, or prepacked; with zero points that are not whole, or a g_idx of "
    "blocks that differ in size, they are stored as floats",
    "MatMulBnb4": "weights that are not constant; they are stored as floats",
    "GatherBlockQuantized": "tables that are not constant; they are stored as floats",
    "BiasDropout": "training_mode",
    "CausalConvWithState": "ndim other than 1, state_window, channels_last, state_length",
    "ConvTransposeWithDynamicPads": "pads that are not constant",
    "CropAndResize": "a crop_size that is not constant; opsets before 16",
    "GatedRelativePositionBias": "token_offset",
    "LinearAttention": "state_window",
    "MoE": "use_sparse_mixer, swiglu_limit_after_activation, geglu; all experts are computed",
    "MRotaryEmbedding": "is_packed_batching, a scale",
    "MurmurHash3": "strings and floats; opsets before 18",
    "QMoE": "as MoE; weights that are not constant, or prepacked, of 3 bits, or floats of few bits; they are stored as "
    "floats",
    "RelativePositionBias": "lengths that are not constant",
    "CDist": "metrics other than euclidean and sqeuclidean",
    "SwiGLU": "round_activation",
    "ExpandDims": "an axis that is not constant",
    "FusedConv": "activations other than Relu, Sigmoid, Tanh, LeakyRelu, HardSigmoid, Clip",
    "QGemm": "scales that are not constant, with a bias",
}


def table() -> str:
    kernels = {
        kernel.op_name
        for kernel in onnxruntime_state.get_all_opkernel_def()
        if kernel.domain == DOMAIN and kernel.provider == "CPUExecutionProvider"
    }
    lines = ["| operator | compared with | what is not supported |", "|---|---|---|"]
    for domain, op in sorted(REWRITES, key=lambda key: key[1]):
        if domain == DOMAIN:
            lines.append(f"| {op} | {'onnxruntime' if op in kernels else 'its definition'} | {REFUSED.get(op, '')} |")
    return "\n".join(lines) + "\n"


def document(text: str) -> str:
    """The document with the table that is right now."""
    begin, end = (re.escape(mark) for mark in _MARKS)
    return re.sub(f"(?s){begin}.*{end}", lambda _: f"{_MARKS[0]}{table()}{_MARKS[1]}", text)


if __name__ == "__main__":
    PATH.write_text(document(PATH.read_text(encoding="utf-8")), encoding="utf-8")
