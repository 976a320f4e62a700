"""Decoders of transformers with random weights: exported with their past, built, and compared with its own `generate`.

script/decoders runs it: python -m transformers_decoders [FAMILY ...]. A line per family; exit code 1 where one differs.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import dlpack
from dlpack.errors import DlpackError
from dlpack.pipeline import Options, build

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]
NEW, VOCABULARY = 24, 61

_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_SHARED = {**_SIZES, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("Llama", _SHARED),
    "Mistral": ("Mistral", {**_SHARED, "sliding_window": None}),
    "Qwen2": ("Qwen2", _SHARED),
    "Qwen3": ("Qwen3", {**_SHARED, "head_dim": 8}),
    "Gemma": ("Gemma", {**_SHARED, "head_dim": 8}),
    "Phi": ("Phi", _SHARED),
    "GPT-2": ("GPT2", {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "GPT-NeoX": ("GPTNeoX", {**_SIZES, "intermediate_size": 48, "max_position_embeddings": 128}),
    "OPT": ("OPT", {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 128}),
    "GPT-Neo": (
        "GPTNeo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 5,
            "max_position_embeddings": 128,
        },
    ),
    "BLOOM": ("Bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
}
"""By name: transformers' classes without "Config" and "ForCausalLM", and the configuration."""


def network(family: str) -> Any:
    """A network with random weights, larger than usual, so that the likeliest tokens differ."""
    import torch
    import transformers

    prefix, sizes = FAMILIES[family]
    kind = {"GPT2": "GPT2LMHeadModel"}.get(prefix, f"{prefix}ForCausalLM")
    torch.manual_seed(0)
    net = getattr(transformers, kind)(getattr(transformers, f"{prefix}Config")(**sizes)).eval()
    for parameter in net.parameters():
        parameter.data *= 3 if parameter.ndim > 1 else 1
    net.generation_config.eos_token_id = None
    return net


def export(net: Any, path: Path) -> None:
    """Writes an ONNX model with its past, as optimum does, by torch.onnx."""
    import torch
    from transformers import DynamicCache

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, ids: Any, mask: Any, positions: Any, *past: Any) -> tuple[Any, ...]:
            cache = DynamicCache()
            for k in range(len(past) // 2):
                cache.update(past[2 * k], past[2 * k + 1], k)
            given = {"position_ids": positions} if positioned else {}
            out = self.net(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given)
            return (out.logits, *(x for layer in out.past_key_values.layers for x in (layer.keys, layer.values)))

    import inspect

    positioned = "position_ids" in inspect.signature(net.forward).parameters
    with torch.no_grad():
        first = net(torch.tensor([[1, 2, 3, 4, 5]]), use_cache=True).past_key_values
    past = [x for layer in first.layers for x in (layer.keys, layer.values)]
    caches = [f"{k}.{kind}" for k in range(len(past) // 2) for kind in ("key", "value")]
    inputs = ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{c}" for c in caches)]
    outputs = ["logits", *(f"present.{c}" for c in caches)]
    axes = {name: {0: "batch", 2: "past" if name.startswith("past") else "total"} for name in inputs[3:] + outputs[1:]}
    axes |= {"input_ids": {0: "batch", 1: "rows"}, "attention_mask": {0: "batch", 1: "total"}}
    axes |= {"position_ids": {0: "batch", 1: "rows"}, "logits": {0: "batch", 1: "rows"}}
    example = (torch.tensor([[6, 7, 8]]), torch.ones(1, 8, dtype=torch.long), torch.arange(5, 8)[None], *past)
    torch.onnx.export(
        Step().eval(), example, path, input_names=inputs, output_names=outputs, dynamic_axes=axes, opset_version=18,
        dynamo=False,
    )  # fmt: skip


def compared(family: str, folder: Path) -> str:
    """What is to be said of a family: "the same tokens", or what is wrong."""
    import torch

    net = network(family)
    export(net, folder / f"{family}.onnx")
    try:
        bundle = build(folder / f"{family}.onnx", folder / family, Options(context=64, name="net"))
    except DlpackError as error:
        return str(error).split("\n")[0]
    given = torch.tensor([PROMPT])
    with torch.no_grad():
        wanted = net.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=NEW, do_sample=False,
                              pad_token_id=0)[0, len(PROMPT) :].tolist()  # fmt: skip
    found = dlpack.load(bundle).generate(PROMPT, NEW)
    return "the same tokens" if found == wanted else f"{found} instead of {wanted}"


def main() -> int:
    warnings.filterwarnings("ignore")
    same = True
    with tempfile.TemporaryDirectory() as folder:
        for family in sys.argv[1:] or FAMILIES:
            told = compared(family, Path(folder))
            print(f"{family}: {told}", flush=True)
            same &= told == "the same tokens"
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
