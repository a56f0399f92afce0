"""Outputs are taken apart into the values that they join, each before its activation."""

import numpy as np
import onnx
import pytest

from sepconvert.graph.joined import OutputPart, output_parts, values_behind_parts
from sepconvert.graph.load import load_bytes
from sepconvert.graph.shapes import infer_shapes


def parts_of(inputs: str, outputs: str, body: str, opset: int = 17) -> dict[str, list[str]]:
    """The names of the parts of every output of a model in ONNX's text format."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    model = load_bytes(proto.SerializeToString())
    found = output_parts(model, infer_shapes(model))
    return {name: [part.name for part in parts] for name, parts in found.items()}


CONV = "a = Relu (x) b = Abs (x) c = Neg (x)"  # three values that nothing is seen through


def test_an_output_that_joins_nothing_is_its_own_part() -> None:
    assert parts_of("float[N,4] x", "float[N,4] y", "y = Relu (x)") == {"y": ["y"]}


@pytest.mark.parametrize("activation", ["Sigmoid", "Softmax <axis=1>", "LogSoftmax <axis=1>", "Exp"])
def test_an_output_behind_an_activation_is_judged_before_it(activation: str) -> None:
    body = f"a = Relu (x) b = {activation} (a) k = Constant <value_float = 255.0> () y = Mul (k, b)"
    assert parts_of("float[N,4] x", "float[N,4] y", body) == {"y": ["a"]}


def test_boxes_objects_and_classes_of_every_scale_are_parts() -> None:
    """As YOLOX joins them: per scale on the channels, then all scales on the positions."""
    body = f"""{CONV}
        s = Sigmoid (b) one = Concat <axis = 1> (a, s)
        t = Sigmoid (c) two = Concat <axis = 1> (c, t)
        flat = Constant <value = int64[3] {{0, 8, -1}}> ()
        p = Reshape (one, flat) q = Reshape (two, flat)
        all = Concat <axis = 2> (p, q) y = Transpose <perm = [0, 2, 1]> (all)"""
    assert parts_of("float[N,4,2,2] x", "float[N,8,8] y", body) == {"y": ["a", "b", "c"]}


def test_a_slice_of_what_was_joined_leads_to_the_inputs_it_comes_from() -> None:
    """As YOLOv8 does it: boxes and classes are joined per scale, and split again behind all scales."""
    body = """
        box = Relu (x) cls = Abs (x) head = Concat <axis = 1> (box, cls)
        flat = Constant <value = int64[3] {0, 8, -1}> () long = Reshape (head, flat)
        sizes = Constant <value = int64[2] {4, 4}> ()
        boxes, scores = Split <axis = 1> (long, sizes)
        anchors = Constant <value = float[1,4,1] {0.5, 0.5, 1.5, 1.5}> () stride = Constant <value_float = 8.0> ()
        moved = Sub (anchors, boxes) pixels = Mul (moved, stride)
        left = Sigmoid (scores) y = Concat <axis = 1> (pixels, left)"""
    assert parts_of("float[N,4,3,3] x", "float[N,8,9] y", body) == {"y": ["box", "cls"]}


def test_what_two_values_are_computed_to_is_not_seen_through() -> None:
    body = f"{CONV} middle = Add (a, b) s = Sigmoid (c) y = Concat <axis = 1> (middle, s)"
    assert parts_of("float[N,4] x", "float[N,8] y", body) == {"y": ["middle", "c"]}


def test_channels_of_one_layer_that_are_treated_apart_are_stretches_of_it() -> None:
    """As YOLOv5 does it: one Sigmoid for all, then the numbers of a box are scaled, the scores are not."""
    body = """
        head = Relu (x) shape = Constant <value = int64[5] {0, 2, 7, 3, 3}> () r = Reshape (head, shape)
        t = Transpose <perm = [0, 1, 3, 4, 2]> (r) s = Sigmoid (t)
        sizes = Constant <value = int64[2] {4, 3}> () box, scores = Split <axis = -1> (s, sizes)
        k = Constant <value_float = 64.0> () pixels = Mul (box, k)
        y = Concat <axis = 4> (pixels, scores)"""
    found = parts_of("float[N,14,3,3] x", "float[N,2,3,3,7] y", body)
    assert found == {"y": ["t[:, :, :, :, 0:4]", "t[:, :, :, :, 4:7]"]}


@pytest.mark.parametrize(
    ("taken", "stretch"),
    [
        ("i = Constant <value = int64[2] {1, 2}> () v = Gather <axis = 1> (s, i)", "a[:, 1:3]"),
        ("i = Constant <value_int = -1> () v1 = Gather <axis = 1> (s, i) " + "v = Unsqueeze (v1, one)", "a[:, 3:4]"),
        ("e = Constant <value = int64[1] {9999}> () v = Slice (s, one, e, one)", "a[:, 1:4]"),
        ("e = Constant <value = int64[1] {-1}> () z = Constant <value = int64[1] {-3}> () v = Slice (s, z, e, one)",
         "a[:, 1:3]"),
    ],
)  # fmt: skip
def test_every_way_to_take_a_stretch_is_understood(taken: str, stretch: str) -> None:
    body = f"a = Relu (x) s = Sigmoid (a) one = Constant <value = int64[1] {{1}}> () {taken} b = Abs (x)"
    body += " y = Concat <axis = 1> (v, b)"
    assert parts_of("float[N,4] x", "float[N,M] y", body) == {"y": [stretch, "b"]}


def test_a_softmax_counts_whole_also_where_only_some_of_it_is_taken() -> None:
    body = """a = Relu (x) s = Softmax <axis = 1> (a) one = Constant <value = int64[1] {1}> ()
        e = Constant <value = int64[1] {4}> () v = Slice (s, one, e, one) b = Abs (x) y = Concat <axis = 1> (v, b)"""
    assert parts_of("float[N,4] x", "float[N,7] y", body) == {"y": ["a", "b"]}


def test_values_are_judged_before_some_of_them_are_chosen_and_numbers_that_count_are_not() -> None:
    """As heads without non-maximum suppression do it: the best positions, their boxes, scores and classes."""
    body = """
        box = Relu (x) cls = Abs (x) prob = Sigmoid (cls)
        k = Constant <value = int64[1] {3}> () last = Constant <value = int64[1] {-1}> ()
        best = ReduceMax <axes = [-1], keepdims = 0> (prob) top, place = TopK <axis = 1> (best, k)
        wide = Unsqueeze (place, last) reps = Constant <value = int64[3] {1, 1, 4}> () every = Tile (wide, reps)
        boxes = GatherElements <axis = 1> (box, every) scores = GatherElements <axis = 1> (prob, every)
        label = ArgMax <axis = 2, keepdims = 1> (scores) number = Cast <to = 1> (label)
        y = Concat <axis = 2> (boxes, scores, number)"""
    assert parts_of("float[1,9,4] x", "float[1,3,9] y", body) == {"y": ["box", "cls"]}


def test_constants_and_inputs_of_the_model_are_no_parts() -> None:
    body = "k = Constant <value = float[2,4] {1,1,1,1,1,1,1,1}> () a = Relu (x) y = Concat <axis = 0> (x, a, k)"
    assert parts_of("float[2,4] x", "float[6,4] y", body) == {"y": ["a"]}
    assert parts_of("float[2,4] x", "float[2,4] y", "y = Identity (x)") == {"y": ["y"]}


def test_sizes_of_the_input_are_constants_too() -> None:
    body = "a = Relu (x) n = Shape (x) f = Cast <to = 1> (n) b = Mul (a, f) y = Sigmoid (b)"
    assert parts_of("float[2,2] x", "float[2,2] y", body) == {"y": ["b"]}
    joined = "a = Relu (x) n = Shape (x) f = Cast <to = 1> (n) s = Sigmoid (a) y = Mul (s, f)"
    assert parts_of("float[2,2] x", "float[2,2] y", joined) == {"y": ["a"]}


def test_a_part_takes_its_stretch_of_an_array() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    part = OutputPart("v", ((0, 1, 2), (2, 1, 3)))
    assert part.name == "v[1:2, :, 1:3]"
    assert np.array_equal(part.of(array), array[1:2, :, 1:3])


def classes_of(inputs: str, outputs: str, body: str, opset: int = 17) -> dict[str, int | None]:
    """The axis of the classes of every part of the only output."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = load_bytes(onnx.parser.parse_model(text).SerializeToString())
    (found,) = output_parts(model, infer_shapes(model)).values()
    return {part.name: part.classes for part in found}


