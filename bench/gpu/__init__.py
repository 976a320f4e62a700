"""The zoo on an NVIDIA GPU: right, and how fast beside PyTorch and onnxruntime.

In two parts, since a machine with a GPU may have little else: `build` needs no GPU and writes bundles into a folder,
`measure` needs Python, NumPy and click (and PyTorch to compare with), and neither TVM nor a compiler.
"""
