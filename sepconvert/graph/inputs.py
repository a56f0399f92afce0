"""Which sizes the model's inputs have: those that were asked for, then the static ones, then batch 1."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod

import onnx_ir as ir

from sepconvert.errors import ModelError, UsageError
from sepconvert.graph.notation import dtype_name
from sepconvert.record import InputInfo

Shape = tuple[int | None, ...]

_MOST_SAMPLES, _MOST_VALUES = 1 << 16, 1 << 26
"""Of an input whose sizes are fixed. With more of both, a model of kilobytes takes gigabytes to be run."""


def check_names(given: Mapping[str, tuple[int, ...]], fed: Sequence[ir.Value]) -> None:
    """Refuse sizes for inputs that do not exist, and sizes below 1."""
    names = [str(value.name) for value in fed]
    for name, shape in given.items():
        if name not in names:
            raise UsageError(f"--input names '{name}', but the model's inputs are {', '.join(names) or 'none'}.")
        if any(dim < 1 for dim in shape):
            raise UsageError(f"--input {name}:{_spell(shape)} has a dimension below 1; pass positive sizes.")


def used_shapes(fed: Iterable[ir.Value], given: Mapping[str, tuple[int, ...]]) -> dict[str, Shape | None]:
    """Return the size of every input to count and time with.

    A size that was asked for settles all dimensions of the same name; a dynamic first dimension counts as 1.

    Raises:
        UsageError: an asked size has the wrong number of dimensions.
        ModelError: it contradicts a static dimension, or a static dimension is zero, or a batch far too large.
    """
    fed = list(fed)
    bound: dict[str, int] = {}
    for value in fed:
        if value.name in given and value.shape is not None:
            _bind(value, given[str(value.name)], bound)
    return {str(value.name): _used_shape(value, given.get(str(value.name)), bound) for value in fed}


def _bind(value: ir.Value, shape: tuple[int, ...], bound: dict[str, int]) -> None:
    """Check a given shape against the declared one and note what its named dimensions stand for."""
    assert value.shape is not None
    declared = list(value.shape)
    if len(declared) != len(shape):
        raise UsageError(
            f"--input {value.name}:{_spell(shape)} has {len(shape)} dimensions, the model's input has {len(declared)}."
        )
    for dim, size in zip(declared, shape, strict=True):
        if isinstance(dim, int) and dim > 0 and dim != size:
            raise ModelError(
                f"--input {value.name}:{_spell(shape)} contradicts the model's input "
                f"{_spell(_declared(value))}; its fixed dimensions cannot be changed."
            )
        name = _dim_name(dim)
        if name is not None:
            bound.setdefault(name, size)


def _used_shape(value: ir.Value, given: tuple[int, ...] | None, bound: Mapping[str, int]) -> Shape | None:
    if given is not None:
        return given
    if value.shape is None:
        return None
    _check_batch(value, [dim for dim in value.shape if isinstance(dim, int)])
    used: list[int | None] = []
    for axis, dim in enumerate(value.shape):
        if dim == 0:
            raise ModelError(
                f"Input '{value.name}' has a zero-sized dimension ({_spell(_declared(value))}); "
                "export the model with a real or a dynamic size."
            )
        name = _dim_name(dim)
        if isinstance(dim, int) and dim > 0:
            used.append(dim)
        elif name is not None and name in bound:
            used.append(bound[name])
        else:
            used.append(1 if axis == 0 else None)
    return tuple(used)


def _check_batch(value: ir.Value, fixed: Sequence[int]) -> None:
    if fixed and value.shape is not None and value.shape[0] == fixed[0] > _MOST_SAMPLES and prod(fixed) > _MOST_VALUES:
        raise ModelError(
            f"Input '{value.name}' has a fixed batch of {fixed[0]:,} samples ({_spell(_declared(value))}), "
            f"{prod(fixed):,} values in all; export the model with a dynamic batch, or with a smaller one."
        )


def _dim_name(dim: object) -> str | None:
    """Return the name of a symbolic dimension; exporters write '?' and the like for 'unknown', which names nothing."""
    name = dim.value if isinstance(dim, ir.SymbolicDim) else None
    return name if isinstance(name, str) and any(c.isalnum() for c in name) else None


def _declared(value: ir.Value) -> list[int | str | None]:
    if value.shape is None:
        return []
    dims: list[int | str | None] = []
    for dim in value.shape:
        if isinstance(dim, ir.SymbolicDim):
            dims.append(dim.value if isinstance(dim.value, str) else None)
        else:
            # Some exporters write -1 for "dynamic".
            dims.append(int(dim) if int(dim) >= 0 else None)
    return dims


def check_fed(fed: Iterable[ir.Value]) -> None:
    """Refuse inputs that no array of numbers can be given for.

    Raises:
        ModelError: an input is text, a sequence, or may be left out.
    """
    for value in fed:
        if isinstance(value.type, ir.SequenceType | ir.OptionalType):
            kind = "a sequence of tensors" if isinstance(value.type, ir.SequenceType) else "an optional tensor"
        elif value.dtype == ir.DataType.STRING:
            kind = "text"
        else:
            continue
        raise ModelError(
            f"Input '{value.name}' is {kind}, but only arrays of numbers can be fed; cut the model behind what reads "
            "it, or export it with a tensor of numbers there."
        )


def _spell(dims: Iterable[int | str | None]) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in dims)


def input_info(value: ir.Value, used: Shape | None) -> InputInfo:
    """Describe an input as the record does."""
    return InputInfo(
        name=str(value.name),
        dtype="unknown" if value.dtype is None else dtype_name(int(value.dtype)),
        declared_shape=_declared(value),
        used_shape=None if used is None else list(used),
    )


def unknown_sizes(infos: Sequence[InputInfo]) -> tuple[str, ...]:
    """Return one warning that names the inputs with unknown dimensions and says what to pass, if there are any."""
    unknown = [info for info in infos if info.used_shape is None or None in info.used_shape]
    if not unknown:
        return ()
    names = " and ".join(f"'{info.name}'" for info in unknown)
    options = " ".join(suggested_size(info) for info in unknown)
    plural = "s have" if len(unknown) > 1 else " has"
    return (
        f"Input{plural} unknown dimensions ({names}), so figures that depend on them are unknown; "
        f"pass for example {options}.",
    )


def suggested_size(info: InputInfo) -> str:
    """How a size could be given for an input of which some dimension is unknown."""
    known = info.used_shape
    if known is None or info.declared_shape is None:
        return f"--input {info.name}:1x3x224x224"
    # A batch need not be the first dimension: recurrent layers have their states' second.
    samples = ["batch" in str(name).lower() for name in info.declared_shape]
    sizes = [dim or (1 if batch else 224) for dim, batch in zip(known, samples, strict=True)]
    return f"--input {info.name}:{_spell(sizes)}"
