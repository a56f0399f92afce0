"""ONNX operators as torch functions: one table, made of one small table per module."""
