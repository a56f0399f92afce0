"""The other side of a Keras model that came in as an ONNX file: what to change in the model it was exported from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import MissingExtraError
from sepconvert.graph.layer_weights import layer_parameters, read_kernel
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.parts import NewKernel
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import read_constant
from sepconvert.separable.forms import with_weights
from sepconvert.workflows.fit import Applied

if TYPE_CHECKING:
    from sepconvert.keras.models import ChangedSite


@dataclass(frozen=True, slots=True)
class KerasSide:
    """An ONNX model, what it was rewritten to, and the layers that kept their shape but got new weights."""

    original: LoadedModel
    applied: Applied
    dense: Mapping[str, NewKernel]

    def model(self, model: Any) -> Any:
        """Copy the Keras model with its layers rewritten.

        Raises:
            MissingExtraError: Keras cannot be imported.
            ModelError: as for ``sepconvert.keras.models.rewritten``.
        """
        try:
            import keras  # noqa: F401
        except ImportError as error:  # without KERAS_BACKEND it looks for TensorFlow
            raise MissingExtraError(
                f"Keras cannot be imported ({error}); pip install '.[keras]' and set KERAS_BACKEND=torch."
            ) from None
        from sepconvert.keras.models import rewritten

        return rewritten(model, self._sites())

    def _sites(self) -> "list[ChangedSite]":
        """Rewritten and refitted layers in the graph's order, with the weights that the rewritten model holds."""
        from sepconvert.keras.layers import Change
        from sepconvert.keras.models import ChangedSite

        found = {}
        for output, fit in self.applied.fitted.items():
            replacement = fit.replacement
            assert replacement is not None
            parameters = layer_parameters(self.applied.opened.model, self.applied.emitted[output])
            written = [weight.astype(np.float64) for weight, _ in parameters]
            factors = with_weights(replacement.factors, replacement.layers, written)
            biases = [bias.astype(np.float64) for _, bias in parameters if bias is not None]
            bias = np.sum(biases, axis=0) if biases else fit.bias
            found[output] = fit.site, Change(fit.site.geometry, factors, None, _beyond(self.original, fit.site, bias))
        for output, new in self.dense.items():
            more = _beyond(self.original, new.site, new.bias)
            found[output] = new.site, Change(new.site.geometry, None, new.kernel, more)
        order = {value.name: place for place, node in enumerate(self.original.ir.graph) for value in node.outputs}
        return [
            ChangedSite(site.name, read_kernel(self.original, site).astype(np.float64), change)
            for output, (site, change) in sorted(found.items(), key=lambda item: order[item[0]])
        ]


def _beyond(original: LoadedModel, site: ConvSite, bias: NDArray[np.floating] | None) -> NDArray[np.floating] | None:
    """What a new bias (M,) adds to the layer's: an exported model leaves the bias of a Conv to an Add after it."""
    if bias is None or site.bias is None:
        return bias
    more: NDArray[np.floating] = bias - read_constant(original, site.bias).astype(np.float64).reshape(bias.shape)
    return more