def test_a_softmax_says_along_which_axis_the_classes_are() -> None:
    given = "float[N,4,5,6] x", "float[N,5,4,6] y"
    assert classes_of(*given, "a = Relu (x) s = Softmax <axis=1> (a) y = Transpose <perm=[0,2,1,3]> (s)") == {"a": 1}
    assert classes_of(*given, "a = Relu (x) s = LogSoftmax (a) y = Transpose <perm=[0,2,1,3]> (s)") == {"a": -1}
    assert classes_of(*given, "a = Relu (x) s = Sigmoid (a) y = Transpose <perm=[0,2,1,3]> (s)") == {"a": None}
    assert classes_of("float[N,4] x", "float[N,4] y", "y = Relu (x)") == {"y": None}


def test_a_softmax_before_opset_13_has_one_axis_of_classes_only_where_nothing_follows_it() -> None:
    assert classes_of("float[N,4,5] x", "float[N,4,5] y", "a = Relu (x) y = Softmax <axis=1> (a)", 11) == {"a": None}
    assert classes_of("float[N,4,5] x", "float[N,4,5] y", "a = Relu (x) y = Softmax <axis=2> (a)", 11) == {"a": 2}
    assert classes_of("float[N,4,1] x", "float[N,4,1] y", "a = Relu (x) y = Softmax (a)", 11) == {"a": 1}


