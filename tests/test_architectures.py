"""`script/models`: what builds an architecture, and its page."""

from __future__ import annotations

from pathlib import Path

from architectures import sized, table, times_page, work
from architectures.base import Architecture
from conftest import requires_module


def test_a_detector_as_of_today(tmp_path: Path) -> None:
    requires_module("torch")
    result = work.build("YOLOv8-like", "script", timed=False, keep=tmp_path)
    assert result["outcome"] == "right", result
    assert result["error"] < 1e-4


def test_names_are_unique_and_there_are_enough() -> None:
    assert len(work.catalogue()) > 150
    assert {a.family for a in work.catalogue().values()} >= {"timm", "torchvision", "keras", "transformers, text"}


def test_page() -> None:
    known = [Architecture(name, "timm", lambda: (None, {})) for name in ("a", "b", "c")]
    results = {
        "a": {"script": {"outcome": "right", "error": 2e-7, "weights": 4000, "ratio": 0.51}},
        "b": {
            "script": {"outcome": "refused", "message": "operator X"},
            "float16": {"outcome": "right", "error": 1e-3},
        },
    }
    page = table.render(results, known)
    assert "| torch.onnx, TorchScript | 2 | 1 | 1 | 0 | 0 |" in page
    assert "| a | timm | 4 | 2e-07 |  |  |  | 0.51 |" in page
    assert "- b (torch.onnx, TorchScript): refused: operator X" in page
    assert "| c |" not in page


def test_enough_architectures_have_their_times_compared() -> None:
    requires_module("torch")
    names = list(sized.catalogue())
    assert len(names) > 200
    assert set(names[: len(sized.FIRST)]) == set(sized.FIRST)
    assert {*sized.OWN, *sized.FITTED} <= {*sized.TIMM}


def test_page_of_times(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    row = {"family": "timm", "macs": 2e6, "ours": 0.5, "theirs": 1.0, "ratio": 0.5, "of_medians": 0.51, "load": 0.1,
           "date": "2026-01-02", "tree": "abc+"}  # fmt: skip
    times_page.keep(path, "A machine", "fast", row)
    times_page.keep(path, "A machine", "slow", row | {"ratio": 2.0, "load": 1.5, "date": "2026-01-01"})
    times_page.keep(path, "A machine", "odd", {"family": "timm", "failed": "no room in /home/someone/model.onnx"})
    page = times_page.section(times_page.read(path))
    assert "2 architectures: geometric mean **1.00**, 1 above 0.9." in page
    assert "Measured 2026-01-01 to 2026-01-02, trees abc. **1 of them while other programs" in page
    assert page.index("| slow | timm | 2.00 |") < page.index("### The others") < page.index("| fast | timm |")
    assert "- odd: no room in model.onnx" in page
