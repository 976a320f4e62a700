"""Folders of models that read a text and write another → one ONNX graph of encoder and decoder, and how answers begin.

As the hub has them (config.json and model.safetensors), or as optimum exports them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlpack.errors import ModelError, UsageError
from dlpack.exporters.base import Exported, ExportOptions, set_metadata
from dlpack.exporters.builder import Array
from dlpack.exporters.transformers import bart, t5
from dlpack.exporters.transformers.encoder_decoder import made_of, settings, weight_files
from dlpack.meaning.answers import METADATA_KEY

FAMILIES = (*bart.KINDS, *t5.KINDS)


def answers_texts(folder: Path) -> bool:
    """Whether the folder's config.json is that of a model which reads a text and writes another."""
    config = settings(folder, "config.json")
    names = config.get("architectures") or [""]
    return config.get("model_type") in FAMILIES and str(names[0]).endswith(("ConditionalGeneration", "MTModel"))


def export_answers(folder: Path, options: ExportOptions) -> Exported:
    """The folder's model. Raises UnsupportedError for what this is not written for, ModelError for damaged files."""
    if options.shapes:
        raise UsageError("the sizes of this model are --source and --context: remove --shape")
    config, files = settings(folder, "config.json"), weight_files(folder)
    graph, model = made_of(files, lambda tensors, exported: _graph(config, tensors, exported))
    told = {**config, **{k: v for k, v in settings(folder, "generation_config.json").items() if v is not None}}
    answers, said = _answers(told, graph.known)
    if not (folder / "tokenizer.json").is_file() and (pieces := _pieces(folder)):
        said = (*said, f"{pieces} is no tokenizer.json, which is what is read: texts are lists of tokens then")
    set_metadata(model, METADATA_KEY, json.dumps(answers))
    return Exported(model, params=files[0], warnings=said)


def _pieces(folder: Path) -> str:
    """A file of SentencePiece's in the folder; "" where there is none."""
    return next((p.name for p in sorted(folder.iterdir()) if p.suffix in (".spm", ".model")), "")


def _graph(config: Mapping[str, Any], tensors: Mapping[str, Array], exported: str) -> bart.Bart | t5.T5:
    kind = bart.Bart if config["model_type"] in bart.KINDS else t5.T5
    return kind(config, tensors, exported)


def _answers(told: Mapping[str, Any], known: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """How answers begin and what they never have, as transformers' `generate` reads these files; what to warn of."""
    start = told.get("decoder_start_token_id", told.get("bos_token_id"))
    begin = [token for token in (start, told.get("forced_bos_token_id")) if token is not None]
    if start is None or not all(type(token) is int and token >= 0 for token in begin):
        raise ModelError("config.json and generation_config.json do not say with which token an answer begins")
    words = told.get("bad_words_ids") or []
    if not isinstance(words, list) or not all(isinstance(w, list) for w in words):
        raise ModelError("bad_words_ids is no list of lists of tokens")
    never = [w[0] for w in words if len(w) == 1] + list(told.get("suppress_tokens") or [])
    more = [w for w in words if len(w) > 1]
    said = (f"bad_words_ids: {len(more)} of several tokens each are not heeded",) if more else ()
    return {"start": begin, "suppressed": never, "source": known, "context": known}, said
