"""The small drawings show the nodes that the form and its lowering write."""

from dataclasses import replace
from typing import Any

import pytest

from sepconvert.record import SiteRecord
from sepconvert.report.drawing import Drawing, draw_after, draw_before
from sepconvert.workflows.describe import layers_told


def titles(drawing: Any) -> list[str]:
    return [f"{box.title} {box.detail}".strip() for box in drawing.boxes if box.kind != "note"]


def drawn(site: SiteRecord) -> Drawing | None:
    return draw_after(replace(site, layers=layers_told(site)))


@pytest.mark.parametrize(
    ("form", "rank", "lowering", "boxes"),
    [
        ("dw-pw", 1, "stacked", ["depthwise 3×3 8 → 8", "pointwise 1×1 8 → 16"]),
        ("dw-pw", 2, "stacked", ["depthwise 3×3 8 → 16", "pointwise 1×1 16 → 16"]),
        ("dw-pw", 2, "branches", ["depthwise 3×3 8 → 8"] * 2 + ["pointwise 1×1 8 → 16"] * 2 + ["Add"]),
        ("dw-pw", 2, "concat", ["depthwise 3×3 8 → 8"] * 2 + ["Concat", "pointwise 1×1 16 → 16"]),
        ("pw-dw", 2, "stacked", ["pointwise 1×1 8 → 32", "grouped 3×3 32 → 16"]),
        ("pw-dw", 2, "branches", ["pointwise 1×1 8 → 16"] * 2 + ["depthwise 3×3 16 → 16"] * 2 + ["Add"]),
        ("pw-dw-pw", 5, None, ["pointwise 1×1 8 → 5", "depthwise 3×3 5 → 5", "pointwise 1×1 5 → 16"]),
        ("spatial", 6, None, ["Conv 3×1 8 → 6", "Conv 1×3 6 → 16"]),
        ("conv-pw", 6, None, ["Conv 3×3 8 → 6", "pointwise 1×1 6 → 16"]),
        ("pw-conv-pw", 6, None, ["pointwise 1×1 8 → 2", "Conv 3×3 2 → 6", "pointwise 1×1 6 → 16"]),
    ],
)
def test_the_drawing_has_the_nodes_of_the_form(
    records: Any, form: str, rank: int, lowering: str | None, boxes: list[str]
) -> None:
    site = replace(records.site(0, 8, 14), out_channels=16, form=form, rank=rank, lowering=lowering)
    assert titles(drawn(site)) == boxes


def test_the_factor_that_runs_first_is_drawn_first(records: Any) -> None:
    site = replace(records.site(0, 8, 14), form="spatial", rank=6, lowering=None, first_kernel=[1, 3])
    assert titles(drawn(site)) == ["Conv 1×3 8 → 6", "Conv 3×1 6 → 8"]


def test_many_branches_are_drawn_as_three_and_counted_in_words(records: Any) -> None:
    site = replace(records.site(0, 8, 14), form="dw-pw", rank=7, lowering="branches")
    drawing = drawn(site)
    assert len([box for box in drawing.boxes if box.kind == "taps"]) == 3
    assert "7 parallel branches" in drawing.text
    assert any("7 branches" in box.title for box in drawing.boxes)


def test_boxes_stay_inside_the_drawing_and_apart(records: Any) -> None:
    for rank in range(1, 6):
        site = replace(records.site(0, 8, 14), form="dw-pw", rank=rank, lowering="branches" if rank > 1 else "stacked")
        drawing = drawn(site)
        boxes = [box for box in drawing.boxes if box.kind != "note"]
        for i, a in enumerate(boxes):
            assert a.x >= 0
            assert a.x + a.width <= drawing.width
            assert a.y >= 0
            assert a.y + a.height <= drawing.height
            for b in boxes[:i]:
                apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
                assert apart


def test_a_layer_that_was_kept_has_no_drawing_of_a_replacement(records: Any) -> None:
    site = records.site(0, 8, 14, rewritten=False)
    assert draw_after(site) is None
    assert titles(draw_before(site)) == ["Conv 3×3 8 → 8"]


def test_an_old_record_of_an_unknown_form_is_not_drawn_rather_than_drawn_wrong(records: Any) -> None:
    assert drawn(replace(records.site(0, 8, 14), form="tucker")) is None


def test_a_form_of_the_future_is_drawn_from_its_layers(records: Any) -> None:
    site = records.site(0, 8, 14)
    assert titles(draw_after(replace(site, form="tucker"))) == titles(draw_after(site))
