"""`dlpack run`: a quick look at what a bundle computes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from dlpack.cli.console import OUT, plain
from dlpack.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from dlpack.bundle.hearing import Segment
    from dlpack.bundle.loader import Predictor
    from dlpack.graph.ir import Array

_VALUES = 6
"""So many of an output's values are shown."""


@click.command(
    epilog="\b\nExamples:\n"
    "  dlpack run build/squeezenet --input cat.jpg\n"
    "  dlpack run build/bert --input ids=ids.npy --input mask=mask.npy -o outputs.npz"
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[INPUT=]FILE",
    help="A .npy file, a picture or a .wav file for an input; without INPUT for the only one. Repeatable. "
    "[default: seeded values]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the outputs to this .npz file.")
@click.option("--json", "json_", is_flag=True, help="Print JSON, without the values of outputs.")
def run(bundle: Path, inputs: tuple[str, ...], output: Path | None, json_: bool) -> None:
    """Run BUNDLE once, and show classes, boxes, what is said or a summary of each output.

    Pictures and sounds are prepared as the bundle's --preprocess and --sound say. Without --input it runs on the inputs
    of its verification.
    """
    from dlpack.bundle.loader import load

    with load(bundle) as predictor:
        if len(inputs) == 1 and inputs[0].lower().endswith(".wav") and "speech" in predictor.manifest:
            _write_speech(predictor, Path(inputs[0]), json_)
            return
        arrays, size = _inputs(predictor, inputs, bundle)
        try:
            found = predictor.run(arrays)
        except ValueError as e:
            raise UsageError(str(e)) from e
        facts = {"outputs": [_summary(name, x) for name, x in found.items()], **_meaning(predictor, found, size)}
    if output is not None:
        _save(output, found)
    if json_:
        click.echo(json.dumps(facts, indent=2))
    else:
        _print(facts, found)


def _inputs(
    predictor: Predictor, given: tuple[str, ...], bundle: Path
) -> tuple[dict[str, Array], tuple[int, int] | None]:
    """The arrays by input, and the width and height of the picture if there is one."""
    from dlpack.verify.check import stored_questions

    if not given:
        from dlpack.meaning.shape_sets import tried_sets

        return dict(stored_questions(bundle, tried_sets(predictor.manifest))[0].inputs), None
    arrays: dict[str, Array] = {}
    size: tuple[int, int] | None = None
    for text in given:
        name, path = _split(text, predictor)
        array, of_picture = _read(path, name, predictor)
        arrays[name], size = array, of_picture or size
    return arrays, size


def _split(text: str, predictor: Predictor) -> tuple[str, Path]:
    """The input and the file of `INPUT=FILE`, or of `FILE` for the only input."""
    names = list(predictor.inputs)
    name, equals, path = text.partition("=")
    if equals and name in names:
        return name, Path(path)
    if Path(text).exists() or not equals:
        if len(names) == 1:
            return names[0], Path(text)
        raise UsageError(f"--input {text}: the model has the inputs {', '.join(names)}: write {names[0]}={text}")
    told = ", ".join(f"'{n}'" for n in names) or "none"
    raise UsageError(f"--input {text}: the model has no input {name!r}; it has {told}{did_you_mean(name, names)}")


def _read(path: Path, name: str, predictor: Predictor) -> tuple[Array, tuple[int, int] | None]:
    """The array in a file; of a picture also its width and height."""
    import numpy as np

    if path.suffix.lower() == ".wav":
        return _heard(path, name, predictor), None
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False), None
        from dlpack.meaning.preprocess import open_picture

        picture = open_picture(path)
    except ImportError as e:
        raise UsageError(f"reading the picture {path} needs Pillow: pip install pillow") from e
    except (OSError, ValueError) as e:
        raise UsageError(f"--input {path} is neither a .npy file nor a picture that can be read: {e}") from e
    spec = predictor.manifest.get("preprocess") or {}
    if spec and spec["input"] != name:
        raise UsageError(f"--input {name}={path}: pictures are for the input {spec['input']!r}; give a .npy file")
    return predictor.preprocess(picture), (picture.shape[1], picture.shape[0])


def _heard(path: Path, name: str, predictor: Predictor) -> Array:
    """The input that a sound file becomes."""
    from dlpack.meaning.sound import read_wav

    spec = predictor.manifest.get("sound") or {}
    if spec and spec["input"] != name:
        raise UsageError(f"--input {name}={path}: sound is for the input {spec['input']!r}; give a .npy file")
    try:
        return predictor.preprocess_sound(*read_wav(path))
    except ValueError as e:
        raise UsageError(f"--input {path}: {e}") from e


