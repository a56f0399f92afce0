"""The benchmark models are trained networks of the stated size, and their data sets share no photograph."""

import hashlib
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks import hed
from tests.benchmarks.fetch import Unavailable
from tests.benchmarks.images import SOURCES, natural_crops, photograph
from tests.benchmarks.models import CASES, nsfw_test_inputs, open_case
from tests.benchmarks.photographs import TEST_PACKAGES, packaged_photographs, read_resources

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def edge_detector() -> Path:
    try:
        return open_case("hed").model
    except Unavailable as error:
        pytest.skip(str(error))


def hashes(images: Iterable[NDArray[np.generic]]) -> set[str]:
    """Digests of images in float16, the coarsest type that any of the files has."""
    return {hashlib.sha256(image.astype(np.float16).tobytes()).hexdigest() for image in images}


@pytest.mark.parametrize("name", CASES)
def test_no_calibration_image_is_a_test_image(name: str) -> None:
    try:
        case = open_case(name)
    except Unavailable as error:
        pytest.skip(str(error))
    with np.load(case.calibration) as calibration, np.load(case.test) as test:
        fitted, unseen = hashes(calibration[case.input]), hashes(test[case.input])
    assert min(len(fitted), len(unseen)) > 15
    assert not fitted & unseen


def test_calibration_and_test_crops_come_from_different_photographs() -> None:
    assert not set(SOURCES["calibration"]) & set(SOURCES["test"])
    fitted, unseen = (hashes(map(photograph, SOURCES[split])) for split in ("calibration", "test"))
    assert (len(fitted), len(unseen)) == (9, 5)
    assert not fitted & unseen


def test_no_packaged_photograph_is_a_test_photograph() -> None:
    try:
        packaged, other = packaged_photographs(), packaged_photographs(packages=TEST_PACKAGES)
    except Unavailable as error:
        pytest.skip(str(error))
    assert len(packaged) == len(hashes(packaged)) == 287
    assert len(other) == len(hashes(other)) == 25
    calibration = [*packaged, *map(photograph, SOURCES["calibration"])]
    # Scaled and compressed anew, the same photograph would still look the same as a thumbnail.
    unseen = [*map(thumbnail, map(photograph, SOURCES["test"])), *map(thumbnail, other)]
    closest = max(float(np.vdot(known, one)) for known in map(thumbnail, calibration) for one in unseen)
    assert closest < 0.95
    assert float(np.vdot(unseen[0], thumbnail(photograph("coffee")[::2, ::2]))) > 0.99


def test_more_inputs_for_open_nsfw_are_none_of_its_others() -> None:
    try:
        case = open_case("open_nsfw")
        more = nsfw_test_inputs(case)
    except Unavailable as error:
        pytest.skip(str(error))
    with np.load(case.calibration) as calibration, np.load(case.test) as test, np.load(more) as others:
        known = hashes(calibration[case.input]) | hashes(test[case.input])
        found = hashes(others[case.input])
    assert len(found) == 100
    assert not found & known


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """16×16 grey values without their mean, of length 1: the product of two is their correlation."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize((16, 16), Image.Resampling.BOX), np.float64)
    grey -= grey.mean()
    return grey / np.linalg.norm(grey)


def test_a_resource_file_gives_its_files_by_path() -> None:
    names = b"".join(struct.pack(">HI", len(name), 0) + name.encode("utf-16-be") for name in ("birds", "a.webp"))
    packed = zlib.compress(b"picture")
    data = struct.pack(">I", 4 + len(packed)) + struct.pack(">I", 7) + packed
    tree = struct.pack(">IHII", 0, 2, 1, 1) + struct.pack(">IHII", 0, 2, 1, 2) + struct.pack(">IHHHI", 16, 1, 0, 0, 0)
    start = 20
    header = struct.pack(">4s4I", b"qres", 1, start, start + len(tree), start + len(tree) + len(data))
    assert read_resources(header + tree + data + names) == {"/birds/a.webp": b"picture"}


def test_crops_are_the_same_for_the_same_seed() -> None:
    first, again = (natural_crops("test", 6, 64, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (6, 64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)


def test_the_edge_detector_has_the_convolutions_of_vgg16(edge_detector: Path) -> None:
    graph = onnx.load(edge_detector).graph
    sizes = {tensor.name: tensor.dims for tensor in graph.initializer}
    kernels = [sizes[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    standard = [kernel for kernel in kernels if kernel[2] == 3]
    assert len(standard) == 13
    assert sum(int(np.prod(kernel)) for kernel in standard) == 14_710_464


def test_the_edge_detector_finds_the_edge_of_a_cup(edge_detector: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(edge_detector, options, providers=["CPUExecutionProvider"])
    cup = photograph("coffee")[:320, 100:420]
    (edges,) = session.run([hed.OUTPUT], {hed.INPUT: hed.preprocess(cup[None])})
    assert edges.shape == (1, 1, 320, 320)
    rim, coffee = edges[0, 0, 90:110, 60:95], edges[0, 0, 140:160, 140:200]
    assert (rim.max(axis=1) > 0.5).all()  # the cup's left side against the table, in every row
    assert coffee.max() < 0.1
