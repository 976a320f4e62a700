"""Core ML's neural networks (neuralNetwork, and those of classifiers and regressors) → ONNX."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

import dlpack.exporters.coreml.network_layers
import dlpack.exporters.coreml.network_math
import dlpack.exporters.coreml.network_moves
import dlpack.exporters.coreml.network_recurrent  # noqa: F401 - these enter their converters
from dlpack.errors import DlpackError, ModelError, UnsupportedError
from dlpack.exporters.builder import NotConverted, OnnxBuilder
from dlpack.exporters.coreml.features import Feature, inputs_of, labels_of, outputs_of
from dlpack.exporters.coreml.files import Message
from dlpack.exporters.coreml.layer import CONVERTERS, Layer
from dlpack.exporters.coreml.layer_names import LAYER_NAMES
from dlpack.exporters.layers import reshape

_GENERAL = 20
"""Fields of NeuralNetworkLayer up to this are no kinds of layers."""


def network(g: OnnxBuilder, model: Message, message: Message, values: Mapping[str, str]) -> dict[str, str]:
    """Adds the layers of a neural network to the graph; returns the values of its outputs by name.

    `values` are those of its inputs. A classifier's output is its probabilities, [rows, classes].
    """
    return _Network(g, model, message).run(values)


class _Network:
    def __init__(self, g: OnnxBuilder, model: Message, message: Message) -> None:
        self.g, self.model, self.message = g, model, message
        self.exact = bool(message.whole(5))
        self.values: dict[str, str | None] = {}
        self.problems: list[str] = []

    def run(self, values: Mapping[str, str]) -> dict[str, str]:
        for f in inputs_of(self.model):
            self.values[f.name] = self._mapped(f, values[f.name])
        self._preprocess()
        for k, layer in enumerate(self.message.messages(1)):
            self._layer(k, layer)
        if self.problems:
            raise UnsupportedError("the model cannot be exported:", tuple(dict.fromkeys(self.problems)))
        return self._outputs()

    def _mapped(self, f: Feature, x: str) -> str:
        """An input in the dimensions that the layers see."""
        x = self.g.op("Cast", x, to=1) if self.g.dtype(x) != np.float32 else x
        if f.kind == "image" or (f.kind == "array" and self.exact):
            return x
        shape = self.g.shape(x)
        declared = len(f.shape) if f.kind == "array" else 1
        own, lead = shape[len(shape) - declared :], math.prod(shape[: len(shape) - declared])
        if declared in (4, 5):
            return reshape(self.g, x, (math.prod(shape[:-3]), *shape[-3:]))
        if declared not in (1, 3) or f.kind != "array":
            return reshape(self.g, x, (1, math.prod(shape), 1, 1))
        return reshape(self.g, x, (lead, *(own if declared == 3 else (*own, 1, 1))))

    def _preprocess(self) -> None:
        images = {f.name: f for f in inputs_of(self.model) if f.kind == "image"}
        for step in self.message.messages(2):
            name = step.text(1) or next(iter(images), "")
            x = self.values.get(name)
            if x is None or name not in images:
                raise ModelError(f"its preprocessing is of '{name[:60]}', which is no picture that it takes")
            with self.g.scope(f"{name}_preprocessed"):
                self.values[name] = self._preprocessed(step, x, images[name].color)

    def _preprocessed(self, step: Message, x: str, color: str) -> str:
        if 11 in step:
            mean, shape = step.message(11).numbers(1, "<f4"), self.g.shape(x)[1:]
            if mean.size != math.prod(shape):
                raise ModelError(f"its mean image has {mean.size} values, not {math.prod(shape)}")
            return str(self.g.op("Sub", x, self.g.constant(mean.reshape(shape))))
        scaler = step.message(10)
        order = {"GRAY": (30,), "RGB": (22, 21, 20), "BGR": (20, 21, 22)}.get(color, (30,))
        bias = np.array([scaler.number(k) for k in order], np.float32).reshape(-1, 1, 1)
        y = str(self.g.op("Mul", x, self.g.scalar(scaler.number(10))))
        return str(self.g.op("Add", y, self.g.constant(bias))) if bias.any() else y

    def _layer(self, number: int, message: Message) -> None:
        field = next((k for k in message.fields if k > _GENERAL), 0)
        kind, outputs = LAYER_NAMES.get(field, f"layer {field}"), message.texts(3)
        name = message.text(1) or (outputs or [""])[0]
        where = f"layer {number} '{name[:60]}' ({kind})"
        names = message.texts(2)
        missing = next((n for n in names if n not in self.values), None)
        self.values.update(dict.fromkeys(outputs))
        try:
            converter = CONVERTERS.get(kind)
            if converter is None:
                raise NotConverted("this layer")
            if missing is not None:
                raise ModelError(f"its input '{missing[:60]}' is computed nowhere before it")
            known = [v for n in names if (v := self.values[n]) is not None]
            if len(known) < len(names):
                return  # its operand is a problem that is told already
            with self.g.scope(name):
                layer = Layer(self.g, name, kind, message.message(field), known, len(outputs))
                made = converter(layer)
                results = made if isinstance(made, list) else [made]
                if len(results) != len(outputs):
                    raise ModelError(f"it has {len(outputs)} outputs; a layer of this kind has {len(results)}")
                self.values.update(zip(outputs, self.g.publish(results, outputs, name), strict=True))
        except (NotConverted, UnsupportedError) as e:
            self.problems.append(f"{where}: {e} is not supported")
        except DlpackError as e:
            raise type(e)(f"{where}: {e}") from e
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as e:
            raise ModelError(f"{where}: its parameters do not fit: {e}") from e

    def _outputs(self) -> dict[str, str]:
        labels = labels_of(self.message)
        if labels:
            return self._probabilities(labels)
        found = {}
        for f in outputs_of(self.model):
            value = self.values.get(f.name)
            if value is None:
                raise ModelError(f"its output '{f.name[:60]}' is computed nowhere")
            with self.g.scope(f.name):
                value = value if self.exact else self._squeezed(f, value)
                found[f.name] = self.g.publish([value], [f.name], f.name)[0]
        if not found:
            raise ModelError("it has no outputs")
        return found

    def _squeezed(self, f: Feature, value: str) -> str:
        """As declared, if that is known; without the dimensions of 1 that only stand for the five otherwise."""
        shape = self.g.shape(value)
        if f.kind == "array" and f.shape and math.prod(f.shape) == math.prod(shape):
            return reshape(self.g, value, f.shape)
        if f.kind == "image":
            return value
        while len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        return reshape(self.g, value, shape)

    def _probabilities(self, labels: tuple[str, ...]) -> dict[str, str]:
        wanted = self.message.text(200)
        used = {n for layer in self.message.messages(1) for n in layer.texts(2)}
        last = [n for layer in self.message.messages(1) for n in layer.texts(3) if n not in used]
        name = wanted if wanted in self.values else next(reversed(last), "")
        value = self.values.get(name)
        if value is None:
            raise ModelError(f"its probabilities, '{name[:60]}', are computed nowhere")
        total = math.prod(self.g.shape(value))
        if total % len(labels):
            raise ModelError(f"it has {len(labels)} classes, and {total} probabilities")
        output = self.model.message(2).text(12) or name
        with self.g.scope(output):
            value = reshape(self.g, value, (total // len(labels), len(labels)))
            return {output: self.g.publish([value], [output], output)[0]}
