"""Core ML → ONNX; `export.py` begins."""
