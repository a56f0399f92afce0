"""A trained detector for tests: ``common_det`` of ``ddddocr`` (MIT), a YOLOX of 3.2 GMAC that finds characters.

Input ``images`` (1, 3, 416, 416), BGR from 0 to 255; output (1, 3549, 6): per position four numbers of a box, and
behind Sigmoids whether there is an object and whether it is a character. The inputs are photographs with characters
written on them, drawn here. Nothing of the model is committed.
"""

import string
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tests.benchmarks.fetch import default_cache, fetch_wheel
from tests.benchmarks.images import SOURCES, crops, photograph
from tests.benchmarks.photographs import packaged_photographs

REQUIREMENT, MODEL = "ddddocr==1.6.1", "ddddocr/common_det.onnx"
INPUT, SIZE = "images", 416
CALIBRATION, TEST = 200, 40
FEWEST, MOST = 3, 12  # characters per picture
SMALLEST, LARGEST = 24, 96  # their sizes in pixels


def detector_files(cache: Path | None = None) -> tuple[Path, Path, Path]:
    """Return the model, calibration inputs and test inputs (npz), made in the cache on first use.

    Raises:
        Unavailable: the package cannot be downloaded.
    """
    folder = (cache or default_cache()) / "common_det"
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "common_det.onnx"
    if not model.exists():
        with zipfile.ZipFile(fetch_wheel(REQUIREMENT, cache)) as archive:
            model.write_bytes(archive.read(MODEL))
    paths = []
    splits: tuple[tuple[Literal["calibration", "test"], int], ...] = (("calibration", CALIBRATION), ("test", TEST))
    for seed, (split, count) in enumerate(splits):
        path = folder / f"{split}_{count}.npz"
        if not path.exists():
            np.savez_compressed(path, **{INPUT: pictures(split, count, np.random.default_rng(seed), folder.parent)})
        paths.append(path)
    return model, paths[0], paths[1]


def pictures(
    split: Literal["calibration", "test"], count: int, rng: np.random.Generator, cache: Path
) -> NDArray[np.float16]:
    """Return photographs with characters on them, (count, 3, SIZE, SIZE); whole numbers below 256 are exact."""
    photographs = [photograph(name) for name in SOURCES[split]]
    if split == "calibration":
        photographs += packaged_photographs(cache)
    written = [_write_on(image, rng) for image in crops(photographs, count, SIZE, rng)]
    return np.ascontiguousarray(np.moveaxis(np.stack(written)[..., ::-1], 3, 1)).astype(np.float16)


def _write_on(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(FEWEST, MOST + 1)):
        size = int(rng.integers(SMALLEST, LARGEST + 1))
        place = tuple(int(x) for x in rng.integers(0, SIZE - size, 2))
        colour = tuple(int(x) for x in rng.integers(0, 256, 3))
        letter = str(rng.choice(list(string.ascii_letters + string.digits)))
        draw.text(place, letter, fill=colour, font=ImageFont.load_default(size))
    return np.asarray(picture)
