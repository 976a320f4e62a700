"""Hugging Face folders (config.json and safetensors) → ONNX: transformers makes the module, torch.onnx the graph.

The module is the first of the config's architectures, else what AutoModel chooses. Weights are read from safetensors
only, and code in the folder never runs. Tokenizers are left to the user: the inputs are their numbers.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import (
    MAX_LABELS,
    Exported,
    Exporter,
    ExportOptions,
    PictureInput,
    parse_json,
    read_text,
    set_metadata,
)
from dlpack.exporters.builder import Shape
from dlpack.exporters.pytorch.convert import to_onnx
from dlpack.exporters.pytorch.framework import example, import_torch
from dlpack.exporters.transformers.answers import FAMILIES, answers_texts, export_answers
from dlpack.exporters.transformers.whisper import export_whisper, is_whisper

INSTALL = "pip install 'dlpack-aot[transformers]'"
_CONFIG = re.compile(rb'\s*\{.*"(model_type|architectures|transformers_version)"\s*:', re.DOTALL)
_TEXT = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUTS = {"past_key_values", "hidden_states", "attentions", "cross_attentions", "loss"}
"""Outputs of transformers' models that are left out."""


def recognises(path: Path, start: bytes) -> bool:
    return path.name == "config.json" and _CONFIG.match(start) is not None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    folder = path.parent
    if params is not None:
        raise UsageError("the weights of a Hugging Face model are read from its folder; leave --params out")
    if is_whisper(folder):
        return export_whisper(folder, options)
    if answers_texts(folder):
        return export_answers(folder, options)
    transformers = _import(folder)
    torch = import_torch()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(
            f"{folder} has no weights as safetensors; other files of weights can run what they say. Save the model "
            "again with model.save_pretrained(FOLDER) in a current release of transformers"
        )
    with _told_as_ours(folder), _quiet(transformers):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise UnsupportedError(
                f"{config.model_type} is an encoder and a decoder that take turns. Of these are built: Whisper, and of "
                f"text {', '.join(FAMILIES)}, each with its head (ForConditionalGeneration, MarianMTModel)"
            )
        module = _class(transformers, config).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, attn_implementation="eager"
        )
    shapes = _shapes(module, config, options)
    inputs = {n: example(s, "int64" if n in _TEXT else "float32") for n, s in shapes.items()}
    model = to_onnx(_wrapped(torch, module), inputs, by_name=True)
    set_metadata(model, "dlpack.ranges", json.dumps(_ranges(config, shapes)))
    batch = "pixel_values" in shapes and not options.shapes
    said = ("the batch is taken as 1; --shape gives another size",) if batch else ()
    return Exported(model, _labels(config), _picture(folder, shapes), files[0], said)


def _import(folder: Path) -> Any:
    try:
        import transformers
    except ImportError as e:
        raise UsageError(
            f"this is a Hugging Face model, which transformers loads, and {e.name} is not installed: {INSTALL}; or "
            f"pip install 'optimum[onnxruntime]' && optimum-cli export onnx --model {folder} OUT, and "
            f"give OUT/model.onnx"
        ) from e
    return transformers


@contextmanager
def _told_as_ours(folder: Path) -> Iterator[None]:
    """What transformers raises for a damaged folder becomes a ModelError."""
    try:
        yield
    except (ModelError, UnsupportedError, UsageError):
        raise
    except Exception as e:  # it raises all kinds
        line = next((s for s in str(e).strip().splitlines() if s.strip()), type(e).__name__)
        raise ModelError(f"transformers cannot load {folder}: {line[:300]}") from e


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' reports of what it loads."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


def _class(transformers: Any, config: Any) -> Any:
    """The class of the first architecture that transformers has: so the task is that of the weights."""
    for name in config.architectures or ():
        if (found := getattr(transformers, str(name), None)) is not None and inspect.isclass(found):
            return found
    return transformers.AutoModel


def _wrapped(torch: Any, module: Any) -> Any:
    """The module with its outputs as a dict of tensors, without caches and inner states."""
    takes_cache = "use_cache" in inspect.signature(module.forward).parameters

    class Wrapped(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, **inputs: Any) -> Any:
            more = {"use_cache": False} if takes_cache else {}
            result = self.inner(**inputs, **more, return_dict=True)
            return {k: v for k, v in result.items() if k not in _OUTPUTS and isinstance(v, torch.Tensor)}

    return Wrapped()


