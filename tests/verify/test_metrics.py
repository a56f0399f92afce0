"""Ready-made metrics: hand-made cases, a well-kept library's figures, and one sentence for what fits none."""

from typing import Any

import numpy as np
import pytest

from sepconvert.data.arrays import from_arrays
from sepconvert.data.preprocess import Preprocess
from sepconvert.errors import DataError
from sepconvert.record import InputInfo
from sepconvert.verify.answers import Answers, Metric
from sepconvert.verify.boxes import find_boxes, holds_boxes
from sepconvert.verify.metrics import READY
from sepconvert.verify.metrics.likeness import MOST_DECIBELS
from sepconvert.verify.metrics.text import read

RNG = np.random.default_rng(0)


def one_hot(classes: Any, count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[np.asarray(classes)]


def test_top1_counts_labels_or_else_the_original_s_answers() -> None:
    before, after = {"y": one_hot([0, 1, 2, 3], 4)}, {"y": one_hot([0, 1, 2, 0], 4)}
    assert READY["top1"](before, before, None) == 1
    assert READY["top1"](before, after, None) == 0.75
    assert READY["top1"](before, after, np.array([0, 0, 0, 0])) == 0.5


def test_mean_iou_of_a_hand_made_map_with_void_pixels() -> None:
    truth, found = np.array([[[0, 0], [1, 255]]]), np.array([[[0, 1], [1, 0]]])
    scores = {"y": np.moveaxis(one_hot(found, 2), -1, 1)}
    # Class 0: one of two pixels; class 1: one of two; the void pixel counts nowhere.
    assert READY["mean-iou"](scores, scores, truth) == pytest.approx(0.5)
    assert READY["mean-iou"](scores, scores, None) == 1


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (6.0, 3.0)])
def test_mean_iou_of_a_single_class_tells_it_by_half_or_by_the_sign(scale: float, offset: float) -> None:
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    before, after = {"edge": scale * values - offset}, {"edge": np.ones((1, 1, 4, 4), np.float32)}
    # Foreground is half of the pixels; all are found, so the classes share 1/2 and 0.
    assert READY["mean-iou"](before, after, None) == pytest.approx(0.25)


