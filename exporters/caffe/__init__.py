"""Caffe → ONNX; `export.py` begins."""