# --- inputs -----------------------------------------------------------------------------------------------------------


def _shapes(module: Any, config: Any, options: ExportOptions) -> dict[str, Shape]:
    """The shapes of the inputs by name, in the order of the module's arguments."""
    parameters = list(inspect.signature(module.forward).parameters)
    known: dict[str, Shape | None] = {}
    vision = getattr(config, "vision_config", config)
    if "pixel_values" in parameters:
        known["pixel_values"] = _picture_shape(vision)
    if "input_ids" in parameters:
        known["input_ids"] = None
        if "attention_mask" in parameters:
            known["attention_mask"] = None
        if "token_type_ids" in parameters and getattr(config, "type_vocab_size", 0) > 1:
            known["token_type_ids"] = None
    main = getattr(module, "main_input_name", "")
    if main not in known and main in parameters:
        known[main] = None
    unknown = sorted(n for n in options.shapes if n not in parameters)
    if unknown or not known:
        raise UsageError(
            f"--shape names the input '{(unknown or [''])[0]}', which the model does not have; its inputs are: "
            f"{', '.join(known) or 'none that are known'}"
        )
    text = options.shapes.get("input_ids")
    for name in known:
        given = options.shapes.get(name)
        known[name] = given or known[name] or (text if name in _TEXT else None)
    known |= {n: s for n, s in options.shapes.items() if n not in known}
    missing = [n for n, s in known.items() if s is None]
    if missing:
        raise UsageError(
            "the model takes sequences of any length, and a bundle has one; give it, for instance: "
            f"--shape {missing[0]}={_suggested(missing[0], config)}"
        )
    return {n: s for n, s in sorted(known.items(), key=lambda item: parameters.index(item[0])) if s is not None}


def _picture_shape(config: Any) -> Shape | None:
    size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
    if isinstance(size, int):
        size = (size, size)
    if not isinstance(size, list | tuple) or len(size) != 2:
        return None
    return (1, int(channels), int(size[0]), int(size[1]))


def _suggested(name: str, config: Any) -> str:
    if name in _TEXT:
        return f"1x{min(128, int(getattr(config, 'max_position_embeddings', 128) or 128))}"
    return "1x3x224x224" if name == "pixel_values" else "1x16000"


def _ranges(config: Any, shapes: Mapping[str, Shape]) -> dict[str, tuple[int, int]]:
    """The whole numbers that the inputs may have."""
    text = getattr(config, "text_config", config)
    limits = {"input_ids": getattr(text, "vocab_size", 2), "attention_mask": 2,
              "token_type_ids": getattr(text, "type_vocab_size", 2)}  # fmt: skip
    return {n: (0, int(limits[n]) - 1) for n in shapes if n in limits}


# --- what the outputs and pictures mean -------------------------------------------------------------------------------


def _labels(config: Any) -> tuple[str, ...] | None:
    """The classes' names; None for those that transformers makes up."""
    found = getattr(config, "id2label", None)
    classifies = any("Classification" in str(name) for name in config.architectures or ())
    if not isinstance(found, dict) or not classifies or len(found) > MAX_LABELS:
        return None
    names = [str(found[k]) for k in sorted(found, key=int)]
    return None if names == [f"LABEL_{k}" for k in range(len(names))] else tuple(names)


def _picture(folder: Path, shapes: Mapping[str, Shape]) -> PictureInput | None:
    """As preprocessor_config.json says, where one scale serves all channels."""
    file, shape = folder / "preprocessor_config.json", shapes.get("pixel_values", ())
    if not file.is_file() or len(shape) != 4:
        return None
    said = parse_json(read_text(file), file.name)
    if not isinstance(said, dict):
        return None
    scale = float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
    mean, std = [0.0] * shape[1], [1.0] * shape[1]
    if said.get("do_normalize", True):
        mean, std = said.get("image_mean", mean), said.get("image_std", std)
    if len(mean) != shape[1] or len(set(std)) != 1 or not std[0]:
        return None
    size = said.get("size", {})
    shorter = size.get("shortest_edge") if isinstance(size, dict) else None
    return PictureInput("pixel_values", "RGB", scale / std[0], tuple(m / std[0] for m in mean), shorter)


EXPORTER = Exporter("Hugging Face", "a folder with config.json and model.safetensors", recognises, export)
