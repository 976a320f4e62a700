"""Language models of transformers, small: two layers of 64 channels, a vocabulary of 512, sixteen tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from architectures.base import Architecture, plain, tokens

USUAL = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "vocab_size": 512, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
GROUPED = USUAL | {"num_key_value_heads": 2, "head_dim": 16}
OLD = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 512, "n_positions": 64}
PAIR = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 512,
    "max_position_embeddings": 64, "pad_token_id": 0, "decoder_start_token_id": 2,
}  # fmt: skip

MASK = {"attention_mask": (0.0, 1.0)}
ALL = {"attention_mask": (1.0, 1.0)}
"""Where a token that sees no other would have no meaning: all are there."""

ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": USUAL,
    "DistilBert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 512},
    "Roberta": USUAL,
    "XLMRoberta": USUAL,
    "Camembert": USUAL,
    "Albert": USUAL | {"embedding_size": 32},
    "Electra": USUAL | {"embedding_size": 32},
    "Deberta": USUAL,
    "DebertaV2": USUAL | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    "MPNet": USUAL,
    "MobileBert": USUAL | {"embedding_size": 32, "intra_bottleneck_size": 32},
    "SqueezeBert": USUAL | {"embedding_size": 64},
    "ConvBert": USUAL | {"embedding_size": 64},
    "FNet": USUAL | {"use_tpu_fourier_optimizations": False},
    "Funnel": {"d_model": 64, "n_head": 4, "d_head": 16, "d_inner": 128, "block_sizes": [1, 1], "vocab_size": 512},
    "Ernie": USUAL,
    "RoFormer": USUAL | {"embedding_size": 64},
    "ModernBert": USUAL | {"global_attn_every_n_layers": 2, "local_attention": 8},
    "MegatronBert": USUAL,
    "LayoutLM": USUAL,
    "XLNet": {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128, "vocab_size": 512},
    "Esm": USUAL | {"mask_token_id": 3, "position_embedding_type": "rotary"},
    "EuroBert": GROUPED,
    "RemBert": USUAL | {"input_embedding_size": 32, "output_embedding_size": 32},
    "IBert": USUAL,
}

DECODERS: dict[str, dict[str, Any]] = {
    "GPT2": OLD,
    "GPTNeo": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
               "window_size": 8, "vocab_size": 512, "max_position_embeddings": 64},
    "GPTNeoX": USUAL,
    "GPTJ": OLD | {"rotary_dim": 8},
    "CodeGen": OLD | {"rotary_dim": 8},
    "OPT": USUAL | {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "Bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 512},
    "Mpt": {"d_model": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 512, "max_seq_len": 64},
    "Llama": GROUPED,
    "Mistral": GROUPED | {"sliding_window": 8},
    "Mixtral": GROUPED | {"num_local_experts": 4},
    "Qwen2": GROUPED,
    "Qwen3": GROUPED,
    "Qwen3Moe": GROUPED | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "Gemma": GROUPED,
    "Gemma2": GROUPED | {"query_pre_attn_scalar": 16, "sliding_window": 8},
    "Gemma3Text": GROUPED | {"query_pre_attn_scalar": 16, "sliding_window": 8},
    "Phi": USUAL,
    "Phi3": USUAL | {"num_key_value_heads": 2},
    "Falcon": USUAL,
    "StableLm": USUAL | {"num_key_value_heads": 2},
    "Starcoder2": USUAL | {"num_key_value_heads": 2},
    "Olmo2": USUAL | {"num_key_value_heads": 2},
    "Cohere": USUAL | {"num_key_value_heads": 2},
    "Granite": USUAL | {"num_key_value_heads": 2},
    "SmolLM3": GROUPED | {"pad_token_id": 0},
    "Helium": GROUPED,
    "BioGpt": USUAL,
    "XGLM": {"d_model": 64, "num_layers": 2, "attention_heads": 4, "ffn_dim": 128, "vocab_size": 512,
             "max_position_embeddings": 64},
    "Mamba": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 512, "state_size": 8},
}  # fmt: skip

PAIRS: dict[str, dict[str, Any]] = {
    "T5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 512,
           "decoder_start_token_id": 0},
    "MT5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 512},
    "Bart": PAIR,
    "MBart": PAIR,
    "Marian": PAIR,
    "Pegasus": PAIR,
    "M2M100": PAIR,
    "Blenderbot": PAIR,
    "LED": PAIR | {"attention_window": 8, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64},
}  # fmt: skip


_WIDTHS = (
    "hidden_size", "intermediate_size", "max_position_embeddings", "n_embd", "n_positions", "d_model", "d_inner",
    "d_head", "d_kv", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "dim", "hidden_dim", "ffn_dim", "head_dim",
    "embedding_size", "intra_bottleneck_size", "word_embed_proj_dim", "max_seq_len", "moe_intermediate_size",
    "input_embedding_size", "output_embedding_size", "max_encoder_position_embeddings",
    "max_decoder_position_embeddings", "rotary_dim", "query_pre_attn_scalar",
)  # fmt: skip
"""What grows with a model's scale; layers, heads and the vocabulary stay."""


def architectures(scale: int = 1) -> Iterator[Architecture]:
    """All of them; `scale` multiplies widths and tokens."""
    for name, config in ENCODERS.items():
        masked = name != "FNet"
        maker = _maker(name, "Model", _scaled(config, scale), masked=masked, length=16 * scale)
        yield Architecture(name, "transformers, text", maker, MASK if masked else {})
    for name, config in DECODERS.items():
        head = {"XLNet": "LMHeadModel", "GPT2": "LMHeadModel"}.get(name, "ForCausalLM")
        maker = _maker(name, head, _scaled(config, scale), masked=True, length=16 * scale)
        yield Architecture(name, "transformers, text", maker, ALL)
    for name, config in PAIRS.items():
        yield Architecture(name, "transformers, text", _pair(name, _scaled(config, scale), 16 * scale))


def _scaled(config: dict[str, Any], scale: int) -> dict[str, Any]:
    return {key: value * scale if key in _WIDTHS else value for key, value in config.items()}


def make(name: str, suffix: str, config: dict[str, Any]) -> Any:
    """The model of that name with its weights."""
    import torch
    import transformers

    family = name.removesuffix("Text") if name == "Gemma3Text" else name
    torch.manual_seed(0)
    made = getattr(transformers, f"{name}Config")(**config)
    model = getattr(transformers, f"{family}{suffix}")
    if hasattr(made, "num_experts") or hasattr(made, "num_local_experts"):
        made._experts_implementation = "batched_mm"  # of plain operators
    for attention in ("sdpa", "eager"):
        try:
            made._attn_implementation = attention
            return model(made).eval()
        except ValueError:  # it has only its own
            continue
    raise ValueError(name)


def _maker(name: str, suffix: str, config: dict[str, Any], *, masked: bool, length: int) -> Any:
    def maker() -> tuple[Any, dict[str, Any]]:
        import torch

        inputs = {"input_ids": tokens(length)}
        if masked:
            inputs["attention_mask"] = torch.ones(1, length, dtype=torch.int64)
        fixed = {} if name in ENCODERS else {"use_cache": False}
        return plain(make(name, suffix, config), list(inputs), **fixed), inputs

    return maker


def _pair(name: str, config: dict[str, Any], length: int) -> Any:
    def maker() -> tuple[Any, dict[str, Any]]:
        inputs = {"input_ids": tokens(length), "decoder_input_ids": tokens(length // 2)}
        model = make(name, "ForConditionalGeneration" if name != "Marian" else "MTModel", config)
        return plain(model, list(inputs), use_cache=False), inputs

    return maker
