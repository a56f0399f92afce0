"""Read a Conv's or ConvTranspose's attributes as a geometry, and refuse those that contradict themselves."""

from dataclasses import replace

import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.inputs import Shape
from sepconvert.graph.notation import is_full
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.uses import node_name
from sepconvert.separable.geometry import ConvGeometry

AUTO_PADS = ("", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def conv_geometry(node: ir.Node, weight: tuple[int, ...], shapes: Shapes) -> ConvGeometry:
    """Read the attributes of a Conv or ConvTranspose."""
    transposed, groups = node.op_type == "ConvTranspose", _group(node)
    _check_weight(node, weight, shapes)
    sides = len(weight) - 2
    geometry = ConvGeometry(
        in_channels=weight[0] if transposed else weight[1] * groups,
        out_channels=weight[1] * groups if transposed else weight[0],
        kernel=weight[2:],
        stride=_ints(node, "strides", sides, 1),
        dilation=_ints(node, "dilations", sides, 1),
        pads=_ints(node, "pads", 2 * sides, 0),
        auto_pad=_auto_pad(node),
        in_spatial=_spatial(shapes, node.inputs[0]),
        out_spatial=_spatial(shapes, node.outputs[0]),
        images=_images(shapes, node.inputs[0]),
        groups=groups,
        transposed=transposed,
    )
    _check_auto_pad(node, geometry)
    return _cropped(node, geometry) if transposed else geometry


def _cropped(node: ir.Node, geometry: ConvGeometry) -> ConvGeometry:
    """A transposed convolution with explicit pads: those that ``auto_pad`` stands for, whatever the size.

    Raises:
        ModelError: its output padding is negative, or not smaller than the stride.
    """
    sides = len(geometry.kernel)
    more = _ints(node, "output_padding", sides, 0)
    if any(not 0 <= pad < max(stride, 1) for pad, stride in zip(more, geometry.stride, strict=True)):
        raise ModelError(
            f"ConvTranspose '{node_name(node)}' has output_padding {list(more)}, which must be at least 0 and smaller "
            f"than its strides {list(geometry.stride)}; export the model again."
        )
    if geometry.auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        pads = geometry.pads if geometry.auto_pad in ("", "NOTSET") else (0,) * 2 * sides
        return replace(geometry, auto_pad="NOTSET", pads=pads, output_pads=more)
    begins, ends = [], []
    for axis in range(sides):
        along = geometry.along(axis)
        total = max(0, more[axis] + along.reach - along.stride)
        small = total // 2
        begins.append(small if geometry.auto_pad == "SAME_UPPER" else total - small)
        ends.append(total - begins[-1])
    return replace(geometry, auto_pad="NOTSET", pads=(*begins, *ends), output_pads=more)


def _check_auto_pad(node: ir.Node, geometry: ConvGeometry) -> None:
    what = f"{node.op_type} '{node_name(node)}' has"
    if geometry.auto_pad not in AUTO_PADS:
        raise ModelError(f"{what} auto_pad '{geometry.auto_pad}', which is none of ONNX's; export the model again.")
    if geometry.auto_pad not in ("", "NOTSET") and any(geometry.pads):
        raise ModelError(
            f"{what} auto_pad '{geometry.auto_pad}' beside pads {list(geometry.pads)}, and runtimes differ on which "
            "counts; keep one of them."
        )


def _check_weight(node: ir.Node, weight: tuple[int, ...], shapes: Shapes) -> None:
    what = f"{node.op_type} '{node_name(node)}' has a weight of shape {list(weight)}"
    if len(weight) < 3 or 0 in weight:
        raise ModelError(f"{what}, which no convolution can have; export the model again.")
    group = _group(node)
    image = _shape(shapes, node.inputs[0])
    if image is not None and len(image) != len(weight):
        raise ModelError(f"{what}, but its input has {len(image)} dimensions; export the model again.")
    channels = None if image is None else image[1]
    transposed = node.op_type == "ConvTranspose"
    expected = weight[0] if transposed else weight[1] * group
    if channels is not None and channels != expected:
        raise ModelError(f"{what} for {expected} input channels, but its input has {channels}; export the model again.")
    if group < 1 or weight[0] % group:
        raise ModelError(f"{what}, whose {weight[0]} channels do not divide into {group} groups.")
    stated = node.attributes.get_ints("kernel_shape")
    if stated is not None and tuple(stated) != weight[2:]:
        raise ModelError(f"{what}, but its kernel_shape is {list(stated)}; export the model again.")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    bias_shape = _shape(shapes, bias)
    outputs = weight[1] * group if transposed else weight[0]
    if bias_shape is not None and None not in bias_shape and bias_shape != (outputs,):
        raise ModelError(f"{what}, but a bias of shape {list(bias_shape)}; export the model again.")


def _ints(node: ir.Node, name: str, length: int, default: int) -> tuple[int, ...]:
    stated = node.attributes.get_ints(name)
    if not stated:
        return (default,) * length
    if len(stated) != length:
        raise ModelError(
            f"{node.op_type} '{node_name(node)}' has {len(stated)} {name} instead of {length}; export the model again."
        )
    return tuple(int(v) for v in stated)


def _group(node: ir.Node) -> int:
    return int(node.attributes.get_int("group", 1))


def _auto_pad(node: ir.Node) -> str:
    return str(node.attributes.get_string("auto_pad", "NOTSET"))


def _spatial(shapes: Shapes, value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the spatial size of a value where it is known (an open batch leaves the cost open too)."""
    shape = _shape(shapes, value)
    if not shape or shape[0] is None:
        return None
    sides = shape[2:]
    return tuple(sides) if is_full(sides) else None


def _images(shapes: Shapes, value: ir.Value | None) -> int:
    shape = _shape(shapes, value)
    return max(1, (shape[0] or 1) // shapes.batch) if shape else 1


def _shape(shapes: Shapes, value: ir.Value | None) -> Shape | None:
    return None if value is None else shapes.shapes.get(str(value.name))
