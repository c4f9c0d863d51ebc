"""ONNX files opened and looked into."""