def test_psnr_and_ssim_are_those_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    truth = RNG.random((2, 3, 24, 31)).astype(np.float32)
    picture = (truth + 0.1 * RNG.normal(size=truth.shape)).astype(np.float32)
    span = float(truth.max() - truth.min())
    options = {"data_range": span, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = list(zip(truth, picture, strict=True))
    wanted = [metrics.structural_similarity(*pair, channel_axis=0, **options) for pair in pairs]
    found = {name: READY[name]({"y": truth}, {"y": picture}, None) for name in ("psnr", "ssim")}
    assert found["ssim"] == pytest.approx(np.mean(wanted), rel=1e-4)  # it computes in float32
    wanted = [metrics.peak_signal_noise_ratio(*pair, data_range=span) for pair in pairs]
    assert found["psnr"] == pytest.approx(np.mean(wanted), rel=1e-5)
    assert READY["psnr"]({"y": truth}, {"y": truth}, None) == MOST_DECIBELS
    assert READY["ssim"]({"y": truth}, {"y": truth}, None) == pytest.approx(1)
    assert READY["psnr"]({"y": truth}, {"y": picture}, picture) == MOST_DECIBELS


def test_ctc_reads_repeats_as_one_and_blanks_as_none() -> None:
    scores = one_hot([0, 3, 3, 0, 3, 5, 5, 0], 6)
    assert read(scores) == (3, 3, 5)
    lines, other = {"y": np.stack([scores, scores])}, {"y": np.stack([scores, scores[::-1]])}
    assert READY["ctc-text"](lines, other, None) == 0.5
    assert READY["ctc-text"](lines, lines, np.array([[3, 3, 5, 0], [3, 5, -1, -1]])) == 0.5


def yolox(boxes: list[tuple[float, float, float, float, float]], side: int = 64) -> np.ndarray:
    """A raw YOLOX output (places, 6) of one class: centre, width and height in pixels and a score for each box."""
    rows = []
    for stride in (8, 16, 32):
        cells = side // stride
        grid = np.zeros((cells, cells, 6))
        grid[..., 2:4] = -1.0
        for x, y, w, h, score in boxes if stride == 16 else []:
            column, row = int(x // stride), int(y // stride)
            centre, sides = [x / stride - column, y / stride - row], np.log([w / stride, h / stride])
            grid[row, column] = [*centre, *sides, score, 1]
        rows.append(grid.reshape(-1, 6))
    return np.concatenate(rows).astype(np.float32)


def test_boxes_are_decoded_from_raw_grids_pixels_and_transposed_rows() -> None:
    raw = yolox([(20, 30, 12, 8, 0.9), (50, 50, 10, 10, 0.4)])
    pixels = np.zeros((84, 6), np.float32)
    pixels[:2] = [[20, 30, 12, 8, 0.9, 1], [50, 50, 10, 10, 0.4, 1]]
    transposed = np.delete(pixels, 4, axis=1) * 1.0
    transposed[:2, 4] = [0.9, 0.4]
    for output in (raw, pixels, transposed.T):
        assert holds_boxes(output[np.newaxis])
        (found,) = find_boxes(output[np.newaxis], 0.3)
        np.testing.assert_allclose(found, [[14, 26, 26, 34, 0.9, 0], [45, 45, 55, 55, 0.4, 0]], rtol=1e-5, atol=1e-5)
    assert not holds_boxes(RNG.normal(size=(1, 84, 6)))
    assert not holds_boxes(np.zeros((1, 3, 64, 64)))
    letters = RNG.dirichlet(np.ones(300), size=(1, 40))  # of a reader of text: 40 positions, 300 characters
    assert not holds_boxes(letters)


def test_of_overlapping_boxes_of_a_class_the_likeliest_is_kept() -> None:
    rows = np.zeros((84, 7), np.float32)
    rows[:3] = [[20, 20, 10, 10, 0.6, 1, 0], [21, 20, 10, 10, 0.9, 1, 0], [20, 20, 10, 10, 0.5, 0, 1]]
    (found,) = find_boxes(rows[np.newaxis], 0.1)
    assert found[:, 4:].tolist() == [[pytest.approx(0.9), 0], [0.5, 1]]


def test_detection_ap_of_a_hand_made_case() -> None:
    before = {"out": np.stack([yolox([(20, 30, 12, 8, 0.9), (50, 50, 10, 10, 0.8)])])}
    after = {"out": np.stack([yolox([(20, 30, 12, 8, 0.7), (34, 50, 10, 10, 0.9)])])}
    assert READY["detection-ap"](before, before, None) == 1
    # The likelier box is wrong, the other right: precision 1/2 at a recall of 1/2, then nothing.
    assert READY["detection-ap"](before, after, None) == pytest.approx(0.25)
    labels = np.array([[[14, 26, 26, 34, 0], [0, 0, 0, 0, -1]]])
    assert READY["detection-ap"](before, after, labels) == pytest.approx(0.5)
    with pytest.raises(DataError, match="no box in the truth"):
        READY["detection-ap"]({"out": np.stack([yolox([])])}, after, None)


INFO = InputInfo("x", "float32", ["N", 2], [1, 2])
DATA = from_arrays({"x": np.zeros((4, 2), np.float32), "y": np.arange(4)}, [INFO], Preprocess(), "the samples")


def asked(metric: Metric, after: np.ndarray | None = None) -> Any:
    answers, y = Answers(metric), one_hot([0, 1, 2, 3], 4)
    for rows in (slice(0, 3), slice(3, 4)):
        answers.add([("y", y[rows], (y if after is None else after)[rows])])
    return answers.figures(DATA)


def test_a_metric_gets_all_samples_of_both_models_and_the_labels() -> None:
    seen = []

    def count(original: Any, outputs: Any, labels: Any) -> np.float32:
        seen.append((original["y"].shape, outputs["y"].shape, labels.tolist()))
        return np.float32(outputs["y"].sum())

    found = asked(Metric("count", count), np.ones((4, 4), np.float32))
    assert seen == [((4, 4), (4, 4), [0, 1, 2, 3])] * 2
    assert (found.name, found.before, found.after, found.labelled, found.drop) == ("count", 4, 16, True, -12)


def test_samples_of_several_shapes_come_one_by_one() -> None:
    answers = Answers(Metric("longest", lambda original, outputs, labels: max(len(y) for y in outputs["y"])))
    for length in (3, 5):
        answers.add([("y", np.zeros((2, length)), np.zeros((2, length + 1)))])
    found = answers.figures(DATA)
    assert (found.before, found.after) == (5, 6)


def _fails(original: Any, outputs: Any, labels: Any) -> float:
    raise KeyError("nothing")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_fails, r"--metric m failed: KeyError \('nothing'\) at .*test_metrics.py"),
        (lambda original, outputs, labels: float("nan"), "--metric m gives nan, which is no finite number"),
        (lambda original, outputs: 0.0, "--metric m failed: TypeError"),
        (lambda original, outputs, labels: None, "--metric m failed: TypeError"),
        (READY["mean-iou"], r"--metric m: it needs an output of \(N, classes, H, W\), and the model has 'y' \(4, 4\)"),
        (READY["ctc-text"], "--metric m: it needs an output of scores at every position"),
    ],
)
def test_a_metric_that_fails_is_told_in_one_sentence(function: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        asked(Metric("m", function))
    assert "\n" not in str(error.value)
