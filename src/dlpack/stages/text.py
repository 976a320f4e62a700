"""The tokenizer of a build: found, read, checked against the model, and put behind the weights of its programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.errors import DlpackError, UsageError
from dlpack.options import Options, Progress
from dlpack.source import Source

if TYPE_CHECKING:
    from dlpack.plan.program import Program
    from dlpack.plan.text_part import Embedding
    from dlpack.tokenizer.spec import Tokenizer

NONE = "none"
"""What --tokenizer says where the file beside the model is not wanted."""

POOLINGS = ("cls", "mean", "max", "last")


@dataclass(frozen=True)
class Found:
    """A tokenizer that fits the model. `pooling` and `normalize`: of the options, or of the model's folder; `misfit`:
    what the folder says that is not supported, "" where everything is.

    `asked`: the user has said how a text is embedded, so that a model for which this is impossible is an error.
    `stops`: the tokens that end a text, as the model's folder says.
    """

    tokenizer: Tokenizer
    pooling: str
    normalize: bool
    asked: bool
    stops: tuple[int, ...] = ()
    misfit: str = ""


def find_tokenizer(model: Path, source: Source, options: Options, progress: Progress) -> Found | None:
    """The tokenizer that the options name, or that lies beside the model; None where there is none.

    One that was found is not used, with a warning, where it cannot be; one that was named is an error then.
    """
    from dlpack.tokenizer.read import read_tokenizer

    named = options.tokenizer
    if named is not None and str(named) == NONE:
        return None
    path = named or beside(model)
    if path is None:
        if options.embedding:
            raise UsageError("--embedding needs a tokenizer: give its file with --tokenizer tokenizer.json")
        return None
    if named is None and not token_inputs(source.proto):
        return None
    with progress.stage("tokenizer") as detail:
        try:
            tokenizer = read_tokenizer(path)
            check_fit(tokenizer, source.proto)
            pooling, normalize, misfit = _pooling(path.parent, options)
        except DlpackError as e:
            if named is not None:
                raise
            progress.warn(f"{path} is not used: {e}; --tokenizer none says that it is not wanted")
            detail.append("not used")
            return None
        detail.append(f"{tokenizer.model_name}, {len(tokenizer.strings):,} tokens")
    stops = _stops(path.parent, len(tokenizer.strings))
    return Found(tokenizer, pooling, normalize, bool(options.embedding), stops, misfit)


def _stops(folder: Path, tokens: int) -> tuple[int, ...]:
    """`eos_token_id` of generation_config.json, or else of config.json: one id or several."""
    for name in ("generation_config.json", "config.json"):
        told = _json(folder / name)
        found = told.get("eos_token_id") if isinstance(told, dict) else None
        ids = found if isinstance(found, list) else [found]
        if all(type(i) is int and 0 <= i < tokens for i in ids):
            return tuple(ids)
    return ()


def beside(model: Path) -> Path | None:
    """The tokenizer.json in the model's folder, or in the one around a folder called onnx."""
    folder = model if model.is_dir() else model.parent
    places = [folder, *([folder.parent] if folder.name == "onnx" else [])]
    found = (place / "tokenizer.json" for place in places)
    return next((path for path in found if model.exists() and path.is_file()), None)


_INTEGERS = (6, 7)
"""ONNX's numbers of int32 and int64."""

_CARRIED = frozenset({"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Clip", "Transpose", "Expand"})
"""Operators behind which ids are still ids."""


def token_inputs(proto: Any) -> dict[str, int]:
    """The inputs that are looked up in a table, each with the number of its rows."""
    tables = {t.name: t.dims[0] for t in proto.graph.initializer if len(t.dims) == 2}
    tables |= {
        node.output[0]: a.t.dims[0]
        for node in proto.graph.node
        if node.op_type == "Constant"
        for a in node.attribute
        if a.name == "value" and len(a.t.dims) == 2
    }
    ids = {v.name: v.name for v in proto.graph.input if v.type.tensor_type.elem_type in _INTEGERS}
    found: dict[str, int] = {}
    for node in proto.graph.node:
        inputs = list(node.input)
        if node.op_type in ("Identity", "Cast", "DequantizeLinear") and inputs[0] in tables:
            tables[node.output[0]] = tables[inputs[0]]
        elif node.op_type in _CARRIED and inputs and inputs[0] in ids:
            ids[node.output[0]] = ids[inputs[0]]
        elif node.op_type == "Gather" and inputs[1] in ids and inputs[0] in tables:
            name = ids[inputs[1]]
            found[name] = min(found.get(name, tables[inputs[0]]), tables[inputs[0]])
    return found


