"""From a Keras model to a rewritten one: export, rewrite, report, and back into a copy of the model."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import sepconvert
from sepconvert.errors import ModelError, NothingToDoError
from sepconvert.keras import separable_factors
from sepconvert.runtime.sessions import run_model
from sepconvert.separable.forms import reconstruct

L = keras.layers
QUICK = sepconvert.Measure(latency=False)
ANYHOW = sepconvert.Planning(allow_loss=True)  # the kernels are random
# What Keras's torch backend, and torch's older exporter that it calls, say of themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


def exported(model: Any, path: Path) -> Path:
    model(np.zeros((1, *model.input_shape[1:]), np.float32))
    model.export(str(path), format="onnx", verbose=False)
    return path


def inputs(model: Any, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *model.input_shape[1:])).astype(np.float32)


def run(model: Any, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x))


def assert_same(model: Any, onnx: Path | bytes, x: np.ndarray) -> None:
    """In float32; kernels of at most some hundred terms, in a few layers."""
    stored = onnx if isinstance(onnx, bytes) else onnx.read_bytes()
    (expected,) = run_model(stored, {input_name(stored): x}).values()
    found = run(model, x)
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def input_name(stored: bytes) -> str:
    from sepconvert.runtime.sessions import open_session

    return open_session(stored).inputs[0].name


def article(kind: str) -> Any:
    keras.utils.set_random_seed(0)
    first = L.Conv2D(64, 3) if kind == "dense" else L.SeparableConv2D(64, 3)
    return keras.Sequential([keras.Input((32, 32, 3)), first, L.Flatten(), L.Dense(10)])


def test_the_textbook_network_goes_from_keras_to_the_report_and_back(tmp_path: Path) -> None:
    model = article("dense")
    before = exported(model, tmp_path / "before.onnx")
    np.save(tmp_path / "x.npy", inputs(model, 64))
    result = sepconvert.rewrite(
        before,
        tmp_path / "after.onnx",
        data=tmp_path / "x.npy",
        form="dw-pw",
        rank=3,
        measure=QUICK,
        outputs=sepconvert.Outputs(html=tmp_path / "page.html"),
    )
    (site,) = [site for site in result.record.sites if site.status == "rewritten"]
    assert (site.params, site.params_after) == (64 * 27, 3 * 3 * (9 + 64))
    assert "dw-pw" in (tmp_path / "page.html").read_text()
    back = result.keras(model)
    assert [type(layer) for layer in back.layers] == [L.SeparableConv2D, L.Flatten, L.Dense]
    assert back.layers[0].depth_multiplier == 3
    assert_same(back, tmp_path / "after.onnx", inputs(model, 4, seed=1))
    assert_same(model, before, inputs(model, 4, seed=1))


def test_the_separable_textbook_network_goes_from_keras_to_the_report_and_back(tmp_path: Path) -> None:
    model = article("separable")
    path = exported(model, tmp_path / "separable.onnx")
    page = tmp_path / "page.html"
    record = sepconvert.analyze(path, outputs=sepconvert.Outputs(html=page))
    assert not [site for site in record.sites if site.status == "eligible"]
    assert record.totals.before.params == 3 * 9 + 3 * 64 + 64 + 57600 * 10 + 10
    (pair,) = record.separable
    assert (pair.form, pair.rank, pair.exact) == ("dw-pw", 1, True)
    assert (pair.params, pair.dense_params) == (3 * 9 + 3 * 64, 3 * 9 * 64)
    assert "Already separable: 1 pair" in page.read_text()
    dense = article("dense")  # the standard network that computes the same, from the weights of the separable one
    *weights, bias = model.layers[0].get_weights()
    kernel = reconstruct(separable_factors(weights))
    dense.layers[0].set_weights([np.moveaxis(kernel, (0, 1), (-1, -2)), bias])
    dense.layers[-1].set_weights(model.layers[-1].get_weights())
    x = inputs(model, 4, seed=1)
    assert np.linalg.norm(run(dense, x) - run(model, x)) < 1e-6 * np.linalg.norm(run(model, x))


def test_a_separable_kernel_found_in_a_standard_layer_comes_back_as_one(tmp_path: Path) -> None:
    separable, dense = article("separable"), article("dense")
    kernel = reconstruct(separable_factors(separable.layers[0].get_weights()))
    dense.layers[0].set_weights([np.moveaxis(kernel, (0, 1), (-1, -2)), np.zeros(64)])
    path = exported(dense, tmp_path / "dense.onnx")
    (saving,) = [layer.saving for layer in sepconvert.analyze(path).layers if layer.saving is not None]
    assert (saving.form, saving.rank, saving.exact) == ("dw-pw", 1, True)
    back = sepconvert.rewrite(path, form="dw-pw", rank=1, measure=QUICK).keras(dense)
    x = inputs(dense, 4, seed=1)
    assert np.linalg.norm(run(back, x) - run(dense, x)) < 1e-6 * np.linalg.norm(run(dense, x))


def test_a_network_that_is_separable_already_is_not_written_again(tmp_path: Path) -> None:
    path = exported(article("separable"), tmp_path / "separable.onnx")
    with pytest.raises(NothingToDoError):
        sepconvert.rewrite(path, rank=1, measure=QUICK)


def maps() -> Any:
    """Two dimensions: a branch, padding, strides, dilation, activations, BatchNorm, a model inside the model."""
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.Input((10, 10, 8)), L.Conv2D(12, 3, padding="same", activation="relu")])
    x = start = keras.Input((20, 20, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.Concatenate()([inner(x), x])
    x = L.Conv2D(10, (3, 5), dilation_rate=2, activation="tanh")(x)
    return keras.Model(start, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


def signals() -> Any:
    """One dimension: causal padding, strides, dilation."""
    keras.utils.set_random_seed(2)
    x = start = keras.Input((60, 6))
    x = L.Conv1D(8, 7, strides=2, padding="same", activation="relu")(x)
    x = L.Conv1D(8, 5, dilation_rate=2, padding="causal", activation="relu")(x)
    x = L.Conv1D(8, 5)(x)
    return keras.Model(start, L.Dense(3)(L.GlobalMaxPooling1D()(x)))


@pytest.mark.parametrize("form", ["dw-pw", "pw-dw", "pw-dw-pw", "spatial", "conv-pw", "pw-conv-pw"])
@pytest.mark.parametrize("make", [maps, signals])
def test_every_form_goes_back_into_the_model(make: Any, form: str, tmp_path: Path) -> None:
    model = make()
    before = exported(model, tmp_path / "before.onnx")
    np.save(tmp_path / "x.npy", inputs(model, 48))
    result = sepconvert.rewrite(before, data=tmp_path / "x.npy", form=form, rank=0.6, measure=QUICK, planning=ANYHOW)
    assert sum(site.status == "rewritten" for site in result.record.sites) >= 2
    result.save(tmp_path / "after.onnx")
    x = inputs(model, 5, seed=1)
    whole = run(model, x)
    assert_same(result.keras(model), tmp_path / "after.onnx", x)
    np.testing.assert_array_equal(run(model, x), whole)


def test_a_rewritten_model_can_be_saved_loaded_and_trained(tmp_path: Path) -> None:
    model = signals()
    result = sepconvert.rewrite(exported(model, tmp_path / "m.onnx"), form="pw-dw-pw", rank=0.6, measure=QUICK)
    back = result.keras(model)
    back.save(tmp_path / "back.keras")
    x = inputs(model, 8)
    np.testing.assert_allclose(run(keras.models.load_model(tmp_path / "back.keras"), x), run(back, x), rtol=1e-6)
    back.compile("sgd", "mse")
    assert np.isfinite(back.fit(x, run(model, x), verbose=0).history["loss"][0])


def test_models_that_layers_cannot_go_back_into_are_refused_in_a_sentence(tmp_path: Path) -> None:
    class Own(keras.Model):
        pass

    model = article("dense")
    result = sepconvert.rewrite(exported(model, tmp_path / "m.onnx"), form="dw-pw", rank=1, measure=QUICK)
    with pytest.raises(ModelError, match="Own is a class of its own"):
        result.keras(Own())
    with pytest.raises(ModelError, match="str is not a Keras model"):
        result.keras("m.keras")
    model.layers[0].set_weights([2 * weight for weight in model.layers[0].get_weights()])
    with pytest.raises(ModelError, match="with the same weights"):
        result.keras(model)
    uneven = keras.Sequential([keras.Input((20, 20, 3)), L.Conv2D(8, 3, strides=(2, 1))])
    result = sepconvert.rewrite(exported(uneven, tmp_path / "u.onnx"), form="dw-pw", rank=1, measure=QUICK)
    with pytest.raises(ModelError, match="strides \\(2, 1\\)"):
        result.keras(uneven)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_of_keras_is_answered_with_how_to_export_it(name: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6, 6, 2)), L.Conv2D(3, 3)])
    model.save(tmp_path / name)
    with pytest.raises(ModelError, match=r"model.export\('model.onnx', format='onnx'\)"):
        sepconvert.analyze(tmp_path / name)
