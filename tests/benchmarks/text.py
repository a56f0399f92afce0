"""Lines of text, drawn: photographs alone hold so little of it that a text detector's output is the same for all."""

import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CHARACTERS = string.ascii_letters + string.digits + ".,-"
LINES = (2, 8)
SIZES = (12, 40)  # pixels


def written_on(pictures: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each picture (H, W, 3) with a few lines of random words on it, of different sizes and colours: (n, H, W, 3)."""
    return np.stack([_written_on(picture, rng) for picture in pictures])


def _written_on(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(*LINES, endpoint=True)):
        font = ImageFont.load_default(float(rng.integers(*SIZES, endpoint=True)))
        place = rng.uniform(-0.1, 0.8) * image.width, rng.uniform(0, 0.95) * image.height
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        draw.text(place, " ".join(_word(rng) for _ in range(rng.integers(1, 5))), fill=(red, green, blue), font=font)
    return np.asarray(image)


def _word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list(CHARACTERS), rng.integers(2, 10)))
