import numpy as np
import onnx
import pytest

from sepconvert.graph.site_models import Surroundings, dense_site_model, lowered_site_model
from sepconvert.separable.forms import reconstruct
from sepconvert.separable.geometry import ConvGeometry
from tests.graph.site_models import IR_VERSIONS, NEWEST, WAYS, random_replacement, site_of

GEOMETRY = ConvGeometry(5, 6, (3, 4), (2, 1), (1, 2), (0, 2, 1, 3))


def models(form="dw_pw", lowering="branches", dtype="float32", **around):
    rng = np.random.default_rng(0)
    surroundings = Surroundings(**{"opset": 18, "ir_version": 8, **around})
    replacement = random_replacement(site_of(GEOMETRY, dtype=dtype), form, 2, lowering, rng)
    bias = rng.standard_normal(6)
    dense = dense_site_model(replacement.site, reconstruct(replacement.factors), bias, surroundings)
    return [onnx.load_model_from_string(m) for m in (dense, lowered_site_model(replacement, bias, surroundings))]


def shape(value):
    return [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("opset", sorted(IR_VERSIONS))
@pytest.mark.parametrize(("form", "lowering"), WAYS)
def test_both_models_are_valid_at_every_opset_with_x_in_and_y_out(form, lowering, opset):
    for model in models(form, lowering, opset=opset, ir_version=IR_VERSIONS[opset]):
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == ["x"]
        assert [value.name for value in model.graph.output] == ["y"]


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_both_models_are_valid_in_every_weight_type(dtype):
    for model in models(dtype=dtype, opset=NEWEST, ir_version=onnx.IR_VERSION):
        onnx.checker.check_model(model, full_check=True)
        assert {onnx.helper.tensor_dtype_to_np_dtype(w.data_type).name for w in model.graph.initializer} == {dtype}


def test_sizes_stay_open_unless_given():
    for model in models():
        assert shape(model.graph.input[0]) == ["batch", 5, "in_0", "in_1"]
    for model in models(batch=2, spatial=(9, 8)):
        assert shape(model.graph.input[0]) == [2, 5, 9, 8]
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        assert [node.op_type for node in inferred.graph.node][-1] in ("Conv", "Add")


def test_an_activation_follows_when_asked_for():
    for model in models(following="Relu"):
        assert model.graph.node[-1].op_type == "Relu"
        assert model.graph.node[-1].output == ["y"]
        onnx.checker.check_model(model, full_check=True)


def test_the_bias_of_the_replacement_wins():
    rng = np.random.default_rng(0)
    replacement = random_replacement(site_of(GEOMETRY), "pw_dw_pw", 2, "stacked", rng, np.full(6, 3.0))
    model = onnx.load_model_from_string(lowered_site_model(replacement, np.zeros(6), Surroundings(18, 8)))
    held = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 1]
    np.testing.assert_array_equal(held, [np.full(6, 3.0)])
