"""Variants of images, so that a network sees more than the images there are.

Distillation needs no labels, so a variant is as good as another image: the original says what it is (Beyer et al.,
"Knowledge distillation: a good teacher is patient and consistent", CVPR 2022). Half of the samples are left as they
are: the network is for images, not for variants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data.dataset import Feeds
from sepconvert.data.preprocess import Preprocess, need_channel_axis
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

KINDS = ("shift", "flip")
FARTHEST = 1 / 14  # of a side: two pixels of 28, sixteen of 224
SHARE = 0.5  # of the samples that each kind changes


@dataclass(frozen=True, slots=True)
class Variation:
    """Which kinds of variants to make, and of which inputs: their names with the axis of the channels (1 or 3).

    ``shift`` moves an image by whole pixels and repeats its edge, ``flip`` mirrors it left to right. All images of a
    sample are varied in the same way, as far as they are of one size.
    """

    kinds: tuple[str, ...]
    images: Mapping[str, int]

    def vary(self, feeds: Feeds, rng: np.random.Generator) -> Feeds:
        """Return a feed of variants of the same shapes and types."""
        count = len(feeds[next(iter(self.images))])
        moved = np.where(rng.random((count, 1)) < SHARE, rng.uniform(-FARTHEST, FARTHEST, (count, 2)), 0.0)
        flipped = rng.random(count) < SHARE
        found = dict(feeds)
        for name, axis in self.images.items():
            images = np.moveaxis(feeds[name], axis, 1)
            if "shift" in self.kinds:
                images = _shifted(images, moved)
            if "flip" in self.kinds:
                images = np.where(flipped[:, None, None, None], images[..., ::-1], images)
            found[name] = np.ascontiguousarray(np.moveaxis(images, 1, axis))
        return found


def _shifted(images: NDArray[Any], moved: NDArray[np.float64]) -> NDArray[Any]:
    """Move images (N, C, H, W) by shares of their sides (N, 2)."""
    height, width = images.shape[2:]
    steps = np.rint(moved * (height, width)).astype(np.int64)
    rows = np.clip(np.arange(height) + steps[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) + steps[:, 1:], 0, width - 1)
    taken = np.take_along_axis(images, rows[:, None, :, None], axis=2)
    return np.take_along_axis(taken, columns[:, None, None, :], axis=3)


def variation(
    kinds: Sequence[str], inputs: Sequence[InputInfo], constant: frozenset[str], preprocess: Preprocess
) -> Variation:
    """Say which inputs are images: those with four axes.

    Args:
        kinds: of ``KINDS``.
        inputs: of the model.
        constant: names of inputs without a sample axis.
        preprocess: says where the channels are if the shape does not.

    Raises:
        DataError: no input is an image, or where its channels are is not known.
    """
    images = [info for info in inputs if len(info.declared_shape) == 4 and info.name not in constant]
    if not images:
        raise DataError("--augment varies images, but no input of the model has four axes; leave it away.")
    return Variation(tuple(kinds), {info.name: need_channel_axis(info, preprocess) for info in images})
