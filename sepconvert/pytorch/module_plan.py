"""What a rewrite did to a module, as plain data: with the module's code and the new weights, enough to rebuild it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sepconvert.errors import ModelError, file_reason
from sepconvert.files import read_regular
from sepconvert.graph.rewrite import Replacement
from sepconvert.graph.sites import Notation
from sepconvert.record.plain import from_json
from sepconvert.separable.forms import cli_name, first_kernel, form_from_cli, layers_at
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import Layers
from sepconvert.separable.scheme import Scheme

SCHEMA = 1
MOST_RANKS = 1 << 20


@dataclass(frozen=True, slots=True)
class NewLayers:
    """What stands in the place of one layer.

    ``bias`` tells whether the last new one has one. ``first_kernel`` is, in the form ``spatial``, that of the layer
    that runs first. ``axis`` is the spatial axis (0 or 1) that a kernel on one channel spans, and whose sides are taken
    for channels; None where there is no such thing.
    """

    scheme: Scheme
    bias: bool
    first_kernel: tuple[int, ...] | None = None
    axis: int | None = None

    @staticmethod
    def of(replacement: Replacement, *, bias: bool) -> "NewLayers":
        """What a graph was given, in the place of the same layer."""
        factors, notation = replacement.factors, replacement.site.notation
        axis = notation.single_axis if notation.spans_axis else None
        scheme = Scheme(factors.form, factors.rank, replacement.lowering)
        return NewLayers(scheme, bias, first_kernel(factors), axis)

    def layers(self, geometry: ConvGeometry) -> Layers:
        """The layers in the place of a layer so described; ``ValueError`` where there is no such lowering."""
        return layers_at(self.scheme, geometry, self.first_kernel)

    @property
    def notation(self) -> Notation:
        """How the layer's input is described: with the axis that its kernel spans, if it spans one, as channels."""
        return Notation() if self.axis is None else Notation(seen_axes=((0, 2, 1, 3), (0, 3, 2, 1))[self.axis])


@dataclass(frozen=True, slots=True)
class ModulePlan:
    """New layers by the path of the module they replace; paths of dense layers that got a bias."""

    sites: Mapping[str, NewLayers]
    biases: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        data = {
            "schema": SCHEMA,
            "sites": {path: _plain(layers) for path, layers in self.sites.items()},
            "biases": list(self.biases),
        }
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str, origin: str) -> "ModulePlan":
        """Read a plan back.

        Raises:
            ModelError: the text is no plan; the message names ``origin``.
        """
        try:
            found: _PlainPlan = from_json(_PlainPlan, text, range(SCHEMA, SCHEMA + 1))
            return ModulePlan({path: _layers(layers) for path, layers in found.sites.items()}, found.biases)
        except (ValueError, KeyError) as error:
            raise ModelError(
                f"{origin} is not a plan ({error}); pass the .plan.json that 'sepconvert rewrite' wrote."
            ) from None

    @staticmethod
    def read(path: Path) -> "ModulePlan":
        """Read a plan from a file."""
        return ModulePlan.from_json(plan_text(path), str(path))


def plan_text(path: Path) -> str:
    """Return the text of a plan's file.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return read_regular(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({file_reason(error)}); pass the .plan.json of a rewrite.") from None


def _plain(layers: NewLayers) -> dict[str, Any]:
    first = None if layers.first_kernel is None else list(layers.first_kernel)
    named = {"form": cli_name(layers.scheme.form)}
    spanned = {} if layers.axis is None else {"axis": layers.axis}
    return asdict(layers.scheme) | named | {"bias": layers.bias, "first_kernel": first} | spanned


@dataclass(frozen=True, slots=True)
class _PlainLayers:
    form: str
    rank: int
    lowering: str
    bias: bool
    first_kernel: tuple[int, ...] | None
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class _PlainPlan:
    sites: dict[str, _PlainLayers]
    biases: tuple[str, ...]


def _layers(plain: _PlainLayers) -> NewLayers:
    """A plan's layers; no layer has as many channels as ``MOST_RANKS``."""
    if not 1 <= plain.rank <= MOST_RANKS:
        raise ValueError(f"rank {plain.rank} is none of {plain.form}")
    if plain.axis not in (None, 0, 1):
        raise ValueError(f"axis {plain.axis} is neither 0 nor 1")
    scheme = Scheme(form_from_cli(plain.form), plain.rank, plain.lowering)
    return NewLayers(scheme, plain.bias, plain.first_kernel, plain.axis)
