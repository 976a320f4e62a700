"""Float networks made integer networks by onnxruntime's quantiser: 8 bits, a scale per channel of the weights."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import version_converter

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Array
from dlpack.precision.samples import Samples

QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators with the multiply-adds; a model without any of them is not quantised."""

_BETWEEN = (
    *("Add", "Mul", "Concat", "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Pad", "Split", "HardSigmoid", "Gather"),
)
"""Operators between them that lose little in 8 bits. Softmax, normalisation, Exp and the like stay float32."""


PER_CHANNEL_OPSET = 13
"""The first opset whose DequantizeLinear has a scale per channel."""


def quantize(model: onnx.ModelProto, samples: Samples) -> onnx.ModelProto:
    """The cleaned float32 `model` as an integer network (QuantizeLinear, DequantizeLinear) with ranges from `samples`.

    Activations are uint8, weights int8, symmetric, with a scale per output channel. Raises UnsupportedError for a
    model that has nothing to quantise, or that is quantised already.
    """
    operators = {node.op_type for node in model.graph.node}
    if any("Quantize" in op or "Integer" in op for op in operators):
        raise UnsupportedError("--quantize: the model is quantised already: build it without the option")
    if not operators & set(QUANTISED):
        raise UnsupportedError(f"--quantize: the model has none of {', '.join(QUANTISED)}, so int8 gains nothing")
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says on the root logger that the model was not prepared as it would do it
    try:
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
            onnx.save(_new_enough(model), given)  # a model in memory would be changed
            quantize_static(
                given,
                made,
                _reader(samples),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*QUANTISED, *_BETWEEN],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return onnx.load(made)
    except Exception as e:  # the quantiser raises anything
        raise UnsupportedError(f"--quantize: onnxruntime cannot quantise this model: {e}") from e
    finally:
        logger.setLevel(level)


def _new_enough(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset that has what the quantiser writes."""
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), PER_CHANNEL_OPSET)
    return model if opset >= PER_CHANNEL_OPSET else version_converter.convert_version(model, PER_CHANNEL_OPSET)


def _reader(samples: Samples) -> Any:
    """The samples as onnxruntime's calibration asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Mapping[str, Array]] = iter(samples.runs)

        def get_next(self) -> Mapping[str, Array] | None:
            return next(self.left, None)

    return Reader()
