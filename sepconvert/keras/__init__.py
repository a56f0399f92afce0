"""Keras both ways: factors as weights of its separable layers, and rewritten layers in a copy of a Keras model.

A Keras model comes in as the ONNX file that ``model.export("model.onnx", format="onnx")`` writes. With the torch
backend the model has to be called once before. ``RewriteResult.keras`` puts the result back into a copy of the model:

    model(example)
    model.export("model.onnx", format="onnx")
    result = sepconvert.rewrite("model.onnx", data="calibration.npz", speedup=2)
    faster = result.keras(model)

``separable_weights`` and ``separable_factors`` are for layers that somebody built by hand.
"""

from sepconvert.keras.weights import separable_factors, separable_weights

__all__ = ["separable_factors", "separable_weights"]
