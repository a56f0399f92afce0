"""What a model's first BatchNorm remembers of the inputs that the model was trained on."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.weights import read_constant


@dataclass(frozen=True, slots=True)
class TrainedRange:
    """Name of a BatchNorm, of the value that it takes, and that value's mean and variance (C,) in training."""

    name: str
    value: str
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


def first_trained_range(model: LoadedModel) -> TrainedRange | None:
    """Return what the first BatchNorm remembers; None where there is none, or where it was never trained."""
    norm = next((node for node in model.ir.graph if node.op_type == "BatchNormalization"), None)
    if norm is None or len(norm.inputs) < 5 or norm.inputs[0] is None or norm.inputs[0].producer() is None:
        return None
    try:
        mean, variance = (_constant(model, norm.inputs[place]) for place in (3, 4))
    except ModelError:
        return None  # computed, or fed from outside: nothing that training left there
    if not mean.any() and (variance == 1).all():
        return None  # as a layer begins
    return TrainedRange(str(norm.name or norm.outputs[0].name), str(norm.inputs[0].name), mean, variance)


def _constant(model: LoadedModel, value: ir.Value | None) -> NDArray[np.float64]:
    if value is None:
        raise ModelError("A BatchNorm lacks an input.")
    return read_constant(model, str(value.name)).astype(np.float64)
