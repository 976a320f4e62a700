"""scikit-learn → ONNX: estimators and pipelines in `.skops` files, by skl2onnx.

A `.skops` file is data, and is loaded only if all its types are known to skops or `files.py`; a pickle
(`.pkl`, `.joblib`) runs code when it is loaded, so it is refused. An array of a damaged file could make scikit-learn's
compiled code read outside of it: `worker.py` loads it first, in a process of its own, and predicts there;
what skl2onnx has made is compared with that, since it drops options that it does not know without a word.
"""

from __future__ import annotations

import importlib.util
import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from dlpack.archives import ZIP_ERRORS
from dlpack.errors import DlpackError, ModelError, ToolchainError, UnsupportedError, UsageError
from dlpack.exporters.base import HEAD_BYTES, TABLE, TEXT, Exported, Exporter, ExportOptions, rows_of, set_metadata
from dlpack.exporters.foreign_pickles import saving
from dlpack.exporters.sklearn.check import Check, compare
from dlpack.exporters.sklearn.composites import register
from dlpack.exporters.sklearn.converters import prepare
from dlpack.exporters.sklearn.dictionaries import reads_dictionaries
from dlpack.exporters.sklearn.files import MAX_COLUMNS, first_line, load, parts
from dlpack.exporters.sklearn.labels import class_names, number_strings
from dlpack.exporters.sklearn.texts import Table, innermost, reorder, table_of
from dlpack.meaning.features import to_metadata

OPSETS = {"": 18, "ai.onnx.ml": 3}
_PICKLES = (".pkl", ".pickle", ".joblib")


def recognises(path: Path, start: bytes) -> bool:
    if path.suffix == ".skops":
        return True
    if not start.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive, archive.open("schema.json") as schema:
            return b'"__loader__"' in schema.read(HEAD_BYTES)
    except ZIP_ERRORS:
        return False


def advises(path: Path, _start: bytes) -> str | None:
    if path.suffix in _PICKLES:
        return saving(path)
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        raise UsageError("a .skops file holds the whole model; leave --params out")
    for module, package in (("sklearn", "scikit-learn"), ("skl2onnx", "skl2onnx"), ("skops", "skops")):
        if importlib.util.find_spec(module) is None:
            raise ToolchainError(
                f"{package} is not installed, which reads such models: pip install 'dlpack-aot[sklearn]'"
            )
    with warnings.catch_warnings():  # of versions; what matters ends in an error
        warnings.simplefilter("ignore")
        with Check(path) as check:
            check.survives()
            estimator = load(path)
            table = table_of(estimator, _columns(estimator))
            rows = rows_of(options, len(table.numbers), len(table.texts))
            labels = class_names(estimator)
            model = convert(estimator, table, rows)
            number_strings(model, labels, TEXT)
            found = check.predictions()
            compare(model, found, labels, type(estimator).__name__)
    _state_shapes(model)
    if not table.numbers:
        return Exported(model, labels, warnings=_told(estimator, table))
    set_metadata(model, "dlpack.ranges", json.dumps({TABLE: _range(model)}))
    features = _features(estimator, table, found["near/x"])
    return Exported(model, labels, warnings=_told(estimator, table), features=features)


