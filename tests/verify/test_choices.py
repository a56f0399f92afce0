"""How often both models choose the same of several classes, counted at every position."""

from typing import Any

import numpy as np
import onnx
import pytest

from sepconvert.data import Dataset, Preprocess
from sepconvert.data.arrays import from_arrays
from sepconvert.graph.batch_axes import batch_axes
from sepconvert.graph.heads import expose
from sepconvert.graph.joined import output_parts
from sepconvert.graph.load import load_bytes
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.record import Fidelity, InputInfo
from sepconvert.verify.choices import ChoiceCounts, holds_classes
from sepconvert.verify.fidelity import measure_fidelity

COUNT = 12


def network(shift: float, shape: str, made: str, end: str) -> Any:
    """A model whose scores are the input plus ``shift`` times its own places along the last axis, then ``end``."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N,{shape}] x) => ({made} y) {{
        k = Constant <value_float = {shift}> () one = Abs (x) square = Mul (one, x) less = Mul (square, k)
        a = Add (x, less) {end} }}"""
    return load_bytes(onnx.parser.parse_model(text).SerializeToString())


def measured(shape: str, made: str, end: str, shift: float = 0.4) -> tuple[Fidelity, list[np.ndarray]]:
    """The fidelity of a model to one without the shift, and the scores of both."""
    sides = [int(side) for side in shape.split(",")]
    x = np.random.default_rng(0).normal(size=(COUNT, *sides)).astype(np.float32)
    before, after = network(0.0, shape, made, end), network(shift, shape, made, end)
    shapes = infer_shapes(before, {"x": (1, *sides)})
    parts = output_parts(before, shapes)
    names = [part.value for found in parts.values() for part in found]
    models = [model_bytes(expose(model, names)) for model in (before, after)]
    info = InputInfo("x", "float32", ["N", *sides], None)
    dataset: Dataset = from_arrays({"x": x}, [info], Preprocess(), "the samples")
    axes = batch_axes(before, shapes)
    found = measure_fidelity(models[0], models[1], dataset, parts=parts, axes=axes, batch_size=5).fidelity
    return found, [x, x + shift * np.abs(x) * x]


def expected(scores: list[np.ndarray], axis: int) -> tuple[float, float]:
    """The share of equal choices, and of samples without any other."""
    same = scores[0].argmax(axis) == scores[1].argmax(axis)
    return float(same.mean()), float(same.reshape(COUNT, -1).all(axis=1).mean())


# A negative shift beyond -1/max|x| turns the order of large scores round.
TURNED = -0.45


@pytest.mark.parametrize(
    ("shape", "made", "end", "axis"),
    [
        ("7,5", "float[N,7,5]", "y = Softmax <axis=2> (a)", 2),
        ("5,4,3", "float[N,5,4,3]", "y = LogSoftmax <axis=1> (a)", 1),
        ("5,4,3", "int64[N,4,3]", "y = ArgMax <axis=1, keepdims=0> (a)", 1),
        ("7,5", "float[7,N,5]", "s = Softmax <axis=2> (a) y = Transpose <perm=[1,0,2]> (s)", 2),
        ("7,5", "float[7,N,5]", "t = Transpose <perm=[1,0,2]> (a) y = Softmax <axis=2> (t)", 2),
    ],
    ids=["text", "segmentation", "chosen", "turned after", "turned before"],
)
def test_choices_are_counted_at_every_position(shape: str, made: str, end: str, axis: int) -> None:
    found, scores = measured(shape, made, end, TURNED)
    (choice,) = found.choices
    agreement, unchanged = expected(scores, axis)
    assert 0.3 < agreement < 1
    assert (choice.name, choice.positions) == ("y", scores[0].size // scores[0].shape[axis])
    assert (choice.agreement, choice.unchanged) == (pytest.approx(agreement), pytest.approx(unchanged))
    assert found.least_agreement == choice.agreement


def test_a_detector_s_classes_are_counted_by_the_part() -> None:
    end = """box = Neg (a) p = Softmax <axis=2> (a) y = Concat <axis=2> (box, p)"""
    found, scores = measured("7,5", "float[N,7,10]", end, TURNED)
    (choice,) = found.choices
    assert choice.name == "a"
    assert choice.agreement == pytest.approx(expected(scores, 2)[0])


def test_one_choice_per_sample_is_top_1_s() -> None:
    found, scores = measured("5", "float[N,5]", "y = Softmax <axis=1> (a)", TURNED)
    assert found.choices == []
    assert found.top1_agreement == pytest.approx(expected(scores, 1)[0])


def test_a_second_classifier_is_counted_beside_top_1() -> None:
    """Of two heads top-1 counts the first."""
    choices = ChoiceCounts()
    choices.add(np.eye(3), np.eye(3)[[0, 1, 1]], 1, 0)
    figures = choices.figures("second")
    assert figures is not None
    assert (figures.agreement, figures.positions, figures.unchanged) == (pytest.approx(2 / 3), 3, pytest.approx(2 / 3))


def test_nothing_is_counted_where_there_is_nothing_to_choose_or_to_compare() -> None:
    for before, after in (
        (np.ones((4, 1)), np.ones((4, 1))),
        (np.full((4, 3), np.nan), np.ones((4, 3))),
        (np.ones((4, 3)), np.ones((4, 2))),
        (np.ones((0, 3)), np.ones((0, 3))),
    ):
        choices = ChoiceCounts()
        choices.add(before, after, -1, 0)
        assert choices.figures("y") is None


def test_one_bad_batch_leaves_nothing_counted() -> None:
    choices = ChoiceCounts()
    choices.add(np.eye(3), np.eye(3), 1, 0)
    choices.add(np.full((1, 3), np.inf), np.eye(3)[:1], 1, 0)
    assert choices.figures("y") is None


def test_answers_of_a_sigmoid_are_counted_where_either_model_says_yes() -> None:
    before, after = np.full((3, 5, 2), -1.0), np.full((3, 5, 2), -1.0)
    before[0, :4, 0] = after[0, :3, 0] = after[1, 0, 1] = 1.0
    choices = ChoiceCounts()
    choices.add_answers(before, after, 0)
    figures = choices.figures("scores")
    assert figures is not None
    assert (figures.agreement, figures.positions, figures.unchanged) == (3 / 5, 5, pytest.approx(1 / 3))


def test_scores_of_several_labels_are_counted_but_not_a_map_of_one() -> None:
    found, scores = measured("6", "float[N,6]", "y = Sigmoid (a)", TURNED)
    yes = [values > 0 for values in scores]
    (counted,) = found.choices
    assert counted.agreement == pytest.approx((yes[0] & yes[1]).sum() / (yes[0] | yes[1]).sum())
    assert measured("1,6,6", "float[N,1,6,6]", "y = Sigmoid (a)", TURNED)[0].choices == []


def test_bare_scores_of_a_map_are_known_by_their_values() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 7, 5, 5))
    assert not holds_classes(logits)  # nothing is certain
    assert holds_classes(20 * logits)
    assert not holds_classes(20 * logits[:, :3])  # a picture
    assert not holds_classes(np.abs(20 * logits))  # features
    found, scores = measured("7,5,5", "float[N,7,5,5]", "t = Constant <value_float = 20.0> () y = Mul (a, t)", TURNED)
    (counted,) = found.choices
    assert (counted.agreement, counted.unchanged) == pytest.approx(expected(scores, 1))
