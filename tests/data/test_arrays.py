import os
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from sepconvert.data import Dataset, Preprocess, arrays, load_data
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

IMAGE = InputInfo("pixels", "float32", ["N", 3, 4, 5], [1, 3, 4, 5])


def image_input(**changes: object) -> InputInfo:
    values = {"name": "pixels", "dtype": "float32", "declared_shape": ["N", 3, 4, 5], "used_shape": None, **changes}
    return InputInfo(**values)  # type: ignore[arg-type]


def save(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "d.npz", **arrays)
    return folder / "d.npz"


def everything(dataset: Dataset) -> dict[str, np.ndarray]:
    batches = list(dataset.batches(3))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((7, 3, 4, 5))


def test_arrays_are_found_by_input_name_and_cast_to_its_dtype(tmp_path: Path, images: np.ndarray) -> None:
    dataset = load_data(save(tmp_path, pixels=images), [IMAGE])
    assert dataset.count == 7
    assert dataset.labels is None
    result = everything(dataset)["pixels"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, images.astype(np.float32))


def test_x_stands_for_a_single_input_and_y_gives_labels(tmp_path: Path, images: np.ndarray) -> None:
    dataset = load_data(save(tmp_path, x=images, y=np.arange(7, dtype=np.uint8)), [IMAGE])
    assert list(everything(dataset)) == ["pixels"]
    assert dataset.labels is not None
    np.testing.assert_array_equal(dataset.labels, np.arange(7))
    assert dataset.labels.dtype == np.int64


def test_labels_may_be_a_column(tmp_path: Path, images: np.ndarray) -> None:
    dataset = load_data(save(tmp_path, x=images, y=np.arange(7)[:, None]), [IMAGE])
    assert dataset.labels is not None
    assert dataset.labels.shape == (7,)


def test_y_is_an_input_where_the_model_has_one_of_that_name(tmp_path: Path) -> None:
    inputs = [InputInfo("x", "float32", ["N", 2], None), InputInfo("y", "float32", ["N", 3], None)]
    dataset = load_data(save(tmp_path, x=np.ones((4, 2)), y=np.zeros((4, 3))), inputs)
    assert dataset.labels is None
    assert everything(dataset)["y"].shape == (4, 3)


def test_an_npy_feeds_the_single_input(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "d.npy", images.astype(np.float32))
    np.testing.assert_array_equal(
        everything(load_data(tmp_path / "d.npy", [IMAGE]))["pixels"], images.astype(np.float32)
    )


def test_integers_for_a_floating_input_are_scaled_and_normalised(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 3, 4, 5), dtype=np.uint8)
    preprocess = Preprocess(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0), scale=1 / 255)
    result = everything(load_data(save(tmp_path, x=pixels), [IMAGE], preprocess))["pixels"]
    mean, std = np.reshape([0.1, 0.2, 0.3], (3, 1, 1)), np.reshape([0.5, 0.25, 2.0], (3, 1, 1))
    # Three float32 roundings, each relative 2^-24, of values up to 1.2, divided by at least 0.25.
    np.testing.assert_allclose(result, (pixels / 255 - mean) / std, rtol=0, atol=3 * 2**-24 * 1.2 / 0.25)


def test_an_integer_input_takes_integers_unscaled(tmp_path: Path) -> None:
    tokens = InputInfo("ids", "int64", ["N", 3], None)
    dataset = load_data(save(tmp_path, x=np.array([[1, 2, 3]], np.uint8)), [tokens], Preprocess(scale=0.5))
    np.testing.assert_array_equal(everything(dataset)["ids"], [[1, 2, 3]])


def test_bfloat16_inputs_get_bfloat16(tmp_path: Path, images: np.ndarray) -> None:
    dataset = load_data(save(tmp_path, x=images), [image_input(dtype="bfloat16")])
    assert everything(dataset)["pixels"].dtype == ml_dtypes.bfloat16


def test_a_scalar_input_is_fed_whole_to_every_batch(tmp_path: Path, images: np.ndarray) -> None:
    inputs = [IMAGE, InputInfo("t", "float32", [], None), InputInfo("k", "float32", [2], None)]
    dataset = load_data(save(tmp_path, pixels=images, t=np.array(0.5), k=np.array([1.0, 2.0])), inputs)
    assert dataset.count == 7
    for feeds in dataset.batches(3):
        assert feeds["t"].shape == ()
        np.testing.assert_array_equal(feeds["k"], [1, 2])