def check_fit(tokenizer: Tokenizer, proto: Any) -> None:
    """Raises UsageError where the tokenizer has ids that the model has no row for."""
    looked_up = token_inputs(proto)
    ids = next((name for name in looked_up if role_of(name) == "ids"), None)
    largest = max(k for k, string in enumerate(tokenizer.strings) if string is not None)
    if ids is not None and largest >= looked_up[ids]:
        raise UsageError(
            f"the tokenizer does not fit the model: its ids go up to {largest:,}, and the input '{ids}' may be below "
            f"{looked_up[ids]:,}"
        )


def role_of(name: str) -> str:
    """What an input of that name takes: "ids", "mask", "types", or "" where that is not known."""
    name = name.lower()
    if "type" in name or "segment" in name:
        return "types"
    if "mask" in name:
        return "mask"
    if "position" in name or "past" in name:
        return ""
    return "ids" if any(word in name for word in ("id", "token", "input", "text")) else ""


_MODES = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "lasttoken": "last"}
"""sentence-transformers' names of poolings, behind pooling_mode_."""

_MODULES = ("Transformer", "Pooling", "Normalize", "Dropout")
"""The modules of sentence-transformers that are known; Dropout does nothing here."""


def _pooling(folder: Path, options: Options) -> tuple[str, bool, str]:
    """How tokens become one vector: as the options say, or the folder of a sentence-transformers model; and what that
    says which is not supported."""
    if options.embedding:
        words = options.embedding.split(",")
        if words[0] not in POOLINGS or words[1:] not in ([], ["normalize"]):
            raise UsageError(
                f"--embedding {options.embedding}: write {', '.join(POOLINGS)}, or one of them and ,normalize"
            )
        return words[0], len(words) > 1, ""
    told = _json(folder / "1_Pooling" / "config.json")
    if not isinstance(told, dict):
        return "cls", False, ""
    modes: list[str] = [_MODES.get(str(k).removeprefix("pooling_mode_"), str(k)) for k, on in told.items()
                        if str(k).startswith("pooling_mode_") and on is True]  # fmt: skip
    if "pooling_mode" in told:  # newer files name it
        named = told["pooling_mode"]
        modes = [_MODES.get(str(n), str(n)) for n in (named if isinstance(named, list) else [named])]
    listed = _json(folder / "modules.json")
    modules = [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    kinds = [str(m.get("type")).rpartition(".")[2] for m in modules]
    misfit = ""
    if len(modes) != 1 or modes[0] not in POOLINGS:
        misfit = f"{folder / '1_Pooling'}: the pooling {', '.join(modes) or 'of nothing'} is not supported"
    elif others := [kind for kind in kinds if kind not in _MODULES]:
        misfit = f"{folder / 'modules.json'}: the module {others[0]} behind the pooling is not supported"
    return modes[0] if modes else "", "Normalize" in kinds, misfit


def _json(path: Path) -> Any:
    """A small JSON file's content, None where there is none."""
    try:
        return json.loads(path.read_bytes()[: 1 << 20])
    except OSError:
        return None
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{path} is not JSON: {e}") from e


def with_tokenizer(
    programs: Mapping[str, Program], found: Found | None, outputs: int, options: Options, progress: Progress
) -> dict[str, Program]:
    """The programs with the tokenizer's tables behind their weights; `outputs`: how many are the model's own.

    Warns where texts cannot be embedded as the model's folder says. Raises UsageError where the user has said how a
    text is embedded, and the model is not of that kind.
    """
    from dlpack.tokenizer.tables import text_part

    if found is None:
        return dict(programs)
    program = next(iter(programs.values()))
    embedding = embedding_of(program, found, outputs)
    if embedding and embedding.pooling != "none" and found.misfit:
        progress.warn(f"{found.misfit}, so there is no embed(); --embedding mean, say, makes one of the tokens alone")
        embedding = None
    if embedding is None and found.asked:
        raise UsageError(
            f"--embedding {options.embedding}: a model that embeds texts has inputs input_ids, and perhaps "
            "attention_mask and token_type_ids, of integers with batch 1, and an output of float32, tokens x numbers"
        )
    offset = -(-len(program.weights) // 64) * 64
    data, part = text_part(found.tokenizer, offset, options.text_bytes, embedding)
    if program.decoder:
        piece = 8 * max(len(s) for s in found.tokenizer.strings if s is not None) + 64
        room = (program.decoder.most + 1) * (8 + 4) + piece
        work = part.work_bytes + -(-room // 64) * 64
        part = replace(part, stops=found.stops, piece=piece, writer=part.work_bytes, work_bytes=work)
    weights = program.weights.ljust(offset, b"\0") + data
    return {machine: replace(p, weights=weights, text=part) for machine, p in programs.items()}


def embedding_of(program: Program, found: Found, outputs: int) -> Embedding | None:
    """How the model embeds a text; None where it is not of that kind."""
    from dlpack.plan.text_part import Embedding

    roles: dict[str, int] = {}
    for k, tensor in enumerate(program.inputs):
        role = role_of(tensor.name)
        if not role or role in roles or tensor.dtype not in ("int32", "int64"):
            return None
        roles[role] = k
    if "ids" not in roles:
        return None
    lengths = []
    for shapes in program.one_text_ends:
        found_shapes = {shapes.inputs[k].shape for k in roles.values()}
        (shape,) = found_shapes if len(found_shapes) == 1 else ((),)
        lengths.append(shape[1] if len(shape) == 2 and shape[0] == 1 else 0)
    around = len(found.tokenizer.before) + len(found.tokenizer.behind)
    if max(lengths) <= around:
        return None
    number = lengths.index(max(lengths))
    candidates = {
        t.name: (k, t.shape, t.shape[:2] == (1, lengths[number]) and len(t.shape) == 3)
        for k, t in enumerate(program.one_text_ends[number].outputs[:outputs])
        if t.dtype == "float32" and not t.true_shape and t.shape and t.shape[-1] != len(found.tokenizer.strings)
    }
    whole = [name for name in ("sentence_embedding", "text_embeds", "embeddings") if name in candidates]
    rows = [name for name, (_, _, by_token) in candidates.items() if by_token and "logits" not in name.lower()]
    if whole and len(candidates[whole[0]][1]) == 2 and not found.asked:
        k, shape, _ = candidates[whole[0]]
        pooling = "none"
    elif rows:
        k, shape, _ = candidates[rows[0]]
        pooling = found.pooling
    else:
        return None
    return Embedding(
        roles["ids"], roles.get("mask"), roles.get("types"), tuple(lengths), k, shape[-1], pooling, found.normalize
    )


def described(program: Program, found: Found) -> dict[str, Any]:
    """The manifest's `tokenizer` and, if texts can be embedded, `embedding`."""
    from dlpack.tokenizer.tables import pad_id

    part, tokenizer = program.text, found.tokenizer
    assert part is not None
    told: dict[str, Any] = {
        "tokenizer": {
            "model": tokenizer.model_name,
            "tokens": part.tokens,
            "table_bytes": len(program.weights) - part.offset,
            "text_bytes": part.most_bytes,
            "before": [number for number, _ in tokenizer.before],
            "behind": [number for number, _ in tokenizer.behind],
            "pad": pad_id(tokenizer),
            **({"stop": list(part.stops)} if program.decoder else {}),
        }
    }
    if e := part.embedding:
        told["embedding"] = {
            "output": program.outputs[e.output].name,
            "size": e.size,
            "tokens": max(e.lengths),
            "pooling": e.pooling,
            "normalize": e.normalize,
        }
    return told
