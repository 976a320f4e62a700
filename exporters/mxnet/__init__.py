"""MXNet → ONNX; `export.py` begins."""
