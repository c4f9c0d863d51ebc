"""ONNX graphs: CPU sessions, files, the tensors that INT8 quantizes, and their trained ranges."""
