"""Natural photographs from scikit-image, cut into calibration and test crops that share no source photograph."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Both lists mix people, animals, objects, textures, medicine and astronomy; the stereo pair counts as one photograph.
SOURCES: dict[str, tuple[str, ...]] = {
    "calibration": (
        "astronaut",
        "chelsea",
        "stereo_motorcycle",
        "coins",
        "grass",
        "hubble_deep_field",
        "immunohistochemistry",
        "clock",
        "page",
    ),
    "test": ("coffee", "rocket", "camera", "brick", "retina"),
}
SMALLEST_CROP = 160  # pixels of the source; less would be enlarged too much to look natural


def photograph(name: str) -> NDArray[np.uint8]:
    """Return one photograph that ships inside scikit-image, RGB, shape (H, W, 3)."""
    import skimage.data

    pixels = getattr(skimage.data, name)()
    image = np.asarray(pixels[0] if isinstance(pixels, tuple) else pixels)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]


def crop(image: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut a random square, mirror it at random, and resize it to (size, size, 3)."""
    height, width = image.shape[:2]
    side = int(rng.integers(min(SMALLEST_CROP, height, width), min(height, width) + 1))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    square = image[top : top + side, left : left + side]
    if rng.random() < 0.5:
        square = square[:, ::-1]
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC))


def crops(
    photographs: Sequence[NDArray[np.uint8]], count: int, size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return ``count`` RGB crops, shape (count, size, size, 3), from the photographs in turn."""
    return np.stack([crop(photographs[i % len(photographs)], size, rng) for i in range(count)])


def natural_crops(
    split: Literal["calibration", "test"], count: int, size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return ``count`` RGB crops, shape (count, size, size, 3), from scikit-image's photographs of ``split``."""
    return crops([photograph(name) for name in SOURCES[split]], count, size, rng)
