"""One damage for layers that share a weight: all of them err at once."""

import numpy as np
import pytest

from sepconvert.data import Preprocess, load_data
from sepconvert.graph.parts import NewKernel, with_kernels
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.survey import survey
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.planning.sensitivity import measure_effects
from sepconvert.planning.site_tasks import SiteTask, TaskWalk
from sepconvert.progress import silent
from sepconvert.runtime.sessions import run_model
from sepconvert.verify.deviation import Deviation
from tests.graph.models import load
from tests.graph.test_ties import strided

EFFORT = ProfileEffort(inputs=12, replayed=12, ranks=1, most_evaluations=3, ridge=0.03, heldout=0.25)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiteTask, np.ndarray]:
    proto = strided()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    model = load(proto)
    path = tmp_path_factory.mktemp("tied") / "data.npy"
    x = np.random.default_rng(0).normal(size=(12, 4, 9, 9)).astype(np.float32)
    np.save(path, x)
    shapes = infer_shapes(model, {"x": (1, 4, 9, 9)})
    dataset = load_data(str(path), shapes.inputs, Preprocess())
    (site,) = survey(model, shapes).sites
    (task,) = TaskWalk(model, [site], ["pw_dw"], EFFORT, np.random.default_rng(0), silent).tasks(dataset)
    return task, x


@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_the_effect_is_that_of_another_kernel_in_all_of_them(found: tuple[SiteTask, np.ndarray], size: float) -> None:
    """One use feeds another: what is left out is the error of an error, of the second order in the difference."""
    task, x = found
    rng = np.random.default_rng(1)
    difference, shift = size * rng.normal(size=(4, 4, 3, 3)), size * rng.normal(size=4)
    (effect,) = measure_effects(task.replay, [(difference, shift)])
    assert effect is not None
    model = load(strided())
    (site,) = survey(model, infer_shapes(model)).sites
    kernels = [NewKernel(use, task.weight + difference, _bias() + shift) for use in site.uses]
    changed = model_bytes(with_kernels(model, kernels))
    rows = [x[index : index + 1] for index in range(len(x))]
    for name in ("c", "d"):
        deviation = Deviation()
        for row in rows:
            deviation.add(run_model(model_bytes(model), {"x": row})[name], run_model(changed, {"x": row})[name])
        assert deviation.error is not None
        assert deviation.variance is not None
        expected = deviation.error / deviation.variance
        assert effect.part_errors[name] == pytest.approx(expected, rel=0.3 * size / 1e-2 + 0.02)


def test_moments_are_those_of_all_uses(found: tuple[SiteTask, np.ndarray]) -> None:
    task, _ = found
    replay = task.replay
    assert [set(seen) for seen in replay.inputs] == [{"x", "a"}] * len(replay.inputs)
    assert replay.rest.errors.keys() == {"c", "d"}
    # Nine inputs are fitted to; each use gives as many of its positions as there are, up to a third of what is wanted.
    assert task.moments[0].count == 9 * (81 + 12 + 63)


def _bias() -> np.ndarray:
    (tensor,) = [tensor for tensor in strided().graph.initializer if tensor.name == "b"]
    return np.frombuffer(tensor.raw_data, np.float32)
