"""How much the network's outputs react to the error of one site.

One site at a time is perturbed by the error that a real candidate makes there, and only what comes after it runs: its
output plus ``conv(x, Ŵ−W) + (b̂−b)`` replaces the original output among the values that are live behind it. What is
found are relative errors on the same inputs: the site's own, and that of each part that the network's outputs join.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.graph.behind_site import Rest
from sepconvert.graph.joined import OutputPart
from sepconvert.graph.site_models import INPUT, OUTPUT, Surroundings, dense_site_model
from sepconvert.graph.sites import ConvSite
from sepconvert.runtime.sessions import Arrays, Session, open_session
from sepconvert.verify.deviation import Axes, Deviation, by_sample

# The square of what sums in single precision differ by in another order: two runtimes' plans of one graph do.
ROUNDING = 2.0**-40


@dataclass(frozen=True, slots=True)
class Effect:
    """Relative error of one site, and of the parts of the outputs where nothing else errs; all above 0."""

    site_error: float
    part_errors: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Replay:
    """Everything needed to run the network behind one site on a few inputs; it can be sent to another process.

    Attributes:
        site: the perturbed site.
        rest: the network behind it.
        parts: of the network's outputs, those that depend on the site.
        inputs: per batch, the site's inputs by name: one for each layer that uses its weight.
        live: per batch, the values that the rest is fed and the outputs of these layers.
        expected: per batch, the values that the parts are of, from the original.
        variances: Σ(y−ȳ)² per input of each part, by its name: of more inputs than are replayed, because two similar
            ones make any error look large. A part that does not vary is left out.
        around: opset and IR version of the model.
        row_scale: (M,) importance of the site's outputs.
        rows: per batch, its number of samples.
        axes: along which axis the samples of the observed values lie; see ``by_sample``.
    """

    site: ConvSite
    rest: Rest
    parts: tuple[OutputPart, ...]
    inputs: tuple[Arrays, ...]
    live: tuple[Arrays, ...]
    expected: tuple[Arrays, ...]
    variances: Mapping[str, float]
    around: Surroundings
    row_scale: NDArray[np.float64]
    rows: tuple[int, ...]
    axes: Axes


Change = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Ŵ − W, (M, C, *kernel), and b̂ − b, (M,)."""


def measure_effects(replay: Replay, changes: Sequence[Change]) -> list[Effect | None]:
    """Perturb one site by each of some changes and compare the network's outputs.

    Each sees all inputs. With the inputs shared out between three changes a ResNet-50's sensitivities scattered by 0.41
    instead of 0.26 (logarithm, bootstrap over 27 inputs): which inputs err differs from change to change.

    Args:
        replay: the network behind the site, and inputs.
        changes: of the site's kernel and bias.

    Returns:
        The effect of each; None where the site's error is zero or no part reacts to it.
    """
    rest = None if replay.rest.model is None else open_session(replay.rest.model)
    return [_measure(replay, rest, change) for change in changes]


def _measure(replay: Replay, rest: Session | None, change: Change) -> Effect | None:
    uses = replay.site.uses
    error_models = [open_session(dense_site_model(use, *change, replay.around)) for use in uses]
    own = _ScaledError(replay.row_scale)
    outputs = {part: Deviation() for part in replay.parts}
    for seen, live, expected, rows in zip(replay.inputs, replay.live, replay.expected, replay.rows, strict=True):
        fed = {name: live[name] for name in replay.rest.fed}
        for use, error_model in zip(uses, error_models, strict=True):
            y, error = live[use.output], error_model.run({INPUT: seen[use.input]})[OUTPUT]
            own.add(use.made(y), use.made(error))
            if use.output in replay.rest.errors:
                fed[replay.rest.errors[use.output]] = error.astype(y.dtype)
            elif use.output in fed:
                fed[use.output] = (y + error).astype(y.dtype)
        found = dict(fed)
        if rest is not None:
            found |= rest.run({info.name: fed[info.name] for info in rest.inputs})
        for part in list(outputs):
            old, new = (part.of(values[part.value]) for values in (expected, found))
            if old.shape != new.shape:
                del outputs[part]  # how many rows there are depends on the values: nothing to compare
                continue
            outputs[part].add(*(by_sample(part.value, values, rows, replay.axes) for values in (old, new)))
    errors = {part.name: deviation.error or 0.0 for part, deviation in outputs.items() if part.name in replay.variances}
    shares = {name: error / replay.variances[name] for name, error in errors.items()}
    relative, reacting = own.relative, {name: share for name, share in shares.items() if share > ROUNDING}
    return Effect(relative, reacting) if relative and reacting else None


class _ScaledError:
    """Σ(ŷ−y)² over Σ(y−ȳ)², ȳ the mean of each channel, both weighted by the channels' importance."""

    def __init__(self, row_scale: NDArray[np.float64]) -> None:
        self._weights = row_scale**2
        self._count = 0
        self._sum = np.zeros(len(row_scale))
        self._squares = np.zeros(len(row_scale))
        self._errors = np.zeros(len(row_scale))

    def add(self, y: NDArray[Any], error: NDArray[Any]) -> None:
        """Add a batch (n, M, *spatial)."""
        axes = (0, *range(2, y.ndim))
        wide = y.astype(np.float64)
        self._count += y.size // y.shape[1]
        self._sum += wide.sum(axis=axes)
        self._squares += np.square(wide).sum(axis=axes)
        self._errors += np.square(error.astype(np.float64)).sum(axis=axes)

    @property
    def relative(self) -> float | None:
        """The relative error; None where y is constant."""
        variance = np.maximum(self._squares - self._sum**2 / max(self._count, 1), 0.0)
        spread = float(variance @ self._weights)
        return float(self._errors @ self._weights) / spread if spread > 0 else None
