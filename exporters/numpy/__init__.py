"""NumPy functions → ONNX; `export.py` begins."""
