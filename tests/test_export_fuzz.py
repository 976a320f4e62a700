"""Damaged model files: whatever is done to a file, an exporter gives a model or a DlpackError, soon.

As a test a few hundred mutations of each format; for more: ``script/fuzz --count 20000 [--seed N]``.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import re
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import skip_or_fail
from test_export_caffe import CASES, NET, B, W, caffemodel
from test_export_mxnet import params_bytes, recorded
from test_export_tflite import recorded as tflite_recorded

from dlpack import exporters
from dlpack.errors import DlpackError
from dlpack.exporters import ExportOptions

LIMIT_S = 10.0
NUMBERS = ("0", "-1", "1", "2", "3", "7", "255", "65536", "2147483647", "-2147483648", "4294967296",
           "9223372036854775807", "99999999999999999999999", "1e308", "nan", "inf", "1.5", "")  # fmt: skip


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not out:
            break
        place = rng.randrange(len(out)) if rng.random() < 0.3 or len(out) < 400 else rng.randrange(400)
        kind = rng.randrange(6)
        if kind == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[place] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del out[place : place + rng.randrange(1, 64)]
        elif kind == 3:
            out[place:place] = out[place : place + rng.randrange(1, 64)]
        elif kind == 4:
            del out[place:]
        else:
            out[place : place + 8] = rng.choice(
                (b"\xff" * 8, b"\0" * 8, b"\0\0\0\x80\0\0\0\0", b"\xff\xff\xff\x7f\0\0\0\0")
            )
    return bytes(out)


def mutate_text(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(6)
        if kind <= 2:  # a number
            found = list(re.finditer(r"-?\d+(\.\d+)?", text))
            if found:
                m = rng.choice(found)
                text = text[: m.start()] + rng.choice(NUMBERS) + text[m.end() :]
        elif kind == 3:  # a word for another
            found = list(re.finditer(r"[A-Za-z_]{2,}", text))
            if len(found) > 1:
                m, other = rng.sample(found, 2)
                text = text[: m.start()] + other.group() + text[m.end() :]
        elif kind == 4:
            place = rng.randrange(len(text) + 1)
            text = text[:place] + text[place + rng.randrange(1, 30) :]
        else:
            text = mutate_bytes(text.encode(), rng).decode("utf-8", "replace")
    return text


def mxnet_symbol(folder: Path, rng: random.Random) -> tuple[Path, dict[str, tuple[int, ...]]]:
    record = recorded()[rng.choice(sorted(recorded()))]
    arrays = {k: v for k, v in record.items() if k[:4] in ("arg:", "aux:")}
    (folder / "net-symbol.json").write_text(mutate_text(str(record["symbol"]), rng))
    (folder / "net.params").write_bytes(params_bytes(arrays))
    return folder / "net-symbol.json", {k[3:]: v.shape for k, v in record.items() if k.startswith("in:")}


def mxnet_params(folder: Path, rng: random.Random) -> tuple[Path, dict[str, tuple[int, ...]]]:
    record = recorded()[rng.choice(("conv", "batchnorm", "rnn_lstm_1", "embedding", "deconv_bias"))]
    arrays = {k: v for k, v in record.items() if k[:4] in ("arg:", "aux:")}
    (folder / "net-symbol.json").write_text(str(record["symbol"]))
    (folder / "net.params").write_bytes(mutate_bytes(params_bytes(arrays, rng.randrange(4)), rng))
    return folder / "net-symbol.json", {k[3:]: v.shape for k, v in record.items() if k.startswith("in:")}


def mxnetjs(folder: Path, rng: random.Random) -> tuple[Path, dict[str, tuple[int, ...]]]:
    record = recorded()["conv"]
    params = params_bytes({k: v for k, v in record.items() if k.startswith("arg:")})
    if rng.random() < 0.5:
        params = mutate_bytes(params, rng)
    document: dict[str, Any] = {
        "symbol": json.loads(str(record["symbol"])),
        "synset": ["a", "b"],
        "parambase64": base64.b64encode(params).decode(),
        "meanimgbase64": base64.b64encode(
            mutate_bytes(params_bytes({"mean": np.ones((3, 9, 8), np.float32)}), rng)
        ).decode(),
    }
    path = folder / "model.json"
    path.write_text(mutate_text(json.dumps(document), rng) if rng.random() < 0.5 else json.dumps(document))
    return path, {"x": (2, 3, 9, 8)} if rng.random() < 0.5 else {}


def caffe_prototxt(folder: Path, rng: random.Random) -> tuple[Path, dict[str, tuple[int, ...]]]:
    text, inputs, blobs, _ = CASES[rng.choice(sorted(CASES))]
    names = "abc"[: len(inputs)]
    net = "".join(
        f'input: "{n}" input_shape {{ {" ".join(f"dim: {d}" for d in x.shape)} }} '
        for n, x in zip(names, inputs, strict=True)
    )
    net += f'layer {{ name: "layer" {" ".join(f"bottom: {n!r}" for n in names)} top: "z" {text} }}'
    (folder / "net.prototxt").write_text(mutate_text(net, rng))
    (folder / "net.caffemodel").write_bytes(caffemodel({"layer": blobs}))
    return folder / "net.prototxt", {}


def caffe_weights(folder: Path, rng: random.Random) -> tuple[Path, dict[str, tuple[int, ...]]]:
    (folder / "net.prototxt").write_text(NET)
    data = caffemodel({"conv": [W, B]}, old=rng.random() < 0.5, double=rng.random() < 0.3)
    (folder / "net.caffemodel").write_bytes(mutate_bytes(data, rng))
    return folder / "net.prototxt", {}


@cache
def pytorch_archives() -> dict[str, bytes]:
    """A small net as TorchScript and as a torch.export archive."""
    try:
        import torch
    except ImportError:
        skip_or_fail("torch is not installed")
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.ReLU()).eval()
    files = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        for name, save in (
            ("script", lambda stream: torch.jit.save(torch.jit.script(net), stream)),
            ("program", lambda stream: torch.export.save(torch.export.export(net, (torch.ones(2, 4),)), stream)),
        ):
            stream = io.BytesIO()
            save(stream)
            files[name] = stream.getvalue()
    return files


def archive(data: bytes, rng: random.Random) -> bytes:
    """A zip archive with a mutated record whose checksum is right; some are mutated as a whole."""
    if rng.random() < 0.1:
        return mutate_bytes(data, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = [n for n in old.namelist() if not n.endswith(".debug_pkl")]
        told = [n for n in names if n.endswith((".py", ".pkl", ".json"))]
        chosen = rng.choice(told if rng.random() < 0.9 else names)
        for name in names:
            record = old.read(name)
            if name == chosen:
                text = name.endswith((".py", ".json"))
                record = mutate_text(record.decode(), rng).encode() if text else mutate_bytes(record, rng)
            new.writestr(name, record)
    return out.getvalue()


def torchscript(folder: Path, rng: random.Random) -> tuple[Path, dict[str, tuple[int, ...]]]:
    (folder / "net.pt").write_bytes(archive(pytorch_archives()["script"], rng))
    return folder / "net.pt", {"input": (2, 4)}


def torch_export(folder: Path, rng: random.Random) -> tuple[Path, dict[str, tuple[int, ...]]]:
    (folder / "net.pt2").write_bytes(archive(pytorch_archives()["program"], rng))
    return folder / "net.pt2", {}


def tflite(folder: Path, rng: random.Random) -> tuple[Path, dict[str, tuple[int, ...]]]:
    data = tflite_recorded()[rng.choice(sorted(tflite_recorded()))]["model"].tobytes()
    if rng.random() < 0.5:  # one number somewhere: offsets, counts, shapes and options lie all over the file
        place = 4 * rng.randrange(2, len(data) // 4)
        number = rng.choice((0, 1, 2, 3, 7, 255, 65536, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32)))
        data = data[:place] + number.to_bytes(4, "little") + data[place + 4 :]
    else:
        data = data[:8] + mutate_bytes(data[8:], rng)
    (folder / "net.tflite").write_bytes(data)
    return folder / "net.tflite", {}


FORMATS: dict[str, Callable[[Path, random.Random], tuple[Path, dict[str, tuple[int, ...]]]]] = {
    f.__name__: f for f in (mxnet_symbol, mxnet_params, mxnetjs, caffe_prototxt, caffe_weights,
                           torchscript, torch_export, tflite)
}  # fmt: skip
SLOW = {"torchscript": 40, "torch_export": 40}
"""How many mutations the test makes where an export takes a second."""


def fuzz(name: str, count: int, seed: int) -> Counter[str]:
    """Runs `count` mutations of one format; raises AssertionError for the first that ends otherwise than it may."""
    outcomes: Counter[str] = Counter()
    for k in range(count):
        rng = random.Random(f"{name}/{seed}/{k}")
        with tempfile.TemporaryDirectory() as folder:
            path, shapes = FORMATS[name](Path(folder), rng)
            before = sorted(Path(folder).iterdir())
            began = time.monotonic()
            try:
                model = exporters.export(path, None, ExportOptions(shapes)).model
                outcomes["exported"] += 1
                if model.ByteSize() < 1 << 20:
                    onnx.checker.check_model(model, full_check=True)
            except DlpackError as e:
                outcomes[type(e).__name__] += 1
            except BaseException as e:
                raise AssertionError(f"{name}, seed {seed}, mutation {k}: {type(e).__name__}: {e}") from e
            assert time.monotonic() - began < LIMIT_S, f"{name}, seed {seed}, mutation {k} took too long"
            assert sorted(Path(folder).iterdir()) == before
    return outcomes


@pytest.mark.parametrize("name", FORMATS)
def test_mutations_end_in_a_model_or_an_error(name: str) -> None:
    outcomes = fuzz(name, SLOW.get(name, 300), 1)
    assert len(outcomes) > 1, outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Mutates model files and exports them.")
    parser.add_argument("--count", type=int, default=1000, help="mutations of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=FORMATS, action="append", help="only these formats")
    given = parser.parse_args()
    for chosen in given.format or FORMATS:
        start = time.monotonic()
        print(
            f"{chosen}: {dict(fuzz(chosen, given.count, given.seed))} in {time.monotonic() - start:.0f} s", flush=True
        )
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"largest memory {peak:,} bytes")
        assert peak < 4 << 30
    except ImportError:
        pass  # not measured on this system
