"""Hugging Face model folders → ONNX; `export.py` begins."""
