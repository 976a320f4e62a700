"""Hugging Face folders: what transformers makes of them, exported and compared with the model's own results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import requires_module
from test_export_mxnet import run

from dlpack import exporters
from dlpack.errors import ModelError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.exporters.base import main_file

torch = requires_module("torch")
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def save(folder: Path, config: str, kind: str, **options: Any) -> Any:
    """A model of seeded weights, saved as the hub's folders are."""
    transformers = requires_module("transformers")
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**SMALL, **options)).eval()
    model.save_pretrained(folder)
    return model


def test_a_text_classifier(tmp_path: Path) -> None:
    labels = {0: "bad", 1: "good", 2: "neither"}
    module = save(tmp_path, "BertConfig", "BertForSequenceClassification", vocab_size=40, id2label=labels)
    with pytest.raises(UsageError, match=r"sequences of any length.*--shape input_ids=1x128"):
        exporters.export(tmp_path)
    found = exporters.export(tmp_path, options=ExportOptions({"input_ids": (2, 6)}))
    assert [i.name for i in found.model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [o.name for o in found.model.graph.output] == ["logits"]
    assert found.labels == ("bad", "good", "neither")
    metadata = {p.key: p.value for p in found.model.metadata_props}
    assert json.loads(metadata["dlpack.ranges"]) == {
        "input_ids": [0, 39], "attention_mask": [0, 1], "token_type_ids": [0, 1]}  # fmt: skip
    random = np.random.default_rng(0)
    inputs = {
        "input_ids": random.integers(0, 40, (2, 6)), "token_type_ids": random.integers(0, 2, (2, 6)),
        "attention_mask": np.array([[1] * 6, [1] * 4 + [0] * 2]),
    }  # fmt: skip
    with torch.no_grad():
        wanted = module(**{n: torch.from_numpy(v) for n, v in inputs.items()}).logits.numpy()
    np.testing.assert_allclose(run(found.model, inputs)[0], wanted, rtol=1e-4, atol=1e-5)


def test_pictures_need_no_shape(tmp_path: Path) -> None:
    save(tmp_path, "ViTConfig", "ViTForImageClassification", image_size=8, patch_size=4, id2label={0: "cat", 1: "dog"})
    said = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 8, "width": 8}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    found = exporters.export(tmp_path / "config.json")
    assert [tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in found.model.graph.input] == [(1, 3, 8, 8)]
    assert found.labels == ("cat", "dog") and found.warnings == (
        "the batch is taken as 1; --shape gives another size",)  # fmt: skip
    assert found.preprocess is not None and found.preprocess.mean == (1.0, 1.0, 1.0)
    assert found.preprocess.scale == pytest.approx(2 / 255)


def test_a_language_model_gives_its_logits_alone(tmp_path: Path) -> None:
    module = save(
        tmp_path, "LlamaConfig", "LlamaForCausalLM", vocab_size=40, num_key_value_heads=1, max_position_embeddings=32
    )
    model = exporters.export(tmp_path, options=ExportOptions({"input_ids": (1, 5)})).model
    inputs = {"input_ids": np.arange(5)[None], "attention_mask": np.ones((1, 5), np.int64)}
    with torch.no_grad():
        wanted = module(**{n: torch.from_numpy(v) for n, v in inputs.items()}).logits.numpy()
    np.testing.assert_allclose(run(model, inputs)[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_folder_with_an_export_and_no_weights_is_that_export(tmp_path: Path) -> None:
    """As optimum writes it, or the hub has it in a folder of its own."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for name in ("onnx/model.onnx", "model.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x08\x08")
        assert main_file(tmp_path) == tmp_path / name
    (tmp_path / "model.safetensors").touch()
    assert main_file(tmp_path) == tmp_path / "config.json"


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    save(tmp_path, "BertConfig", "BertModel", vocab_size=40)
    with pytest.raises(UsageError, match=r"'pixels', which the model does not have; its inputs are: input_ids, att"):
        exporters.export(tmp_path, options=ExportOptions({"pixels": (1, 3)}))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ModelError, match="transformers cannot load"):
        exporters.export(tmp_path, options=ExportOptions({"input_ids": (1, 5)}))
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="no weights as safetensors"):
        exporters.export(tmp_path, options=ExportOptions({"input_ids": (1, 5)}))


def test_without_transformers_there_is_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'dlpack-aot\[transformers\]'; or .*optimum-cli export onnx"):
        exporters.export(tmp_path)