def test_a_static_batch_rules_and_what_is_left_over_is_said(tmp_path: Path, images: np.ndarray) -> None:
    fixed = image_input(declared_shape=[2, 3, 4, 5])
    dataset = load_data(save(tmp_path, x=images, y=np.arange(7)), [fixed])
    assert [feeds["pixels"].shape[0] for feeds in dataset.batches(64)] == [2, 2, 2]
    assert dataset.count == 6
    assert dataset.labels is not None
    assert len(dataset.labels) == 6
    assert "last 1 of 7 samples were left out" in dataset.warnings[0]


def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object))
    for name in ("d.npz", "d.npy"):
        with pytest.raises(DataError, match="pickled objects"):
            load_data(tmp_path / name, [IMAGE])


@pytest.mark.parametrize("keep", [0, 3, 200, 1400])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_damaged_file_is_named(tmp_path: Path, images: np.ndarray, keep: int, suffix: str) -> None:
    (np.savez if suffix == ".npz" else np.save)(tmp_path / f"good{suffix}", images)
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes((tmp_path / f"good{suffix}").read_bytes()[:keep])
    with pytest.raises(DataError, match=f"bad{suffix} "):
        load_data(bad, [IMAGE])


def test_a_flipped_byte_in_a_compressed_npz_is_named(tmp_path: Path, images: np.ndarray) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=images)
    data = bytearray((tmp_path / "d.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"d\.npz is damaged"):
        load_data(tmp_path / "d.npz", [IMAGE])


def packed(path: Path, header: bytes, data: bytes = bytes(1680)) -> Path:
    """An ``.npz`` of one array with a header of one's own."""
    length = struct.pack("<H", len(header))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + length + header + data)
    return path


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': %s}\n"


@pytest.mark.parametrize(
    "header",
    [
        HEADER % b"(3, 1000000000000000)",
        HEADER % b"(7, 3, 4, 6)",
        HEADER % b"(-7, 3, 4, 5)",
        HEADER % b"(7, 3, 4, 5L",
        HEADER % (b"(" * 3000),
        b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (7, 3, 4, 5)}\n",
        b"{'descr': ('<f4', (10**9,)), 'fortran_order': False, 'shape': (7,)}\n",
        b"\xff\xfe",
        b"",
    ],
    ids=["petabytes", "too many", "negative", "cut off", "deep", "no type", "nested type", "no text", "empty"],
)
def test_a_header_that_its_file_does_not_bear_out_is_refused_before_anything_is_unpacked(
    tmp_path: Path, header: bytes
) -> None:
    with pytest.raises(DataError, match=r"d\.npz is damaged") as caught:
        load_data(packed(tmp_path / "d.npz", header), [IMAGE])
    assert "\n" not in str(caught.value)


def test_what_unpacks_to_more_than_memory_should_hold_is_refused_by_its_declared_size(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.npz"
    np.savez_compressed(path, pixels=np.zeros((7, 3, 4, 5), np.float32))
    monkeypatch.setattr(arrays, "MOST_BYTES", 7 * 3 * 4 * 5 * 4)
    assert load_data(path, [IMAGE]).count == 7
    monkeypatch.setattr(arrays, "MOST_BYTES", 7 * 3 * 4 * 5 * 4 - 1)
    with pytest.raises(DataError, match="would unpack to"):
        load_data(path, [IMAGE])


def test_an_encrypted_member_is_one_sentence(tmp_path: Path, images: np.ndarray) -> None:
    data = bytearray(save(tmp_path, x=images).read_bytes())
    for start, offset in ((data.find(b"PK\x03\x04"), 6), (data.find(b"PK\x01\x02"), 8)):
        data[start + offset] |= 1  # the flag of an encrypted member, in its own header and in the directory's
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"d\.npz is damaged .*encrypted"):
        load_data(tmp_path / "d.npz", [IMAGE])


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_pipe_is_refused_rather_than_read_without_end(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"d{suffix}")
    with pytest.raises(DataError, match="is a device, pipe or socket"):
        load_data(tmp_path / f"d{suffix}", [IMAGE])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused(tmp_path: Path, images: np.ndarray, value: float) -> None:
    images[6, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"d\.npz: array for input 'pixels' holds NaN or Inf"):
        load_data(save(tmp_path, x=images), [IMAGE])


@pytest.mark.parametrize(("largest", "refused"), [(1e37, True), (2e15, True), (1e14, False)])
def test_values_whose_products_overflow_are_refused(
    tmp_path: Path, images: np.ndarray, largest: float, refused: bool
) -> None:
    images[0, 0, 0, 0] = -largest
    path = save(tmp_path, x=images)
    if not refused:
        load_data(path, [IMAGE])
        return
    with pytest.raises(DataError, match=r"values for input 'pixels' reach .*, whose products overflow; scale them"):
        load_data(path, [IMAGE])


