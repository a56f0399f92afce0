"""The only room that uses onnx-ir, onnx and networkx: load, survey, count, lower, rewrite, save."""
