"""A model that is ready to be quantised, simplified and with the ranges of its values in several ways; one in INT8."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sepconvert.data import Dataset
from sepconvert.errors import ModelError
from sepconvert.fitting.ranges import find_ranges
from sepconvert.graph.count import count_totals
from sepconvert.graph.load import load_bytes
from sepconvert.graph.notation import is_full
from sepconvert.graph.save import runnable
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.survey import Survey
from sepconvert.progress import Progress
from sepconvert.record import SelfCheck
from sepconvert.runtime.quantise import QuantisableNode, Range, quantisable_nodes, quantised, types_here
from sepconvert.runtime.simplify import node_names, simplified
from sepconvert.workflows.opened import OpenedModel


@dataclass(frozen=True, slots=True)
class QuantisableModel:
    """A model in floating point, as onnxruntime's quantiser takes it (``plain``), and what of it can compute in INT8.

    ``ranges`` are by the name of the method, then by that of the value.
    """

    opened: OpenedModel
    plain: bytes
    nodes: tuple[QuantisableNode, ...]
    ranges: Mapping[str, Mapping[str, Range]]

    @property
    def names(self) -> list[str]:
        """Names of all nodes that can compute in INT8."""
        return [node.name for node in self.nodes]

    def quantised(self, ranges: str, names: Collection[str]) -> OpenedModel:
        """Return the model with the nodes of these names in INT8."""
        return opened_quantised(quantised(self.plain, self.ranges[ranges], names, types_here()), self.opened)

    def outputs_beside(self, chosen: Collection[str]) -> frozenset[str]:
        """What the nodes compute that could be in INT8 and are not among the chosen."""
        return frozenset(name for node in self.nodes if node.name not in chosen for name in node.outputs)

    def precisions(self, chosen: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Outputs of the model's nodes that compute in INT8, and of those that do not; nodes keep their names."""
        left = set(node_names(self.plain).values())
        own = node_names(runnable(self.opened.model))
        names = {output: _name_left(name, left) for output, name in own.items()}
        integer = frozenset(output for output, name in names.items() if name in chosen)
        return integer, frozenset(output for output, name in names.items() if name is not None) - integer


@dataclass(frozen=True, slots=True)
class QuantisedModel:
    """A model in INT8.

    ``integer`` and ``floating`` are outputs of the nodes it was made of, by what these compute in now; of nodes that
    were folded into others neither is known. ``ranges`` says how the ranges of its values were found, ``error`` is the
    worst output's on held-out inputs, ``refitted``: weights were fitted again for rounding. ``source`` is what it was
    made of. ``left`` names the layers that could compute in INT8 and were left in floating point to serve the budget,
    ``left_outputs`` are what their nodes compute; ``predicted`` and ``measured`` are its time as shares of the
    original's, None where no layers were chosen from. ``check`` says how closely its layers hold to what rounding
    allows, where that was looked at.
    """

    opened: OpenedModel
    integer: frozenset[str]
    floating: frozenset[str]
    ranges: str
    error: float | None
    source: QuantisableModel
    refitted: bool = False
    left: tuple[str, ...] = ()
    left_outputs: frozenset[str] = frozenset()
    predicted: float | None = None
    measured: float | None = None
    check: SelfCheck | None = None


def quantisable(
    opened: OpenedModel, seen: Dataset, floating: Collection[str], methods: Sequence[str] | None, progress: Progress
) -> QuantisableModel:
    """Simplify a model and find the ranges of its values.

    Args:
        opened: the model; stays as it is.
        seen: inputs that ranges are found on.
        floating: outputs of nodes that are to stay in floating point.
        methods: how ranges are found; see ``find_ranges``.
        progress: told of every run.

    Raises:
        ModelError: nothing of it can compute in INT8.
    """
    plain = simplified(runnable(opened.model))
    nodes = quantisable_nodes(plain, floating)
    if not nodes:
        raise ModelError(f"{opened.model.label} has no layer that can compute in INT8; leave --int8 away.")
    values = list(dict.fromkeys(value for node in nodes for value in node.values))
    return QuantisableModel(opened, plain, tuple(nodes), find_ranges(plain, values, seen, methods, progress))


def opened_quantised(model: bytes, source: OpenedModel) -> OpenedModel:
    """Open a model in INT8 as far as figures are made of it."""
    loaded = load_bytes(model)
    sizes = {info.name: info.used_shape for info in source.shapes.inputs if is_full(info.used_shape)}
    shapes = infer_shapes(loaded, sizes)
    totals = replace(count_totals(loaded, shapes, ()), site_macs=source.totals.site_macs)
    loaded = replace(loaded, name=source.model.name, path=source.model.path, data_files=source.model.data_files)
    return OpenedModel(loaded, shapes, Survey((), ()), totals)


def _name_left(name: str, left: Collection[str]) -> str | None:
    """What onnxruntime calls a node now: where it joins a product and a sum, it adds to the product's name."""
    return name if name in left else next((other for other in left if other.startswith(f"{name}/")), None)