def _write_speech(predictor: Predictor, path: Path, as_json: bool) -> None:
    """Prints what is said in a file, as it is written, a line for each segment where the model tells times; with
    `as_json` the text when it is written, and the segments.
    """
    from dlpack.meaning.sound import read_wav

    def show(piece: str) -> None:
        click.echo(piece, nl=False)

    def tell(segment: Segment) -> None:
        click.echo(f"{_clock(segment.start)} {_clock(segment.end)}  {segment.text.strip()}")

    try:
        if "times" in predictor.manifest["speech"]:
            found = predictor.segments(*read_wav(path), on_segment=None if as_json else tell)
            told = {"text": "".join(s.text for s in found), "segments": [s._asdict() for s in found]}
        else:
            told = {"text": predictor.transcribe(*read_wav(path), on_text=None if as_json else show)}
            click.echo("", nl=not as_json)
    except ValueError as e:
        raise UsageError(f"--input {path}: {e}") from e
    if as_json:
        click.echo(json.dumps(told))


def _clock(seconds: float) -> str:
    """Minutes, seconds and hundredths."""
    return f"{int(seconds // 60):02}:{seconds % 60:05.2f}"


def _summary(name: str, x: Array) -> dict[str, Any]:
    """Name, type and range of an output; what is not finite is left out of the range, and strings have none."""
    import numpy as np

    if x.dtype.kind == "U":
        return {"name": name, "dtype": "string", "shape": list(x.shape)}
    numbers = x.astype(np.float64).reshape(-1)
    finite = numbers[np.isfinite(numbers)]
    span = {"min": float(finite.min()), "max": float(finite.max()), "mean": float(finite.mean())} if finite.size else {}
    return {"name": name, "dtype": x.dtype.name, "shape": list(x.shape), "nan": int(np.isnan(numbers).sum()), **span}


def _meaning(predictor: Predictor, found: Mapping[str, Array], size: tuple[int, int] | None) -> dict[str, Any]:
    """The likeliest classes, or the boxes in a picture of this size."""
    kind = (predictor.manifest.get("task") or {}).get("kind")
    if kind == "detect" and size is not None:
        from dlpack.meaning.detect import detections

        boxes = detections(found, predictor.manifest, *size, predictor.shape)
        return {"detections": [vars(d) for d in boxes]}
    if kind in ("classify", "digits") or (kind is None and predictor.labels):
        return {"classes": [vars(c) for c in predictor.top_k(5)]}
    return {}


def _print(facts: Mapping[str, Any], found: Mapping[str, Array]) -> None:
    table = Table("output", "type", "min", "max", "mean", "NaN", "values", box=None, pad_edge=False)
    for o in facts["outputs"]:
        span = [f"{o[key]:.4g}" if key in o else "" for key in ("min", "max", "mean")]
        first = found[o["name"]].reshape(-1)[:_VALUES].tolist()
        values = " ".join(v if isinstance(v, str) else f"{v:.4g}" for v in first) + (
            " …" if found[o["name"]].size > _VALUES else ""
        )
        shape = "x".join(map(str, o["shape"]))
        table.add_row(plain(o["name"]), plain(f"{o['dtype']}[{shape}]"), *span, str(o.get("nan", "")), plain(values))
    OUT.print(table)
    if "classes" in facts:
        table = Table("class", "", "probability", box=None, pad_edge=False)
        for c in facts["classes"]:
            table.add_row(str(c["index"]), plain(c["label"]), f"{c['probability']:.4f}")
        OUT.print()
        OUT.print(table)
    if "detections" in facts:
        table = Table("found", "score", "x", "y", "width", "height", box=None, pad_edge=False)
        for d in facts["detections"]:
            box = [f"{d[key]:.0f}" for key in ("x", "y", "width", "height")]
            table.add_row(plain(d["label"]), f"{d['score']:.3f}", *box)
        OUT.print()
        OUT.print(table)


def _save(path: Path, found: Mapping[str, Array]) -> None:
    import numpy as np

    try:
        with path.open("wb") as file:
            np.savez(file, **dict(found))  # type: ignore[arg-type]
    except OSError as e:
        raise UsageError(f"cannot write {path}: {e.strerror or e}") from e