def test_an_argmax_leads_to_the_scores_that_it_chooses_from() -> None:
    body = "a = Relu (x) m = ArgMax <axis=1, keepdims=0> (a) y = Cast <to = 6> (m)"
    assert classes_of("float[N,4,5,6] x", "int32[N,5,6] y", body) == {"a": 1}
    body = "a = Relu (x) s = Softmax <axis=-1> (a) m = ArgMax <axis=2, keepdims=0> (s) y = Cast <to = 1> (m)"
    assert classes_of("float[N,4,5] x", "float[N,4] y", body) == {"a": -1}


def test_classes_joined_along_another_axis_stay_classes() -> None:
    body = f"{CONV} all = Concat <axis = 1> (a, b) y = Softmax <axis = 2> (all)"
    assert classes_of("float[N,4,5] x", "float[N,8,5] y", body) == {"a": 2, "b": 2}
    body = f"{CONV} all = Concat <axis = 2> (a, b) y = Softmax <axis = 2> (all)"
    assert classes_of("float[N,4,5] x", "float[N,4,10] y", body) == {"a": None, "b": None}


def test_places_and_comparisons_lead_to_the_scores_that_they_come_from() -> None:
    body = "a = Relu (x) k = Constant <value = int64[1] {2}> () v, y = TopK <axis = 1> (a, k)"
    assert classes_of("float[N,4] x", "int64[N,2] y", body) == {"a": None}
    body = "a = Relu (x) limit = Constant <value_float = 0.5> () y = Less (limit, a)"
    assert classes_of("float[N,4] x", "bool[N,4] y", body) == {"a": None}
    body = "a = Relu (x) b = Abs (x) y = Less (b, a)"  # of two that vary, neither is the score
    assert classes_of("float[N,4] x", "bool[N,4] y", body) == {"y": None}


def behind(inputs: str, outputs: str, body: str) -> set[str]:
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    model = load_bytes(proto.SerializeToString())
    return set(values_behind_parts(model, infer_shapes(model)))


def test_what_stands_between_parts_and_outputs_is_named() -> None:
    assert behind("float[N,4] x", "float[N,4] y", "a = Relu (x) y = Neg (a)") == set()
    assert behind("float[N,4] x", "float[N,4] y", "a = Relu (x) y = Identity (a)") == set()
    assert behind("float[N,4] x", "float[N,4] y", "a = Relu (x) b = Sigmoid (a) y = Identity (b)") == {"b", "y"}
    body = """
        a = Relu (x) moved = Transpose <perm = [0, 2, 1]> (a) b = Abs (x) s = Sigmoid (b)
        turned = Transpose <perm = [0, 2, 1]> (s) both = Concat <axis = 2> (moved, turned)
        y = Transpose <perm = [0, 2, 1]> (both)"""
    found = behind("float[N,4,2] x", "float[N,8,2] y", body)
    assert found == {"y", "both", "turned", "s"}  # a part begins at "moved", and at what the Sigmoid takes
    body = "a = Relu (x) best = ArgMax <axis = 1, keepdims = 0> (a) y = Cast <to = 1> (best)"
    assert "y" in behind("float[N,4] x", "float[N] y", body)
