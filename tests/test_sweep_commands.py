"""The commands that a sweep suggests make the same models again, whatever kind the model is of."""

import shlex
from pathlib import Path

from sepconvert.data import Preprocess
from sepconvert.workflows import Measure
from sepconvert.workflows.commands import Given


def test_a_factory_is_named_with_its_weights_and_the_sizes_of_its_inputs() -> None:
    given = Given("nets:make", "cal.npz", input_shapes={"x:0": (1, 3, 48, 48)}, weights=Path("w.pt"))
    assert given.rewrite("auto", "speedup", "1.5") == shlex.split(
        "sepconvert rewrite nets:make --data cal.npz --weights w.pt --input x:0:1x3x48x48 --form auto --speedup 1.5"
    )


def test_data_preprocessing_sites_device_and_seed_are_repeated() -> None:
    preprocess = Preprocess((-0.5, 0.25), (0.5,), 1 / 255, (48, 64), "nhwc")
    measure = Measure(True, ("openvino",), 2)
    given = Given("m.onnx", "images", "others", preprocess, None, None, ("a*", "b"), ("a1",), measure, 3)
    assert given.rewrite("dw-pw", "rank", "0.25") == shlex.split(
        "sepconvert rewrite m.onnx --data images --test-data others --mean=-0.5,0.25 --std=0.5 "
        "--scale=0.00392156862745098 --size 48x64 --layout nhwc --include a* --include b --exclude a1 "
        "--device openvino --threads 2 --seed 3 --form dw-pw --rank 0.25"
    )


def test_a_live_module_has_no_command() -> None:
    assert Given(object(), "cal.npz").rewrite("auto", "speedup", "2") is None
