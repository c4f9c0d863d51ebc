"""ONNX graphs: CPU sessions, the tensors that INT8 quantizes, and their trained ranges."""
