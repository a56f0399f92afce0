"""What follows a Conv: a scale per channel (BatchNorm, or the arithmetic it was exported as), and an Add.

A fit that ignores the scale optimises the wrong error, so ``y·scale`` is what must be close to the original. Where
the scaled output is added to another branch (a residual connection), what matters is the sum: a site may correct the
error that the other branch has gathered (He et al., ICCV 2017, "Channel pruning", section 3.3).
"""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import FLOAT_TYPES
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import computed_value, only_reader


@dataclass(frozen=True, slots=True)
class Following:
    """What becomes of a Conv's output y (N, M, *spatial) before anything non-linear happens.

    The graph computes ``transpose(y·scale + const, layout) + branch``; ``branch`` names the other addend, or is None
    where there is no such Add. ``scale`` has shape (M,).
    """

    scale: NDArray[np.float64]
    layout: tuple[int, ...]
    branch: str | None = None

    @property
    def back(self) -> tuple[int, ...]:
        """The permutation that brings the branch's axes into the Conv's order."""
        return tuple(int(axis) for axis in np.argsort(self.layout))


def follow(model: LoadedModel, site: ConvSite) -> Following:
    """Walk from a site's output through all that is linear per channel.

    Raises:
        ModelError: the model has no such value.
    """
    geometry = site.geometry
    axes = site.notation.made_axes
    layout = tuple(axes.index(axis) for axis in range(len(axes))) if axes else tuple(range(2 + len(geometry.kernel)))
    found = Following(np.ones(geometry.out_channels), layout)
    value = computed_value(model, site.output)
    while (node := only_reader(value)) is not None:
        branch = _branch(node, value)
        if branch is not None:
            return replace(found, branch=branch)
        following = step(node, value, found)
        if following is None:
            break
        found, value = following, node.outputs[0]
    return found


def _branch(node: ir.Node, value: ir.Value) -> str | None:
    """Name the other addend of a two-input sum, if it is not a constant."""
    if node.op_type not in ("Add", "Sum") or len(node.inputs) != 2:
        return None
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    if other is None or other is value or ir.convenience.get_const_tensor(other, propagate_shape_type=False):
        return None
    return other.name


def step(node: ir.Node, value: ir.Value, found: Following) -> Following | None:
    """Pass one node from its input ``value`` to its output, or return None where it is not linear for each channel."""
    kind = node.op_type
    if kind == "Identity" or (kind == "Cast" and node.attributes["to"].as_int() in FLOAT_TYPES):
        return found
    if kind == "Transpose":
        axes = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(found.layout))[::-1]
        return replace(found, layout=tuple(found.layout[axis] for axis in axes))
    if kind == "BatchNormalization":
        factor = _batch_norm_scale(node) if found.layout[1] == 1 else None
    elif kind in ("Add", "Sub", "Mul", "Div"):
        factor = _arithmetic_scale(node, value, found)
    else:
        return None
    if factor is None or not np.all(np.isfinite(factor)):
        return None
    return replace(found, scale=found.scale * factor)


def _batch_norm_scale(node: ir.Node) -> NDArray[np.float64] | None:
    if node.attributes.get_int("training_mode", 0) or node.attributes.get_int("is_test", 1) == 0:
        return None
    gamma, variance = _constant(node.inputs[1]), _constant(node.inputs[4])
    if gamma is None or variance is None:
        return None
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    scale: NDArray[np.float64] = gamma / np.sqrt(variance + epsilon)
    return scale


def _arithmetic_scale(node: ir.Node, value: ir.Value, found: Following) -> NDArray[np.float64] | None:
    """Scale of ``value (op) constant``, the constant being the same at every position."""
    first = node.inputs[0] is value
    constant = _constant(node.inputs[1] if first else node.inputs[0])
    if constant is None or (node.op_type == "Div" and not first):
        return None
    per_channel = _per_channel(constant, found)
    if per_channel is None:
        return None
    if node.op_type == "Mul":
        return per_channel
    if node.op_type == "Div":
        return np.divide(1.0, per_channel, out=np.full_like(per_channel, np.nan), where=per_channel != 0)
    return np.full(len(found.scale), -1.0 if node.op_type == "Sub" and not first else 1.0)


def _per_channel(constant: NDArray[np.float64], found: Following) -> NDArray[np.float64] | None:
    """Read a broadcast constant as (M,), or None where it varies over anything but channels."""
    channels, dimensions = len(found.scale), len(found.layout)
    if constant.ndim > dimensions:
        return None
    shape = (1,) * (dimensions - constant.ndim) + constant.shape
    axis = found.layout.index(1)
    if any(size != 1 for i, size in enumerate(shape) if i != axis) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(constant.reshape(-1), (channels,)).copy()


def _constant(value: ir.Value | None) -> NDArray[np.float64] | None:
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value, propagate_shape_type=False)
    return None if tensor is None else tensor.numpy().astype(np.float64)
