"""TensorFlow Lite → ONNX; `export.py` begins."""
