"""TensorFlow and Keras → ONNX; `export.py` begins."""
