from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sepconvert.data import Preprocess, load_data
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

SCALED = Preprocess(scale=1 / 255)


def an_input(*shape: int | str, dtype: str = "float32") -> InputInfo:
    return InputInfo("x", dtype, list(shape), None)


NCHW, NHWC = an_input("N", 3, 6, 8), an_input("N", 6, 8, 3)


def paint(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", size, colour).save(path)


def test_pixels_reach_nchw_and_nhwc_inputs_by_their_shape(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = pixels.astype(np.float32) * np.float32(1 / 255)
    np.testing.assert_array_equal(next(load_data(tmp_path, [NHWC], SCALED).batches())["x"][0], expected)
    np.testing.assert_array_equal(
        next(load_data(tmp_path, [NCHW], SCALED).batches())["x"][0], expected.transpose(2, 0, 1)
    )


def test_a_byte_input_takes_pixels_as_they_are(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (1, 2, 3))
    feeds = next(load_data(tmp_path, [an_input("N", 6, 8, 3, dtype="uint8")]).batches())
    assert feeds["x"].dtype == np.uint8
    assert feeds["x"][0, 0, 0].tolist() == [1, 2, 3]


def test_pixels_for_a_floating_input_need_a_scale(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (1, 2, 3))
    with pytest.raises(DataError, match=r"uint8 but the model takes float32; say how .*--scale"):
        load_data(tmp_path, [NCHW])


def test_mean_and_std_go_by_channel_in_either_layout(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (10, 20, 30))
    preprocess = Preprocess(mean=(10, 10, 10), std=(1, 2, 4))
    for info, axis in ((NCHW, 0), (NHWC, 2)):
        image = next(load_data(tmp_path, [info], preprocess).batches())["x"][0]
        np.testing.assert_array_equal(np.moveaxis(image, axis, 0)[:, 0, 0], [0, 5, 5])


def test_class_folders_give_labels_by_sorted_name(tmp_path: Path) -> None:
    for name in ("cat", "ant", "bee"):
        paint(tmp_path / name / "1.png", (0, 0, 0))
    paint(tmp_path / "cat" / "2.png", (0, 0, 0))
    dataset = load_data(tmp_path, [NCHW], SCALED)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 2, 2]


def test_numbered_class_folders_give_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "2"):
        paint(tmp_path / name / "1.png", (0, 0, 0))
    dataset = load_data(tmp_path, [NCHW], SCALED)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [10, 2]


def test_a_grey_input_gets_grey_images(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (100, 100, 100))
    feeds = next(load_data(tmp_path, [an_input(1, 1, 6, 8)], Preprocess(scale=1)).batches())
    np.testing.assert_array_equal(feeds["x"], np.full((1, 1, 6, 8), 100, np.float32))


def test_an_image_keeps_its_proportions_and_is_cut_around_its_centre(tmp_path: Path) -> None:
    wide = np.zeros((6, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert (next(load_data(tmp_path, [NCHW], Preprocess(scale=1)).batches())["x"] == 200).all()


def test_a_dynamic_size_comes_from_the_option(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (0, 0, 0))
    dynamic = an_input("N", 3, "H", "W")
    assert load_data(tmp_path, [dynamic], Preprocess(scale=1, size=(5, 7))).shapes() == {"x": (1, 3, 5, 7)}
    with pytest.raises(DataError, match=r"any size .*; pass --size"):
        load_data(tmp_path, [dynamic], SCALED)


def test_a_size_against_the_model_is_refused(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (0, 0, 0))
    with pytest.raises(DataError, match="images of 6x8 only"):
        load_data(tmp_path, [NCHW], Preprocess(scale=1, size=(6, 6)))


def test_an_unclear_layout_is_asked_for(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (0, 0, 0))
    unclear = an_input("N", "a", "b", "c")
    with pytest.raises(DataError, match="pass --layout nchw or --layout nhwc"):
        load_data(tmp_path, [unclear], SCALED)
    dataset = load_data(tmp_path, [unclear], Preprocess(scale=1, size=(5, 7), layout="nhwc"))
    assert dataset.shapes() == {"x": (1, 5, 7, 3)}


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (0, 0, 0))
    (tmp_path / "b.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"b\.jpg cannot be read \(not an image\)"):
        list(load_data(tmp_path, [NCHW], SCALED).batches())


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(noise).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            list(load_data(tmp_path, [NCHW], SCALED).batches())
        (tmp_path / name).unlink()


def test_more_than_eight_bits_are_not_clipped_silently(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 8), 40000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        load_data(tmp_path, [NCHW], SCALED)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load_data(tmp_path, [NCHW], SCALED)


def test_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (0, 0, 0))
    paint(tmp_path / "cat" / "a.png", (0, 0, 0))
    with pytest.raises(DataError, match="both directly and in sub-folders"):
        load_data(tmp_path, [NCHW], SCALED)


def test_a_model_that_takes_no_image_is_said(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (0, 0, 0))
    with pytest.raises(DataError, match="not one image batch"):
        load_data(tmp_path, [an_input("N", 3)], SCALED)
    with pytest.raises(DataError, match="takes 7 channels"):
        load_data(tmp_path, [an_input("N", 7, 8, 8)], SCALED)
