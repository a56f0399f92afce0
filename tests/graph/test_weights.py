import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from sepconvert.errors import ModelError
from sepconvert.graph.load import load_model
from sepconvert.graph.weights import Origin, is_shared, origin_of, read_constant
from sepconvert.number_types import numpy_dtype
from tests.graph.models import DTYPES, NEWEST_OPSET, conv_model, load, model, save_with_external_data, weight


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_is_read_in_its_own_type(dtype):
    opset = NEWEST_OPSET if dtype == "bfloat16" else 17
    array = read_constant(load(conv_model(dtype=dtype, opset=opset)), "w")
    assert array.dtype == numpy_dtype(dtype) == np.dtype(DTYPES[dtype])
    np.testing.assert_array_equal(array, weight((6, 4, 3, 3), DTYPES[dtype]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_external_weight_is_read_from_its_file(dtype, tmp_path):
    opset = NEWEST_OPSET if dtype == "bfloat16" else 17
    save_with_external_data(conv_model(dtype=dtype, bias=True, opset=opset), tmp_path / "m.onnx")
    loaded = load_model(tmp_path / "m.onnx")
    np.testing.assert_array_equal(read_constant(loaded, "w"), weight((6, 4, 3, 3), DTYPES[dtype]))
    np.testing.assert_array_equal(read_constant(loaded, "b"), weight((6,), DTYPES[dtype], 1))


def test_an_external_constant_node_is_read_from_its_file(tmp_path):
    tensor = numpy_helper.from_array(weight((6, 4, 3, 3)))
    (tmp_path / "weights.bin").write_bytes(bytes(64) + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "64")):
        tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("Conv", ["x", "w"], ["y"])]
    (tmp_path / "m.onnx").write_bytes(model(nodes, {"x": (1, 4, 9, 9)}).SerializeToString())
    np.testing.assert_array_equal(read_constant(load_model(tmp_path / "m.onnx"), "w"), weight((6, 4, 3, 3)))


def test_external_data_is_found_whatever_the_working_directory(tmp_path, monkeypatch):
    save_with_external_data(conv_model(), tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    loaded = load_model((tmp_path / "m.onnx").relative_to(tmp_path))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(read_constant(loaded, "w"), weight((6, 4, 3, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_are_not_finite_are_refused(bad, dtype):
    array = weight((6, 4, 3, 3), DTYPES[dtype])
    array[5, 3, 2, 1] = bad
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    opset = NEWEST_OPSET if dtype == "bfloat16" else 17
    loaded = load(model([node], {"x": (1, 4, 9, 9)}, tensors={"w": array}, dtype=DTYPES[dtype], opset=opset))
    with pytest.raises(ModelError, match="Weight 'w' holds NaN or infinite values"):
        read_constant(loaded, "w")


@pytest.mark.parametrize("name", ["x", "y", "nowhere"])
def test_what_is_no_constant_is_refused(name):
    with pytest.raises(ModelError, match="not a constant"):
        read_constant(load(conv_model()), name)


def test_a_constant_that_cannot_be_evaluated_is_refused():
    nodes = [helper.make_node("Reshape", ["v", "s"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])]
    tensors = {"v": weight((6, 4)), "s": np.array([5, 5], np.int64)}
    with pytest.raises(ModelError, match="cannot be evaluated"):
        read_constant(load(model(nodes, {"x": (1, 4, 9, 9)}, tensors=tensors)), "w")


def test_reading_leaves_the_model_as_it_is():
    nodes = [helper.make_node("Transpose", ["v"], ["w"], perm=[1, 0]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    loaded = load(model(nodes, {"x": (1, 6)}, tensors={"v": weight((4, 6))}))
    before = ir.to_proto(loaded.ir).SerializeToString(deterministic=True)
    assert read_constant(loaded, "w").shape == (6, 4)
    assert ir.to_proto(loaded.ir).SerializeToString(deterministic=True) == before


def test_the_light_models_weights_are_all_the_same_number(light_models):
    (path,) = [path for path in light_models if "squeezenet" in path.name]
    loaded = load_model(path)
    convs = [node for node in loaded.ir.graph if node.op_type == "Conv"]
    arrays = [read_constant(loaded, str(node.inputs[1].name)) for node in convs]
    assert all(len(np.unique(array)) == 1 for array in arrays)


def test_pp_ocr_weights_are_read_from_constant_nodes(ppocr_det):
    loaded = load_model(ppocr_det)
    (first, *_) = (node for node in loaded.ir.graph if node.op_type == "Conv")
    array = read_constant(loaded, str(first.inputs[1].name))
    assert array.shape == (16, 3, 3, 3)
    assert array.std() > 0


def test_the_origin_of_a_value_is_the_worst_of_what_it_is_made_of():
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
        helper.make_node("Mul", ["d", "x"], ["dx"]),
        helper.make_node("Mul", ["d", "w"], ["dw"]),
        helper.make_node("Mul", ["w", "w"], ["ww"]),
        helper.make_node("Sum", ["dx", "dw", "ww"], ["y"]),
    ]
    tensors = {"q": np.zeros(3, np.int8), "s": np.float32(1), "w": weight((3,))}
    loaded = load(model(nodes, {"x": (3,)}, tensors=tensors))
    values = {output.name: output for node in loaded.ir.graph for output in node.outputs}
    origins = {name: origin_of(values[name], loaded.ir.ir_version) for name in ("d", "dx", "dw", "ww")}
    assert origins == {
        "d": Origin.QUANTIZED,
        "dx": Origin.DYNAMIC,
        "dw": Origin.QUANTIZED,
        "ww": Origin.CONSTANT,
    }
    assert is_shared(values["d"])
    assert not is_shared(values["ww"])
