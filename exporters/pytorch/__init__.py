"""PyTorch → ONNX; `export.py` begins."""