def _names(estimator: Any, table: Table) -> list[str]:
    """The columns' names, where the estimator was fitted on a table that has them, or on dictionaries."""
    if table.keys:
        return list(table.keys)
    try:
        return [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    except Exception:  # noqa: BLE001 - a pipeline asks its first step
        return []


def _features(estimator: Any, table: Table, rows: Any) -> str | None:
    """The names of the columns of numbers, and their values in `rows`."""
    names = _names(estimator, table)
    low, high = rows.min(axis=0).tolist(), rows.max(axis=0).tolist()
    return to_metadata([names[k] for k in table.numbers] if names else [], list(zip(low, high, strict=True)))


def _told(estimator: Any, table: Table) -> tuple[str, ...]:
    """Which columns the inputs have, where there is one for text."""
    if not table.words or table.lines:
        return ()
    names = _names(estimator, table) or [f"column {k}" for k in range(table.columns)]
    text, numbers = (", ".join(names[k] for k in places) for places in (table.texts, table.numbers))
    return (
        f"the input '{TEXT}' has the columns of text: {text}" + (f"; '{TABLE}' the others: {numbers}" * bool(numbers)),
    )


def _columns(estimator: Any) -> int:
    """The number of columns of the estimator's input; 0 where it is a list, of texts or dictionaries."""
    try:
        columns = getattr(estimator, "n_features_in_", None)
    except Exception:  # noqa: BLE001 - a pipeline asks its first step
        columns = None
    if columns is None and hasattr(first := innermost(estimator), "vocabulary_"):
        if reads_dictionaries(first) and sum(map(reads_dictionaries, parts(estimator))) > 1:
            raise UnsupportedError("several DictVectorizers read the same dictionaries; fit one for all keys")
        return 0
    if not isinstance(columns, int | np.integer):
        raise UnsupportedError(f"the {type(estimator).__name__} has no n_features_in_: it is not fitted")
    if not 1 <= columns <= MAX_COLUMNS:
        raise ModelError(f"the estimator has {columns:,} columns; 1 to {MAX_COLUMNS:,} are accepted")
    return int(columns)


def convert(estimator: Any, table: Table, rows: int) -> ModelProto:
    """The estimator as ONNX; a classifier's labels and scores are a tensor each.

    Inputs, where the table has such columns: X, float32 [rows, columns], and text, strings [rows, columns].
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    inputs = [(TABLE, FloatTensorType([None, len(table.numbers)]))] if table.numbers else []
    # A variable for each: of all columns of one, skl2onnx forgets in which order a transformer takes them.
    inputs += [(f"{TEXT}_{k}", StringTensorType([None, 1])) for k in range(len(table.texts))]

    def attempt(options: dict[Any, Any] | None) -> ModelProto:
        return convert_sklearn(  # type: ignore[no-any-return]
            estimator, "model", initial_types=inputs, target_opset=dict(OPSETS), options=options
        )

    register()
    try:
        for part in parts(estimator):
            prepare(part)
        if table.words and not table.keys:
            reorder(estimator, table)
        try:
            model = attempt({id(estimator): {"zipmap": False}})
        except NameError:  # an estimator without that option has tensors anyway
            model = attempt(None)
        return _finish(model, rows, estimator)
    except (DlpackError, MemoryError, RecursionError):
        raise
    except Exception as e:  # skl2onnx raises many kinds
        if unknown := re.search(r"Unable to find a (?:shape calculator|converter) for type '<class '([\w.]+)", str(e)):
            raise UnsupportedError(
                f"skl2onnx has no converter for {unknown[1]}; replace it by another estimator"
            ) from e
        raise UnsupportedError(f"skl2onnx does not convert this {type(estimator).__name__}: {first_line(e)}") from e


def _finish(model: ModelProto, rows: int, estimator: Any) -> ModelProto:
    """Fixes the number of rows, names scores that are not probabilities, and drops duplicate outputs of skl2onnx."""
    graph = model.graph
    _join_texts(graph)
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = rows
    del graph.value_info[:]
    versions = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in sorted(versions.items()))
    for node in graph.node:
        if node.op_type == "StringNormalizer" and not any(a.name == "locale" for a in node.attribute):
            node.attribute.append(helper.make_attribute("locale", "C.UTF-8"))  # not every computer has the default
    for value in graph.output:
        if value.name == "probabilities" and not hasattr(estimator, "predict_proba"):
            value.name = "scores"
            op = "Neg" if _is_support_vector_pair(estimator) else "Identity"
            graph.node.append(helper.make_node(op, ["probabilities"], ["scores"], "scores"))
    model.producer_name, model.producer_version, model.doc_string = "dlpack", "", ""
    return model


def _join_texts(graph: GraphProto) -> None:
    """Makes one input of those of the columns of text."""
    singles = [value.name for value in graph.input if value.name.startswith(f"{TEXT}_")]
    if not singles:
        return
    others = [value for value in graph.input if value.name not in singles]
    text = helper.make_tensor_value_info(TEXT, TensorProto.STRING, [None, len(singles)])
    nodes = []
    for k, name in enumerate(singles):
        place = numpy_helper.from_array(np.array([k], np.int64), f"{name}/column")
        graph.initializer.append(place)
        nodes.append(helper.make_node("Gather", [TEXT, place.name], [name], name, axis=1))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    kept = [ValueInfoProto.FromString(value.SerializeToString()) for value in others]
    del graph.input[:]
    graph.input.extend([*kept, text])


def _state_shapes(model: ModelProto) -> None:
    """Infers the outputs' shapes again: skl2onnx guesses some."""
    from dlpack.model.infer import infer_types, run_types

    outputs = model.graph.output
    for value in outputs:
        value.type.tensor_type.ClearField("shape")
    types = infer_types(model)
    rest = [value.name for value in outputs if value.name not in types or not types[value.name].known]
    try:
        types |= run_types(model, rest, types) if rest else {}
    except Exception as e:  # onnxruntime raises many kinds
        raise UnsupportedError(f"what skl2onnx makes of it does not run: {first_line(e)}") from e
    for value in outputs:
        kind = types[value.name]
        value.type.CopyFrom(helper.make_tensor_type_proto(kind.elem, kind.shape))


def _is_support_vector_pair(estimator: Any) -> bool:
    """Whether it is an SVC of two classes: SVMClassifier gives both scores, that of the second class first."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return type(last).__name__ in ("SVC", "NuSVC") and len(last.classes_) == 2


def _range(model: ModelProto) -> tuple[float, float]:
    """The interesting range of the input: around trees' thresholds or a scaler's data. The build is verified there."""
    low, high = -1.0, 1.0
    for node in model.graph.node:
        if TABLE not in node.input:
            continue
        attributes = {a.name: np.asarray(a.floats, np.float64) for a in node.attribute if a.floats}
        values = np.zeros(0)
        if node.op_type.startswith("TreeEnsemble"):
            values = attributes.get("nodes_values", values)
        elif node.op_type == "Scaler":
            spread = 2 / np.where(attributes["scale"] == 0, 1, np.abs(attributes["scale"]))
            ends = attributes["offset"] + np.array([[-1.0], [1.0]]) * spread
            values = np.median(ends, axis=1)  # columns of the largest numbers would put the others far from all data
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min()) * 1.1), max(high, float(values.max()) * 1.1)
    return low, high


EXPORTER = Exporter("scikit-learn", "model.skops, from skops.io.dump", recognises, export, advises)