def test_an_overflow_of_the_cast_is_not_called_nan_in_the_data(tmp_path: Path, images: np.ndarray) -> None:
    with pytest.raises(DataError, match="overflow float16"):
        load_data(save(tmp_path, x=images * 1e6), [image_input(dtype="float16")])


BAD_ARRAYS = {
    r"no array for input 'pixels' \(it holds 'image'\); name the arrays 'pixels'": {"image": np.zeros((2, 3, 4, 5))},
    "array 'extra' is no input": {"pixels": np.zeros((2, 3, 4, 5)), "extra": np.zeros(2)},
    r"has shape \(2, 3, 4, 6\) but the model takes \(N, 3, 4, 5\)": {"x": np.zeros((2, 3, 4, 6))},
    "seems to be NHWC": {"x": np.zeros((2, 4, 5, 3))},
    "add the leading batch dimension": {"x": np.zeros((3, 4, 5))},
    r"uint8 but the model takes float32; say how .* --scale .*--mean or --std": {"x": np.zeros((2, 3, 4, 5), np.uint8)},
    "give numbers of type float32": {"x": np.zeros((2, 3, 4, 5), "U3")},
    "complex": {"x": np.zeros((2, 3, 4, 5), complex)},
    "3 labels for 2 samples": {"x": np.zeros((2, 3, 4, 5)), "y": np.arange(3)},
    "labels 'y' are a single float64": {"x": np.zeros((2, 3, 4, 5)), "y": np.float64(2)},
    "class numbers start at 0": {"x": np.zeros((2, 3, 4, 5)), "y": np.array([-1, 0])},
    "5 labels for 2": {"x": np.zeros((2, 3, 4, 5)), "y": np.zeros((5, 4, 5), int)},
    "holds no samples": {"x": np.zeros((0, 3, 4, 5))},
    r"it holds nothing": {},
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load_data(save(tmp_path, **BAD_ARRAYS[message]), [IMAGE])
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_an_empty_dimension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which is empty"):
        load_data(save(tmp_path, x=np.zeros((2, 3, 0, 5))), [image_input(declared_shape=["N", 3, "H", 5])])


def test_floats_for_an_integer_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is float64 but the model takes int64"):
        load_data(save(tmp_path, x=np.zeros((2, 3))), [InputInfo("ids", "int64", ["N", 3], None)])


def test_integers_outside_the_range_of_the_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="reach from 0 to 300, outside uint8's range"):
        load_data(save(tmp_path, x=np.array([[0, 300]])), [InputInfo("p", "uint8", ["N", 2], None)])


def test_text_inputs_cannot_be_fed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="takes str, for which data cannot be given"):
        load_data(save(tmp_path, x=np.zeros((2, 3))), [InputInfo("text", "str", ["N", 3], None)])


def test_different_numbers_of_samples_are_refused(tmp_path: Path) -> None:
    inputs = [InputInfo("a", "float32", ["N", 2], None), InputInfo("b", "float32", ["N", 2], None)]
    with pytest.raises(DataError, match="3 for 'a', 4 for 'b'"):
        load_data(save(tmp_path, a=np.zeros((3, 2)), b=np.zeros((4, 2))), inputs)


def test_fewer_samples_than_a_static_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 sample\(s\) but the model takes 4 at a time"):
        load_data(save(tmp_path, x=np.zeros((2, 3))), [InputInfo("a", "float32", [4, 3], None)])


def test_an_npy_cannot_feed_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((2, 3)))
    inputs = [InputInfo("a", "float32", ["N", 3], None), InputInfo("b", "float32", ["N", 3], None)]
    with pytest.raises(DataError, match=r"the inputs 'a', 'b'; give an \.npz"):
        load_data(tmp_path / "d.npy", inputs)


def test_mean_values_must_match_the_channels(tmp_path: Path, images: np.ndarray) -> None:
    with pytest.raises(DataError, match="--mean has 2 values but input 'pixels' has 3 channels"):
        load_data(save(tmp_path, x=images), [IMAGE], Preprocess(mean=(0.5, 0.5)))


def test_a_wrong_suffix_is_said(tmp_path: Path, images: np.ndarray) -> None:
    with (tmp_path / "d.npz").open("wb") as stream:
        np.save(stream, images)
    with pytest.raises(DataError, match=r"d\.npz is an \.npy file"):
        load_data(tmp_path / "d.npz", [IMAGE])
    with (tmp_path / "d.npy").open("wb") as stream:
        np.savez(stream, x=images)
    with pytest.raises(DataError, match=r"d\.npy is an \.npz file"):
        load_data(tmp_path / "d.npy", [IMAGE])


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz does not exist"):
        load_data(tmp_path / "none.npz", [IMAGE])
    (tmp_path / "d.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"d\.csv is none of the known kinds"):
        load_data(tmp_path / "d.csv", [IMAGE])
