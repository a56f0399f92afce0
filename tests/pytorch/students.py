"""Small originals, rewritten models that fall short of them, and inputs to learn from."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sepconvert.data import Dataset, Preprocess
from sepconvert.data.arrays import from_arrays
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV
from sepconvert.graph.survey import survey
from sepconvert.separable.forms import FORMS, named
from tests.fitting.nets import Net, smooth_images

IMAGES = smooth_images(192, 4, 12)


@dataclass(frozen=True)
class Student:
    """A model made separable from its weights alone, beside its original."""

    original: LoadedModel
    rewritten: LoadedModel
    emitted: tuple[str, ...]
    data: Dataset


def student(make: Callable[[Net], LoadedModel], form: str = "dw_pw", rank: int = 1, labels: bool = False) -> Student:
    original = make(Net(4))
    shapes = infer_shapes(original, {})
    found = survey(original, shapes).allowing(named("auto"), [CONV]).sites
    rng = np.random.default_rng(0)
    replacements = []
    for site in found:
        weight = original.ir.graph.initializers[site.weight].const_value.numpy().astype(np.float64)
        factors = FORMS[form].factorise(weight, rank, site.geometry, rng)
        replacements.append(Replacement(site, factors, "stacked"))
    result = rewrite_model(original, replacements)
    data = from_arrays({"image": IMAGES}, shapes.inputs, Preprocess(), "images made by the test")
    if labels:
        data = replace(data, labels=np.random.default_rng(1).integers(0, 5, data.count))
    return Student(original, result.model, tuple(name for names in result.emitted.values() for name in names), data)


def classifier(net: Net) -> LoadedModel:
    value = net.relu(net.batch_norm(net.conv("c0", "image", 4, 8, bias=False), 8))
    value = net.relu(net.conv("c1", value, 8, 8))
    pooled = net.add("Flatten", "flat", net.add("GlobalAveragePool", "pool", value))
    dropped = net.add("Dropout", "dropped", pooled)
    weight = net.tensor("fc.w", net.rng.normal(size=(8, 5)))
    logits = net.add("Gemm", "logits", dropped, weight, net.tensor("fc.b", net.rng.normal(size=5)))
    return net.build(net.add("Softmax", "probabilities", logits))


def dense_maps(net: Net) -> LoadedModel:
    value = net.relu(net.conv("c0", "image", 4, 8))
    edges = net.add("Sigmoid", "edges", net.conv("c1", value, 8, 2))
    return net.build(edges, value)
