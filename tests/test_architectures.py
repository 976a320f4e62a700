"""`script/models`: what builds an architecture, and its page."""

from __future__ import annotations

from pathlib import Path

from architectures import table, work
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
