"""Dense layers that are no sites make up for the errors of the sites before them."""

from dataclasses import replace

import numpy as np
import pytest

from sepconvert.fitting.layers import refittable_layers
from sepconvert.fitting.refit import refit
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.runtime.sessions import run_model
from tests.fitting.nets import Net, choose, dataset, relative_error, rewritten, sites, smooth_images
from tests.fitting.test_refit import QUICK

CLASSES = 3


def classifier(*, shared: bool = False, multiplied: bool = False, cast: bool = False) -> LoadedModel:
    """A site, a pointwise Conv, another site, and a Gemm (or MatMul and Add, also with a Cast between) on features."""
    net = Net(6)
    first = net.relu(net.conv("site0", "image", 6, 8))
    mixed = net.relu(net.conv("mix", first, 8, 8, kernel=1))
    last = net.relu(net.conv("site1", mixed, 8, 8))
    if shared:
        again = net.add("Conv", "again", last, "mix.w", pads=[0, 0, 0, 0])
        last = net.relu(again)
    pooled = net.add("Flatten", "flat", net.add("GlobalAveragePool", "pool", last))
    matrix, vector = net.rng.normal(size=(CLASSES, 8)), net.rng.normal(size=CLASSES)
    bias = net.tensor("head.b", vector)
    if multiplied:
        product = net.add("MatMul", "product", pooled, net.tensor("head.w", matrix.T))
        if cast:
            product = net.add("Identity", "same", net.add("Cast", "cast", product, to=1))
        return net.build(net.add("Add", "logits", product, bias))
    weight = net.tensor("head.w", matrix)
    return net.build(net.add("Gemm", "logits", pooled, weight, bias, transB=1))


def fitted(model: LoadedModel, count: int = 60) -> NetworkFit:
    images = smooth_images(count, 6, 12)
    choices = choose(sites(model, images), ("dw_pw", 1))
    return refit(model, choices, dataset(model, images), rng=np.random.default_rng(0), settings=QUICK)


@pytest.fixture(scope="module")
def result() -> NetworkFit:
    return fitted(classifier())


def test_pointwise_and_fully_connected_layers_are_found_in_order() -> None:
    model = classifier()
    layers = refittable_layers(model, infer_shapes(model))
    assert [layer.output for layer in layers] == ["mix", "logits"]
    assert layers[1].geometry.weight_shape == (CLASSES, 8, 1)


@pytest.mark.parametrize("cast", [False, True])
def test_a_matmul_is_refitted_like_the_gemm_that_computes_the_same(result: NetworkFit, cast: bool) -> None:
    """Converters of other formats put a Cast that changes nothing between a product and its bias."""
    model, test = classifier(multiplied=True, cast=cast), smooth_images(60, 6, 12, seed=99)
    found = fitted(model)
    np.testing.assert_allclose(found.sites["logits"].kernel, result.sites["logits"].kernel, rtol=1e-3, atol=1e-4)
    errors = [
        relative_error(model, rewritten(model, NetworkFit(sites)), test)
        for sites in (found.sites, {name: site for name, site in found.sites.items() if name != "logits"})
    ]
    assert errors[0] < 0.95 * errors[1]


def test_a_matmul_by_a_matrix_that_no_module_has_so_is_left_alone_in_an_exported_model() -> None:
    model = replace(classifier(multiplied=True), name="Classifier")
    assert [layer.output for layer in refittable_layers(model, infer_shapes(model))] == ["mix"]


def test_a_matmul_of_more_than_two_dimensions_is_left_alone() -> None:
    net = Net(6)
    weight = net.tensor("w", net.rng.normal(size=(12, 5)))
    model = net.build(net.add("MatMul", "product", net.conv("site0", "image", 6, 6), weight))
    assert refittable_layers(model, infer_shapes(model)) == []


def test_layers_with_a_weight_that_is_used_elsewhere_are_left_alone() -> None:
    model = classifier(shared=True)
    assert [layer.output for layer in refittable_layers(model, infer_shapes(model))] == ["logits"]
    assert "mix" not in fitted(model, 12).sites


def test_layers_with_a_weight_that_a_caller_may_replace_are_left_alone() -> None:
    model = classifier()
    graph = model.ir.graph
    graph.inputs.append(graph.initializers["head.b"])
    assert [layer.output for layer in refittable_layers(model, infer_shapes(model))] == ["mix"]


def test_refitted_layers_lower_the_error_on_unseen_images(result: NetworkFit) -> None:
    model, test = classifier(), smooth_images(60, 6, 12, seed=99)
    only_sites = {name: site for name, site in result.sites.items() if site.factors is not None}
    assert set(result.sites) - set(only_sites) == {"mix", "logits"}
    without = relative_error(model, rewritten(model, NetworkFit(only_sites)), test)
    assert relative_error(model, rewritten(model, result), test) < 0.9 * without


def test_refitted_layers_never_err_more_on_held_out_inputs_than_the_original_weights() -> None:
    model = classifier()
    for count in (4, 60):
        site = fitted(model, count).sites["logits"]
        assert site.error_heldout is not None
        if site.kernel is None:
            assert site.bias is None


def test_nothing_but_weights_and_biases_changes(result: NetworkFit) -> None:
    model = classifier()
    kernels = {name: site for name, site in result.sites.items() if site.factors is None}
    after = rewritten(model, NetworkFit(kernels))
    before_nodes = [(node.op_type, node.outputs[0].name) for node in model.ir.graph]
    assert [(node.op_type, node.outputs[0].name) for node in after.ir.graph] == before_nodes
    image = smooth_images(2, 6, 12)
    assert run_model(model_bytes(after), {"image": image})["logits"].shape == (2, CLASSES)


def test_layers_before_the_first_site_stay_as_they_are() -> None:
    net = Net(6)
    mixed = net.relu(net.conv("mix", "image", 6, 6, kernel=1))
    model = net.build(net.conv("site0", mixed, 6, 6))
    assert list(fitted(model, 12).sites) == ["site0"]
