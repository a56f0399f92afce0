"""Arrays against the model's inputs: each refusal names the input and says what to give."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from sepconvert.data.load import load_data
from sepconvert.data.matching import (
    ArraySource,
    check_dtype,
    check_shape,
    check_values,
    convert,
    find_constant,
    input_dtype,
    match_names,
    static_batch,
)
from sepconvert.data.preprocess import Preprocess
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

IMAGE = InputInfo("image", "float32", ["N", 3, 8, 8], None)
BOUND = InputInfo("bound", "float32", [], None)
RAW = Preprocess()


def typed(dtype: str) -> InputInfo:
    return InputInfo("image", dtype, ["N", 2], None)


def source(array: np.ndarray, info: InputInfo, preprocess: Preprocess = RAW) -> ArraySource:
    return ArraySource({info.name: array}, (info,), preprocess, frozenset())


def test_x_stands_for_the_only_input_but_not_for_one_of_two():
    x = np.zeros(1)
    assert match_names({"x": x}, [IMAGE], "d") == {"image": x}
    with pytest.raises(DataError, match=r"no array for input 'image' .it holds 'x'.; name the arrays 'image', 'bound'"):
        match_names({"x": x}, [IMAGE, BOUND], "d")


def test_an_array_that_is_no_input_is_named():
    with pytest.raises(DataError, match="array 'other' is no input of the model"):
        match_names({"image": np.zeros(1), "other": np.zeros(1)}, [IMAGE], "d")


def test_the_static_batch_is_that_of_the_inputs_that_hold_samples():
    fixed, free = InputInfo("a", "float32", [4, 2], None), InputInfo("b", "float32", ["N", 2], None)
    other = InputInfo("c", "float32", [6], None)
    assert static_batch([fixed, free, BOUND], frozenset(), "d") == 4
    assert static_batch([free], frozenset(), "d") is None
    assert static_batch([fixed, other], frozenset({"c"}), "d") == 4
    with pytest.raises(DataError, match=r"different static batch sizes .4, 6."):
        static_batch([fixed, other], frozenset(), "d")


def test_scalars_and_whole_arrays_beside_longer_ones_hold_no_samples():
    anchors = InputInfo("anchors", "float32", [5, 4], None)
    arrays = {"image": np.zeros((9, 3, 8, 8)), "bound": np.float32(0.5), "anchors": np.zeros((5, 4))}
    assert find_constant(arrays, [IMAGE, BOUND, anchors]) == {"bound", "anchors"}
    assert find_constant({"anchors": arrays["anchors"]}, [anchors]) == frozenset()


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((3, 8, 8), "add the leading batch dimension"),
        ((5, 8, 8, 3), "NHWC, transpose it with np.transpose.a, .0, 3, 1, 2.."),
        ((5, 3, 9, 8), "give arrays of that shape"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_with_what_would_mend_it(shape, said):
    with pytest.raises(DataError, match=said):
        check_shape(shape, IMAGE, "d")


def test_an_empty_sample_is_refused():
    free = InputInfo("image", "float32", ["N", 3, "H", "W"], None)
    check_shape((0, 3, 4, 4), free, "d")
    with pytest.raises(DataError, match="which is empty"):
        check_shape((5, 3, 0, 4), free, "d")


@pytest.mark.parametrize(
    ("have", "want", "preprocess", "said"),
    [
        (np.float64, "float16", RAW, None),
        (ml_dtypes.bfloat16, "float32", RAW, None),
        (np.float32, "bfloat16", RAW, None),
        (np.uint8, "int64", RAW, None),
        (np.uint8, "float32", Preprocess(scale=1 / 255), None),
        (np.uint8, "float32", RAW, "say how to convert them with --scale"),
        (np.uint8, "bfloat16", RAW, "say how to convert them with --scale"),
        (np.float32, "int64", RAW, "is float32 but the model takes int64"),
        (np.int64, "bool", RAW, "is int64 but the model takes bool"),
        (np.complex64, "float32", RAW, "give numbers of type float32"),
        ("U3", "float32", RAW, "give numbers of type float32"),
    ],
)
def test_types_become_others_only_without_guessing(have, want, preprocess, said):
    array = np.zeros((1, 2), have)
    if said is None:
        check_dtype(array, typed(want), preprocess, "d")
        assert convert(array, typed(want), preprocess).dtype.name == want
        return
    with pytest.raises(DataError, match=said):
        check_dtype(array, typed(want), preprocess, "d")


@pytest.mark.parametrize("dtype", ["object", "sequence(tensor(float))", "float8e5m2", "complex64"])
def test_an_input_that_takes_no_numbers_is_refused(dtype):
    with pytest.raises(DataError, match="for which data cannot be given"):
        input_dtype(typed(dtype), "d")


def test_values_per_channel_are_for_images_and_not_for_numbers_beside_them():
    per_channel = Preprocess(mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 2.0))
    pixels = convert(np.full((1, 3, 8, 8), 5, np.uint8), IMAGE, per_channel)
    assert pixels[0, :, 0, 0].tolist() == [4, 3, 1]
    beside = InputInfo("sizes", "float32", ["N", 2], None)
    assert convert(np.array([[7.0, 9.0]]), beside, per_channel).tolist() == [[7, 9]]


@pytest.mark.parametrize(
    ("array", "dtype", "said"),
    [
        (np.array([[0.0, np.nan]]), "float32", "holds NaN or Inf; remove those samples"),
        (np.array([[0.0, 1e6]]), "float16", "overflow float16; scale them"),
        (np.array([[-1, 300]]), "uint8", "reach from -1 to 300, outside uint8's range"),
    ],
)
def test_values_that_no_model_should_be_fed_are_refused(array, dtype, said):
    with pytest.raises(DataError, match=said):
        check_values(source(array, typed(dtype)), 1, "d")


def test_samples_are_read_by_index_in_the_input_s_type():
    found = source(np.arange(6).reshape(3, 2), typed("int32")).read(np.array([2, 0]))["image"]
    assert (found.dtype, found.tolist()) == (np.int32, [[4, 5], [0, 1]])


def test_samples_along_another_axis_are_refused_with_a_way_out(tmp_path: Path) -> None:
    def states(*shape: int | str) -> list[InputInfo]:
        batch = "batch" if "batch" in shape else 1
        return [
            InputInfo("x", "float32", [batch, 512], [1, 512]),
            InputInfo("state", "float32", list(shape), [2, 1, 128]),
        ]

    given = tmp_path / "given.npz"
    np.savez(given, x=np.ones((6, 512), np.float32), state=np.ones((2, 1, 128), np.float32))
    wanted = r"'state' \(2, batch, 128\) has its samples along 'batch'.*'batch' fixed to 1.*array \(2, 1, 128\) for all"
    with pytest.raises(DataError, match=wanted):
        load_data(given, states(2, "batch", 128))
    fixed = load_data(given, states(2, 1, 128))  # the way out
    assert fixed.count == 6
    assert fixed.source.constant == {"state"}
    np.savez(given, x=np.ones((6, 512), np.float32), state=np.ones((6, 2, 128), np.float32))
    assert load_data(given, states("batch", 2, 128)).count == 6
