"""The exact oracle on every site of real networks, and the whole graph where full rank must give the original back."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.graph.rewrite import Replacement, Rewritten, rewrite_model
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.graph.weights import read_constant
from sepconvert.runtime.sessions import run_model
from sepconvert.separable.forms import FORMS, layers_for, lowerings, named
from sepconvert.verify.oracle import check_rewrite
from sepconvert.verify.rounding import roundings
from tests.graph.site_models import WAYS

pytestmark = pytest.mark.slow

RANK = 2


def surveyed(path: Path) -> tuple[LoadedModel, tuple[ConvSite, ...]]:
    model = load_model(path)
    return model, survey(model, infer_shapes(model, {})).allowing(named("auto"), [CONV]).sites


def sites_checked_in_every_way(path: Path) -> tuple[int, set[int]]:
    """Return how many sites a model has, and how many the oracle checked, in every form and lowering."""
    model, sites = surveyed(path)
    rng, checked = np.random.default_rng(0), set()
    for form, lowering in WAYS:
        replacements = [Replacement(site, FORMS[form].draw(site.geometry, RANK, rng), lowering) for site in sites]
        rewritten = rewrite_model(model, replacements)
        onnx.checker.check_model(ir.to_proto(rewritten.model.ir), full_check=True)
        checked.add(check_rewrite(model, rewritten, replacements, rng).sites)
    return len(sites), checked


def test_every_site_of_open_nsfw_in_every_way(open_nsfw):
    assert sites_checked_in_every_way(open_nsfw) == (17, {17})


@pytest.mark.parametrize("name", ["ppocr_det", "ppocr_rec", "ppocr_cls"])
def test_every_site_of_the_text_models_in_every_way(name, request):
    sites, checked = sites_checked_in_every_way(request.getfixturevalue(name))
    assert checked == {sites}


def test_every_site_of_the_sample_models_in_every_way(sample_models_dir):
    models = [path for path in sorted(sample_models_dir.glob("*.onnx")) if path.stem != "textbook_separable"]
    assert len(models) > 3
    for path in models:
        sites, checked = sites_checked_in_every_way(path)
        assert sites > 0
        assert checked == {sites}


def test_every_site_of_the_light_models(light_models):
    rng = np.random.default_rng(0)
    for path in light_models:
        model, sites = surveyed(path)
        if not sites:
            continue
        replacements = [Replacement(s, FORMS["dw_pw"].draw(s.geometry, RANK, rng), "branches") for s in sites]
        rewritten = rewrite_model(model, replacements)
        onnx.checker.check_model(ir.to_proto(rewritten.model.ir), full_check=True)
        assert check_rewrite(model, rewritten, replacements, rng).sites == len(sites)


def at_full_rank(model: LoadedModel, sites: tuple[ConvSite, ...], form: str) -> tuple[Rewritten, float]:
    """Rewrite every site exactly; also return what rounding may do to the last layer, relative to its size.

    A sum of n products is off by about √n·u of its size, and in the worst case the errors of all sites add up.
    """
    rng, replacements, allowed = np.random.default_rng(0), [], 0.0
    for site in sites:
        rank = FORMS[form].full_rank(site.geometry)
        factors = FORMS[form].factorise(read_constant(model, site.weight), rank, site.geometry, rng)
        replacements.append(Replacement(site, factors, lowerings(form, rank)[-1]))
        allowed += 2.0**-24 * np.sqrt(
            roundings(layers_for(factors, replacements[-1].lowering, site.geometry), site.geometry)
        )
    return rewrite_model(model, replacements), allowed


def logits(model: LoadedModel, x: np.ndarray) -> np.ndarray:
    """What goes into a final Softmax, or the output where there is none."""
    copy = LoadedModel(model.ir.clone())
    output = copy.ir.graph.outputs[0]
    producer = output.producer()
    if producer.op_type == "Softmax":
        copy.ir.graph.outputs[0] = producer.inputs[0]
    name = copy.ir.graph.inputs[0].name
    return run_model(model_bytes(copy), {name: x})[copy.ir.graph.outputs[0].name]


def assert_equal_to_rounding(path: Path, form: str, x: np.ndarray) -> None:
    model, sites = surveyed(path)
    rewritten, allowed = at_full_rank(model, sites, form)
    before, after = logits(model, x), logits(rewritten.model, x)
    difference = np.linalg.norm((before - after).astype(np.float64)) / np.linalg.norm(before.astype(np.float64))
    assert difference <= allowed


@pytest.mark.parametrize("form", sorted(FORMS))
def test_open_nsfw_at_full_rank_is_the_original_to_rounding(open_nsfw, form):
    x = np.random.default_rng(1).uniform(-120, 120, (2, 224, 224, 3)).astype(np.float32)
    assert_equal_to_rounding(open_nsfw, form, x)


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("name", ["fashion_resnet", "fashion_resnet_bn", "fashion_vgg"])
def test_the_sample_models_at_full_rank_are_the_originals_to_rounding(sample_models_dir, name, form):
    x = np.load(sample_models_dir / "fashion_test.npz")["image"][:4].astype(np.float32)
    assert_equal_to_rounding(sample_models_dir / f"{name}.onnx", form, x)
