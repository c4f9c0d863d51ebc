"""PyTorch to ONNX: exact folding, the template and step graphs, and proof before publishing."""
