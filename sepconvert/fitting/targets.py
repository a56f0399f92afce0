"""What each site should compute, and what that takes from the rest of the graph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.fitting.sampling import Seen
from sepconvert.graph.after_conv import Following, follow
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.segments import Stop, sites_above
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import find_value
from sepconvert.graph.weights import Origin, origin_of, read_constant
from sepconvert.runtime.sessions import Arrays

# Below this share of the largest scale an output hardly counts, and dividing by its scale would only magnify noise.
SMALLEST_SCALE = 1e-3


@dataclass(frozen=True, slots=True)
class SiteTarget:
    """The site's original output, corrected for what another branch got wrong where the two are added.

    ``following.branch`` is None where there is no such branch or where it depends on sites that are not settled yet.
    ``bias`` is for a bias that is not fixed: the name of the value that holds it, or what it is by default.
    """

    site: ConvSite
    following: Following
    bias: str | NDArray[np.generic] | None = None

    @property
    def stop(self) -> Stop:
        """The values needed to fit the site."""
        branch = self.following.branch
        return Stop(self.site.output, (*self.own_needs, *([] if branch is None else [branch])), self.site.product)

    @property
    def own_needs(self) -> tuple[str, ...]:
        """The values that the site itself reads: its input, and a bias that is computed."""
        return (self.site.input, self.bias) if isinstance(self.bias, str) else (self.site.input,)

    def plain(self, values: Arrays) -> NDArray[np.floating]:
        """What kernel and bias compute in the original: the site's output (N, M, *spatial), of values by name."""
        return self._without_bias(values, values)

    def _without_bias(self, truth: Arrays, here: Arrays) -> NDArray[np.floating]:
        """Take from the original's outputs (N, M, *spatial) what a bias that is not fixed adds to them.

        Such a bias stays in the graph, so that kernel and new bias are to make up the rest.
        """
        outputs = self.site.made(truth[self.site.output])
        if self.bias is None:
            return outputs
        bias = here[self.bias] if isinstance(self.bias, str) else self.bias
        rest: NDArray[np.floating] = outputs - bias.astype(outputs.dtype).reshape(-1, *[1] * (outputs.ndim - 2))
        return rest

    @property
    def row_scale(self) -> NDArray[np.float64]:
        """Importance (M,) of each output's error; positive."""
        size = np.abs(self.following.scale)
        largest = float(size.max())
        if largest <= 0:
            return np.ones_like(size)
        raised: NDArray[np.float64] = np.maximum(size, SMALLEST_SCALE * largest)
        return raised

    def sight(self, here: Arrays) -> Seen:
        """What the site sees, of values by name."""
        return Seen(self.site.seen(here[self.site.input]), self.site.geometry)

    def corrected(self, truth: Arrays, here: Arrays) -> NDArray[np.floating]:
        """What kernel and new bias should compute: the original output, corrected for the error of an added branch.

        A bias that stays in the graph is taken off.

        Args:
            truth: values of the original model by name.
            here: values of the rewritten model.
        """
        outputs = self._without_bias(truth, here)
        branch = self.following.branch
        correction = None if branch is None else self.correction(truth[branch], here[branch])
        if correction is None or correction.size != outputs.size:
            return outputs
        correction = correction.reshape(outputs.shape)
        corrected: NDArray[np.floating] = outputs + correction
        return corrected

    def correction(
        self, original: NDArray[np.floating], rewritten: NDArray[np.floating]
    ) -> NDArray[np.floating] | None:
        """What to add to the site's output (N, M, *spatial) so that the sum with the rewritten branch is the original.

        None where the two branches are the same array.
        """
        if original is rewritten:
            return None
        scale = self.following.scale
        usable = np.abs(scale) >= SMALLEST_SCALE * max(float(np.abs(scale).max()), np.finfo(np.float64).tiny)
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=usable)
        difference = (original.astype(np.float32) - rewritten.astype(np.float32)).transpose(self.following.back)
        return difference * inverse.astype(np.float32).reshape(-1, *[1] * (difference.ndim - 2))


def pooled_scale(targets: Sequence[SiteTarget]) -> NDArray[np.float64]:
    """Importance (M,) of each output's error for layers of one weight: the root mean square over them."""
    scale: NDArray[np.float64] = np.sqrt(np.mean([target.row_scale**2 for target in targets], axis=0))
    return scale


def find_targets(model: LoadedModel, sites: Sequence[ConvSite]) -> list[SiteTarget]:
    """Find what follows each site; sites must be in the graph's order."""
    above = sites_above(model, [site.output for site in sites])
    targets = []
    for index, site in enumerate(sites):
        following = follow(model, site)
        branch = following.branch
        if branch is not None and (branch == site.input or above.get(branch, len(sites)) >= index):
            following = replace(following, branch=None)
        targets.append(SiteTarget(site, following, _moving_bias(model, site)))
    return targets


def _moving_bias(model: LoadedModel, site: ConvSite) -> str | NDArray[np.generic] | None:
    if site.bias is None or site.bias_is_fixed:
        return None
    value = find_value(model, site.bias)
    computed = value is None or origin_of(value, model.ir.ir_version) is Origin.DYNAMIC
    return site.bias if computed else read_constant(model, site.bias)
