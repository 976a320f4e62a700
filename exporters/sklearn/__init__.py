"""scikit-learn → ONNX; `export.py` begins."""
