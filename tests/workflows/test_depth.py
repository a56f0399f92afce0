"""What a conversion runs grows as the network does: no site is reached by running the network from its start."""

from pathlib import Path

import numpy as np
import pytest

from sepconvert.graph.save import model_bytes
from sepconvert.workflows import rewrite
from sepconvert.workflows.options import Measure, Planning
from tests.benchmarks.deep_nets import NETWORKS
from tests.fitting.nets import smooth_images
from tests.workflows.work import Work, counted_work

pytestmark = pytest.mark.slow

WIDTH, SIZE, IMAGES = 6, 8, 24
UNTIMED, LOSSY = Measure(latency=False), Planning(allow_loss=True)  # the weights are random


def work_at(network: str, depth: int, folder: Path) -> Work:
    path, data = folder / f"{depth}.onnx", folder / "images.npz"
    path.write_bytes(model_bytes(NETWORKS[network](depth, WIDTH, SIZE)))
    np.savez(data, image=smooth_images(IMAGES, WIDTH, SIZE))
    with counted_work() as work:
        result = rewrite(path, form="pw-dw-pw", rank=1 / 3, data=str(data), measure=UNTIMED, planning=LOSSY)
    rewritten = [site for site in result.record.sites if site.status == "rewritten"]
    assert sum(site.layer == "conv" for site in rewritten) == depth
    return work


@pytest.mark.parametrize("network", NETWORKS)
def test_twice_the_depth_is_at_most_twice_the_work(network: str, tmp_path: Path) -> None:
    once, twice = (work_at(network, depth, tmp_path) for depth in (10, 20))
    assert 1.5 * once.sessions < twice.sessions <= 2 * once.sessions
    assert 1.5 * once.nodes_run < twice.nodes_run <= 2.1 * once.nodes_run
    # Of layers as small as these, longer names count too.
    assert 1.5 * once.opened_bytes < twice.opened_bytes <= 2.1 * once.opened_bytes
