"""ncnn → ONNX; `export.py` begins."""
