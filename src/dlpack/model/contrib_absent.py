"""What is said of operators of onnxruntime that are not supported: what to do instead."""

from __future__ import annotations

_SEARCH = (
    "it generates a text in a loop of its own: build the decoder alone, and the predictor generates (docs/generate.md)"
)
_PACKED = "it is of a model whose padding was removed for GPUs: optimise the model without packing mode"
_GPU = "it is an operator of onnxruntime for GPUs: export the model for CPUs"
_CUSTOM = "it is an operator of onnxruntime-extensions: leave pre- and postprocessing out when the model is exported"

_REASONS = {
    **dict.fromkeys(("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"), _SEARCH),
    **dict.fromkeys(("PackedAttention", "PackedMultiHeadAttention", "RemovePadding", "RestorePadding"), _PACKED),
    **dict.fromkeys(
        (
            "PagedAttention",
            "SparseAttention",
            "LongformerAttention",
            "DecoderAttention",
            "DecoderMaskedSelfAttention",
            "GemmFloat8",
        ),
        _GPU,
    ),
    "EPContext": "the model was compiled for a device; build the model that it was compiled from",
    "MatMulFpQ4": "its weights are packed for one machine; quantise the model anew, which writes MatMulNBits",
    "Tokenizer": "give the model tokens; a tokenizer.json beside it is built in (docs/text.md)",
}


def advice(op: str, domain: str) -> str:
    """What to do without the operator, "" if nothing is known."""
    if domain in ("com.microsoft.nchwc", "com.ms.internal.nhwc"):
        return (
            "onnxruntime wrote this model for one machine: build the original model, or save the optimised one with "
            "ORT_ENABLE_EXTENDED"
        )
    if domain == "ai.onnx.contrib":
        return _CUSTOM
    if domain == "com.microsoft":
        return _GPU if op.startswith("QOrdered") else _REASONS.get(op, "")
    return ""
