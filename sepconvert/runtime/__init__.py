"""The only room that imports onnxruntime: sessions, provider proof, capture, interleaved timing."""
