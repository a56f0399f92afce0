"""Small networks and smooth random images for the tests of fitting."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from sepconvert.data import Dataset
from sepconvert.data.arrays import from_arrays
from sepconvert.data.preprocess import Preprocess
from sepconvert.fitting.results import NetworkFit, SitePlan
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.parts import NewKernel, with_kernels
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.runtime.sessions import run_model
from sepconvert.separable.forms import FORMS, reconstruct, scheme_for
from tests.graph.models import load, model


class Net:
    """A graph grown node by node; every method returns the name of the value it makes."""

    def __init__(self, channels: int = 4, size: int = 12, seed: int = 0) -> None:
        self.channels, self.size = channels, size
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, NDArray[np.floating]] = {}

    def add(self, op: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def tensor(self, name: str, array: NDArray[np.floating]) -> str:
        self.tensors[name] = array
        return name

    def conv(
        self,
        name: str,
        source: str,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        bias: bool = True,
        **attributes: object,
    ) -> str:
        weight = self.rng.normal(size=(outputs, inputs, kernel, kernel)) * np.sqrt(2 / (inputs * kernel**2))
        names = [self.tensor(f"{name}.w", weight)]
        if bias:
            names.append(self.tensor(f"{name}.b", self.rng.normal(size=outputs) * 0.1))
        return self.add("Conv", name, source, *names, **{"pads": [kernel // 2] * 4} | attributes)

    def relu(self, source: str) -> str:
        return self.add("Relu", f"{source}.relu", source)

    def batch_norm(self, source: str, channels: int) -> str:
        spread = np.exp(self.rng.normal(size=channels))
        arrays = (spread, self.rng.normal(size=channels), np.zeros(channels), np.ones(channels))
        stats = [self.tensor(f"{source}.bn{i}", array) for i, array in enumerate(arrays)]
        return self.add("BatchNormalization", f"{source}.bn", source, *stats)

    def build(self, *outputs: str, dtype: type = np.float32, batch: int | str = "N") -> LoadedModel:
        tensors = {name: array.astype(dtype) for name, array in self.tensors.items()}
        shape = [batch, self.channels, self.size, self.size]
        return load(model(self.nodes, {"image": shape}, outputs, tensors, dtype=dtype))


def plain_chain(depth: int, channels: int = 6) -> LoadedModel:
    net, value = Net(channels), "image"
    for i in range(depth):
        value = net.relu(net.conv(f"c{i}", value, channels, channels))
    return net.build(value)


def u_net(depth: int, channels: int = 6) -> LoadedModel:
    """Down and up again, with skip connections that are concatenated."""
    net, value, skips = Net(channels), "image", []
    for i in range(depth):
        value = net.relu(net.conv(f"down{i}", value, channels, channels))
        skips.append(value)
    for i, skip in reversed(list(enumerate(skips))):
        joined = net.add("Concat", f"cat{i}", value, skip, axis=1)
        value = net.relu(net.conv(f"up{i}", joined, 2 * channels, channels))
    return net.build(value)


def side_outputs(depth: int, channels: int = 6) -> LoadedModel:
    net, value, sides = Net(channels), "image", []
    for i in range(depth):
        value = net.relu(net.conv(f"c{i}", value, channels, channels))
        sides.append(net.conv(f"side{i}", value, channels, 1, kernel=1))
    return net.build(net.add("Sum", "fused", *sides), *sides)


def smooth_images(count: int, channels: int, size: int, seed: int = 0) -> NDArray[np.float32]:
    """Random images whose neighbouring pixels and channels are alike, as in photographs."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, channels, size + 4, size + 4))
    for axis in (2, 3):
        images = sum(np.take(images, range(k, images.shape[axis] - 4 + k), axis) for k in range(5)) / 3
    mixed = images + 0.5 * images.sum(axis=1, keepdims=True)
    return mixed.astype(np.float32)


def dataset(loaded: LoadedModel, images: NDArray[np.floating]) -> Dataset:
    infos = infer_shapes(loaded, {"image": (1, *images.shape[1:])}).inputs
    return from_arrays({"image": images}, infos, Preprocess(), "images made by the test")


def sites(loaded: LoadedModel, images: NDArray[np.floating]) -> tuple[ConvSite, ...]:
    found = survey(loaded, infer_shapes(loaded, {"image": (1, *images.shape[1:])}))
    return found.allowing(tuple(FORMS), [CONV]).sites


def choose(found: Sequence[ConvSite], *kinds: tuple[str, int], keep: Sequence[str] = ()) -> list[SitePlan]:
    """Forms and ranks to choose from, the same for every site, none for those called in ``keep``."""
    schemes = tuple(scheme_for(form, rank) for form, rank in kinds)
    return [SitePlan(site, () if site.output in keep else schemes) for site in found]


def rewritten(loaded: LoadedModel, result: NetworkFit) -> LoadedModel:
    """The model with the dense equivalent of every fitted site."""
    kernels = []
    for found in result.sites.values():
        replacement = found.replacement
        kernel = found.kernel if replacement is None else reconstruct(replacement.factors)
        if kernel is not None:
            kernels.append(NewKernel(found.site, kernel, found.bias))
    return with_kernels(loaded, kernels)


def relative_error(before: LoadedModel, after: LoadedModel, images: NDArray[np.floating]) -> float:
    """Error of the first output on these images, relative to its variance."""
    name = str(before.ir.graph.outputs[0].name)
    truth, guess = (
        run_model(model_bytes(m), {"image": images}, [name])[name].astype(np.float64) for m in (before, after)
    )
    return float(np.sum((truth - guess) ** 2) / np.sum((truth - truth.mean(axis=0)) ** 2))
