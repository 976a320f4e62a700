"""ncnn → ONNX: a .param with its .bin. ncnn itself is not needed.

Values have ncnn's blobs' names, and a batch of 1 before their dimensions. The outputs are the blobs that no layer
reads.
"""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto

import dlpack.exporters.ncnn.layers
import dlpack.exporters.ncnn.math
import dlpack.exporters.ncnn.tensor  # noqa: F401 - these enter their converters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import Exported, Exporter, ExportOptions, find_params, read_bytes, read_text
from dlpack.exporters.builder import NotConverted, OnnxBuilder, Shape
from dlpack.exporters.ncnn.call import CONVERTERS, Layer
from dlpack.exporters.ncnn.files import MAGIC, Line, Weights, parse_param

_BINARY = int(MAGIC).to_bytes(4, "little")


def recognises(_: Path, start: bytes) -> bool:
    return start.split(maxsplit=1)[:1] == [MAGIC.encode()]


def advises(path: Path, start: bytes) -> str | None:
    text = path.with_suffix(".param")
    if start.startswith(_BINARY):
        return "this is ncnn's .param.bin, which has no names; give the .param that it was made from"
    if path.suffix == ".bin" and text.is_file():
        return f"these are ncnn's weights; give {text.name} beside them, and this file with --params"
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    lines = parse_param(read_text(path))
    stems = [path.stem, path.stem.removesuffix(".ncnn")]
    used = find_params(path, params, stems, ".bin", lambda start: not start.startswith(_BINARY))
    weights = Weights(read_bytes(used))
    model = _convert(lines, weights, options, path.stem)
    warnings: tuple[str, ...] = ()
    if weights.left:
        warnings = (f"{used.name} has {weights.left:,} bytes more than {path.name} needs; check that they belong "
                    "together",)  # fmt: skip
    return Exported(model, params=used, warnings=warnings)


def _convert(lines: list[Line], weights: Weights, options: ExportOptions, name: str) -> ModelProto:
    g = OnnxBuilder(name)
    values = _inputs(g, lines, options)
    read = {blob for line in lines for blob in line.inputs}
    for k, line in enumerate(lines):
        if line.type == "Input":
            continue
        where = f"layer '{line.name[:60]}' ({line.type[:40]})"
        for blob in line.inputs:
            if blob not in values:
                raise ModelError(f"{where}: its input '{blob[:60]}' is not the output of an earlier layer")
        inputs = [values[blob] for blob in line.inputs]
        converter = CONVERTERS.get(line.type)
        try:
            if converter is None:
                raise NotConverted("this type of layer")
            with g.scope(line.name):
                made = converter(Layer(g, line, inputs, weights))
                results = made if isinstance(made, list) else [made]
                if len(results) != len(line.outputs):
                    raise ModelError(f"it has {len(line.outputs)} outputs; a layer of this type has {len(results)}")
                published = g.publish(results, line.outputs, line.name)
        except (NotConverted, UnsupportedError) as e:
            rest = [n for n in lines[k + 1 :] if n.type not in CONVERTERS and n.type != "Input"]
            others = (f"layer '{n.name[:60]}' ({n.type[:40]}): this type of layer is not supported" for n in rest)
            problems = (f"{where}: {e} is not supported", *others)
            raise UnsupportedError("the model cannot be exported:", tuple(dict.fromkeys(problems))) from e
        except DlpackError as e:
            raise type(e)(f"{where}: {e}") from e
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as e:
            shapes = ", ".join(str(list(g.shape(v))) for v in inputs)
            raise ModelError(f"{where}: its inputs or parameters do not fit (inputs {shapes}): {e}") from e
        values.update(zip(line.outputs, published, strict=True))
    outputs = [(values[blob], blob) for line in lines for blob in line.outputs if blob not in read]
    if not outputs:
        raise ModelError("the network has no outputs: every blob is read by a layer")
    return g.build(outputs)


def _inputs(g: OnnxBuilder, lines: list[Line], options: ExportOptions) -> dict[str, str]:
    """The values of the layers Input; their shapes are in the file, or given."""
    blobs: dict[str, Shape] = {}
    for line in lines:
        if line.type == "Input":
            if len(line.outputs) != 1:
                raise ModelError(f"the layer '{line.name[:60]}' (Input) has {len(line.outputs)} outputs")
            sizes = [line.int(k) for k in (2, 11, 1, 0)]
            blobs[line.outputs[0]] = (1, *(v for v in sizes if v > 0))
    unknown = sorted(set(options.shapes) - set(blobs))
    if unknown:
        raise UsageError(
            f"--shape names the input '{unknown[0]}', which the model does not have; its inputs are: "
            f"{', '.join(blobs) or 'none'}"
        )
    shapes = {blob: tuple(options.shapes.get(blob, shape)) for blob, shape in blobs.items()}
    if missing := [blob for blob, shape in shapes.items() if len(shape) == 1]:
        words = " ".join(f"--shape {blob}=1x3x224x224" for blob in missing)
        raise UsageError(f"the .param does not give its inputs' shapes; add them, for instance: {words}")
    if wrong := [blob for blob, shape in shapes.items() if shape[0] != 1 or len(shape) > 5]:
        raise UsageError(f"--shape {wrong[0]}: ncnn computes one sample at a time; give the shape 1x...")
    return {blob: g.input(blob, shape) for blob, shape in shapes.items()}


EXPORTER = Exporter("ncnn", "NAME.param with NAME.bin", recognises, export, advises)
