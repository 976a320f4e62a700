"""Core ML's models that are no ML programs: neural networks, trees, linear models, and pipelines of them → ONNX."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import Exported, ExportOptions, PictureInput
from dlpack.exporters.builder import NotConverted, OnnxBuilder
from dlpack.exporters.coreml.features import Feature, inputs_of, labels_of, make_input, outputs_of
from dlpack.exporters.coreml.files import Message
from dlpack.exporters.coreml.networks import network
from dlpack.exporters.coreml.tables import MODELS, columns

_NETWORKS = (303, 403, 500)
_PIPELINES = {200: True, 201: True, 202: False}
"""Fields of Model → whether the pipeline lies in a message of its own inside."""
_OTHERS = {
    301: "supportVectorRegressor", 304: "bayesianProbitRegressor", 401: "supportVectorClassifier",
    404: "kNearestNeighborsClassifier", 501: "itemSimilarityRecommender", 555: "customModel", 556: "linkedModel",
    560: "classConfidenceThresholding", 603: "dictVectorizer", 606: "categoricalMapping", 610: "nonMaximumSuppression",
    2000: "textClassifier", 2001: "wordTagger", 2002: "visionFeaturePrint", 2003: "soundAnalysisPreprocessing",
    2004: "gazetteer", 2005: "wordEmbedding", 2006: "audioFeaturePrint", 3000: "serializedModel",
}  # fmt: skip
"""The kinds of models that are not read, by their fields of Model."""
_MAX_DEPTH = 8


def export_model(model: Message, options: ExportOptions, name: str) -> Exported:
    """The model as ONNX. Raises ModelError for a damaged file, UnsupportedError for what is not read."""
    _check_kinds(model, 0)
    g = OnnxBuilder(name)
    features = inputs_of(model)
    unknown = sorted(set(options.shapes) - {f.name for f in features})
    if unknown:
        raise UsageError(
            f"--shape names the input '{unknown[0]}', which the model does not have; its inputs are: "
            f"{', '.join(f.name for f in features)[:200] or 'none'}"
        )
    if not features:
        raise ModelError("its description names no inputs; the file is damaged, so copy or convert it again")
    values = {f.name: make_input(g, f, options.shapes.get(f.name)) for f in features}
    conversion = _Conversion(g)
    try:
        found = conversion.convert(model, values)
    except NotConverted as e:
        raise UnsupportedError(f"the model cannot be exported: {e} is not supported") from e
    wanted = [f.name for f in outputs_of(model) if f.name in found] or list(found)
    built: ModelProto = g.build([(found[n], n) for n in wanted])
    return Exported(built, conversion.labels or None, _picture(features))


def _kind(model: Message) -> int:
    """The field that holds the model. Raises UnsupportedError for kinds that are not read."""
    kind = next((k for k in model.fields if k in _NETWORKS or k in _PIPELINES or k in MODELS), None)
    if kind is not None:
        return kind
    other = next((text for k, text in _OTHERS.items() if k in model), "")
    if not other:
        raise ModelError("it holds no model; it is damaged or cut off, so copy or convert it again")
    raise UnsupportedError(f"a Core ML model of the kind {other} is not read; give the model that it was made from")


def _parts(model: Message, kind: int) -> list[Message]:
    """The models of a pipeline."""
    message = model.message(kind)
    return (message.message(1) if _PIPELINES[kind] else message).messages(1)


def _check_kinds(model: Message, depth: int) -> None:
    """Raises UnsupportedError unless the model, and all those of its pipelines, are of kinds that are read."""
    kind = _kind(model)
    if kind not in _PIPELINES:
        return
    parts = _parts(model, kind)
    if depth > _MAX_DEPTH or not parts:
        raise ModelError("its pipelines are empty or nested too deeply")
    for part in parts:
        _check_kinds(part, depth + 1)


class _Conversion:
    """Models that are added to one graph, one behind another."""

    def __init__(self, g: OnnxBuilder) -> None:
        self.g = g
        self.labels: tuple[str, ...] = ()

    def convert(self, model: Message, values: Mapping[str, str]) -> dict[str, str]:
        """The outputs' values by name."""
        kind = _kind(model)
        if kind in _PIPELINES:
            return self._pipeline(_parts(model, kind), values)
        missing = next((f.name for f in inputs_of(model) if f.name not in values), None)
        if missing is not None:
            raise ModelError(f"its input '{missing[:60]}' is computed nowhere before it")
        message = model.message(kind)
        self.labels = labels_of(message) or self.labels
        if kind in _NETWORKS:
            return network(self.g, model, message, values)
        return self._table(kind, model, message, values)

    def _pipeline(self, parts: list[Message], values: Mapping[str, str]) -> dict[str, str]:
        known, found = dict(values), dict[str, str]()
        for part in parts:
            found |= self.convert(part, known)
            known |= found
        return found

    def _table(self, kind: int, model: Message, message: Message, values: Mapping[str, str]) -> dict[str, str]:
        names = [f.name for f in inputs_of(model)]
        if kind == 602:  # the order of a vector's parts is its own
            names = [column.text(1) for column in message.messages(1)] or names
        description = model.message(2)
        if any(n not in values for n in names) or not names:
            raise ModelError("a vector is made of what is computed nowhere")
        output = next((f.name for f in outputs_of(model)), "output")
        with self.g.scope(output):
            made = MODELS[kind](self.g, message, columns(self.g, [values[n] for n in names]))
            found = {output: made}
            if kind in (400, 402):
                predicted, probability = description.text(11) or output, description.text(12) or "classProbability"
                found = {predicted: self._label(made, message, labels_of(message)), probability: made}
            return dict(zip(found, self.g.publish(list(found.values()), list(found), output), strict=True))

    def _label(self, probabilities: str, message: Message, classes: tuple[str, ...]) -> str:
        """The most probable class: its number, or its index where classes are texts."""
        index = str(self.g.op("ArgMax", probabilities, axis=1, keepdims=0))
        if 101 not in message:
            return index
        return str(self.g.op("Gather", self.g.constant(np.array([int(c) for c in classes], np.int64)), index))


def _picture(features: list[Feature]) -> PictureInput | None:
    """Of the first input that is a picture: what is done to its values is part of the graph."""
    first = next((f for f in features if f.kind == "image" and f.color), None)
    return PictureInput(first.name, first.color, 1.0, (0.0,) * first.shape[1]) if first else None
