"""Counts what predictors for microcontrollers execute and occupy, beside emx-onnx-cgen; see __main__.py."""
