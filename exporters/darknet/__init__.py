"""Darknet → ONNX; `export.py` begins."""
