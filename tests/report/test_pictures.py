"""Sample pictures: one scale for both outputs, an honest difference, text for vectors, nothing that is fetched."""

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sepconvert.record import SampleImages
from sepconvert.report.page import render
from sepconvert.report.pictures import Sample, sample_images


def pictured(label: str, given: Any, before: Any, after: Any, **more: Any) -> SampleImages:
    return sample_images(Sample(label, before, after, given, **more))


def pixels(uri: str | None) -> NDArray[np.uint8]:
    return np.asarray(Image.open(open_uri(uri)))


def open_uri(uri: str | None) -> io.BytesIO:
    assert uri is not None
    return io.BytesIO(base64.b64decode(uri.partition(",")[2]))


def test_both_outputs_share_the_originals_scale() -> None:
    before = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16)
    seen = pictured("one", np.zeros((3, 16, 16)), before, before / 2)
    assert pixels(seen.before).max() == 255
    assert pixels(seen.after).max() == 128
    assert pixels(seen.input).shape == (16, 16, 3)


def test_a_small_difference_is_amplified_and_says_so() -> None:
    before = np.linspace(0, 1, 256).reshape(16, 16)
    seen = pictured("one", None, before, before + 1 / 65)
    assert seen.note_difference == "×64"
    assert pixels(seen.difference).min() == round(255 * 64 / 65)


def test_equal_outputs_have_a_black_difference() -> None:
    before = np.linspace(0, 1, 256).reshape(16, 16)
    seen = pictured("one", None, before, before)
    assert pixels(seen.difference).max() == 0
    assert seen.note_difference is None


def test_a_broken_output_is_bright_and_not_black() -> None:
    before = np.linspace(0, 1, 256).reshape(16, 16)
    assert pixels(pictured("one", None, before, np.full_like(before, np.nan)).difference).min() == 255


def test_a_vector_is_told_by_its_largest_entry() -> None:
    seen = pictured("one", None, np.array([0.1, 3.2, 0.0]), np.array([2.5, 1.0, 0.0]))
    assert seen.note_before == "entry 1 is largest, 3.20"
    assert seen.note_after == "entry 0 is largest, 2.50"
    assert seen.before is None


def test_large_pictures_are_made_small() -> None:
    seen = pictured("one", np.random.default_rng(0).random((3, 600, 300)), np.zeros(2), np.zeros(2))
    assert pixels(seen.input).shape == (96, 48, 3)


def test_the_page_shows_pictures_from_the_record_only(records: Any) -> None:
    good = pictured("good.png", np.zeros((3, 16, 16)), np.zeros((16, 16)), np.ones((16, 16)))
    bad = SampleImages("bad", input="https://example.org/x.png", before="data:text/html;base64,AAAA", note_after="kept")
    html = render(records.rewrite(samples=[good, bad]))
    assert html.count("<img ") == 4
    assert "example.org" not in html
    assert "data:text" not in html
    assert "kept" in html


def test_pictures_that_would_make_the_page_too_large_are_left_out_and_counted(records: Any) -> None:
    noise = np.random.default_rng(0).random((3, 96, 96))
    one = pictured("noise", noise, noise, noise)
    html = render(records.rewrite(samples=[replace(one, label=f"sample {i}") for i in range(40)]))
    assert len(html.encode()) < 1_500_000
    assert "more samples are not shown" in html


def test_boxes_are_drawn_on_the_input_and_told_by_their_classes() -> None:
    given, boxes = np.zeros((64, 64, 3)), np.array([[8, 8, 40, 30, 0.9, 1], [50, 50, 60, 60, 0.8, 0]])
    output = np.zeros((84, 7))
    seen = pictured("one", given, output, output, boxes=(boxes, boxes[:1]), names={0: "cat", 1: "dog"})
    assert (seen.note_before, seen.note_after, seen.input) == ("1 dog, 1 cat", "1 dog", None)
    drawn, fewer = (np.asarray(Image.open(open_uri(uri)).convert("RGB")) for uri in (seen.before, seen.after))
    assert drawn[8, 20, 0] > 200
    assert drawn[50, 55, 0] > 200
    assert fewer[50, 55, 0] < 50
    assert pictured("one", given, output, output, boxes=(boxes, boxes)).note_before == "2 boxes"


def test_the_largest_entry_is_called_by_its_name() -> None:
    seen = pictured("one", None, np.array([0.1, 3.2]), np.array([2.5, 1.0]), names={1: "shoe"})
    assert (seen.note_before, seen.note_after) == ("shoe, 3.20", "entry 0 is largest, 2.50")


def test_bytes_are_shown_as_bright_as_they_are() -> None:
    seen = pictured("one", np.full((16, 16, 3), 100.0) + np.eye(16)[..., None], np.zeros(2), np.zeros(2))
    assert pixels(seen.input).min() == 100


def test_whole_numbers_are_bytes_however_dark_and_a_spectrogram_is_not() -> None:
    dark = pictured("one", np.full((16, 16), 3.0) + np.eye(16), np.zeros(2), np.zeros(2))
    assert pixels(dark.input).max() == 4
    spectrogram = pictured("one", np.linspace(2.9, 11.4, 76 * 32).reshape(76, 32, 1), np.zeros(2), np.zeros(2))
    assert (pixels(spectrogram.input).min(), pixels(spectrogram.input).max()) == (0, 255)
