"""One request for the same wishes, whether they are typed as a command or called from Python."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sepconvert
from sepconvert import FineTune, Measure, Outputs, Planning, Preprocess, Reading
from sepconvert.errors import UsageError
from sepconvert.workflows.options import Budget
from sepconvert.workflows.request import Request
from tests.workflows.asked import request_of, typed

SAME: dict[str, tuple[str, Callable[[], object]]] = {
    "nothing but a model": (
        "sepconvert rewrite m.onnx",
        lambda: sepconvert.rewrite("m.onnx", "m.sep.onnx"),
    ),
    "everything": (
        "sepconvert rewrite nets:make -o out.onnx --data d.npz --test-data t.npz --form any --speedup 2 --weights w.pt "
        "--input x:1x3x48x48 --mean=-0.5,0.25 --std 2 --scale 1/255 --size 48x64 --layout nhwc --include 'a*' "
        "--include b --exclude a1 --lowering stacked --device openvino --threads 2 --no-latency --jobs 3 "
        "--cluster tcp://a:8786 --latency-table t.json --no-cache --json r.json --html r.html --force --seed 3 "
        "--fine-tune --train-data u.npz "
        "--steps 9 --lr 0.01 --train-weights all --augment shift,flip --hard-labels --resume --num-devices 2 "
        "--num-nodes 4",
        lambda: sepconvert.rewrite(
            "nets:make",
            "out.onnx",
            data="d.npz",
            test_data="t.npz",
            form="any",
            speedup=2,
            fine_tune=FineTune(
                train_data="u.npz",
                steps=9,
                lr=0.01,
                train_weights="all",
                augment=("shift", "flip"),
                hard_labels=True,
                resume=True,
                num_devices=2,
                num_nodes=4,
            ),
            reading=Reading(
                input_shapes={"x": (1, 3, 48, 48)},
                weights=Path("w.pt"),
                preprocess=Preprocess((-0.5, 0.25), (2.0,), 1 / 255, (48, 64), "nhwc"),
            ),
            planning=Planning(
                include=["a*", "b"],
                exclude=["a1"],
                lowering="stacked",
                latency_table=Path("t.json"),
                cache=False,
                jobs=3,
                cluster="tcp://a:8786",
            ),
            measure=Measure(latency=False, devices=("openvino",), threads=2),
            outputs=Outputs(json="r.json", html=Path("r.html"), force=True),
            seed=3,
        ),
    ),
    "fine-tuning by the defaults, random layers": (
        "sepconvert rewrite m.onnx -o o.onnx --data d.npz --rank 0.25 --init random --fine-tune",
        lambda: sepconvert.rewrite(
            "m.onnx", "o.onnx", data="d.npz", rank=0.25, planning=Planning(init="random"), fine_tune=True
        ),
    ),
    "a survey": (
        "sepconvert analyze m.onnx --data d.npz --include a --no-cache --json r.json",
        lambda: sepconvert.analyze(
            "m.onnx", data="d.npz", planning=Planning(include=["a"], cache=False), outputs=Outputs(json="r.json")
        ),
    ),
    "a sweep": (
        "sepconvert sweep m.onnx --data d.npz --form spatial --budgets 1.5,3 --threads 2 --jobs 1",
        lambda: sepconvert.sweep(
            "m.onnx",
            data="d.npz",
            form="spatial",
            budgets=[1.5, 3],
            measure=Measure(threads=2),
            planning=Planning(jobs=1),
        ),
    ),
    "a comparison": (
        "sepconvert compare a.onnx b.onnx --data d.npz --scale 2 --device cuda --device cpu",
        lambda: sepconvert.compare(
            "a.onnx",
            "b.onnx",
            data="d.npz",
            reading=Reading(preprocess=Preprocess(scale=2.0)),
            measure=Measure(devices=("cuda", "cpu")),
        ),
    ),
}


@pytest.mark.parametrize("wish", SAME)
def test_command_line_and_python_make_the_same_request(wish: str) -> None:
    line, call = SAME[wish]
    assert typed(line) == request_of(call)


def test_rewrite_takes_a_dozen_keywords_and_only_model_and_output_without_their_names() -> None:
    kinds = [p.kind for p in inspect.signature(sepconvert.rewrite).parameters.values()]
    assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == 2
    assert len(kinds) - 2 <= 12


@pytest.mark.parametrize("name", ["analyze", "compare", "sweep"])
def test_the_other_calls_name_the_same_things_as_rewrite_does(name: str) -> None:
    known = {*inspect.signature(sepconvert.rewrite).parameters, "before", "after", "budgets", "export_table"}
    assert set(inspect.signature(getattr(sepconvert, name)).parameters) <= known


def test_one_budget_is_taken_half_of_the_macs_if_none_is_given() -> None:
    assert Budget.of({}) == Budget.of({"macs": None}) == Budget("macs", 0.5)
    assert Budget.of({"rank": None, "max_error": 0.1}) == Budget("max_error", 0.1)
    with pytest.raises(UsageError, match=r"^rank and macs contradict each other; give one of these budgets"):
        Budget.of({"macs": 0.5, "rank": 2})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"mac": 0.5}, "'mac'; budgets are rank, speedup"),
        ({"qqq": 0.5}, "'qqq'; budgets are rank, speedup"),
        ({"quick": True}, "'quick'; it is planning=Planning(quick=True)"),
        ({"steps": 200}, "'steps'; it is fine_tune=FineTune(steps=200)"),
        ({"excludes": ["first"]}, "'excludes'; it is planning=Planning(exclude=…)"),
        ({"scale": 0.5}, "'scale'; it is reading=Reading(preprocess=Preprocess(scale=0.5))"),
        ({"html": "a.html"}, "'html'; it is outputs=Outputs(html='a.html')"),
    ],
)
def test_a_keyword_that_is_none_is_told_where_it_belongs(words: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        sepconvert.rewrite("m.onnx", **words)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 1.5), ("rank", 0), ("rank", float("inf")), ("rank", float("nan")), ("speedup", 1), ("macs", 1),
     ("params", 0), ("max_error", float("nan")), ("speedup", float("inf"))],
)  # fmt: skip
def test_a_budget_out_of_range_is_refused_with_what_it_should_be(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"--{name.replace('_', '-')} \S+ is (not|neither)"):
        Budget(name, value)


def test_names_that_are_not_known_are_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="--form dwpw is not known; choose one of auto, any, dw-pw"):
        Request(model="m.onnx", form="dwpw")
    with pytest.raises(UsageError, match="--init zeros is not known; choose one of low-rank, random"):
        Planning(init="zeros")
    with pytest.raises(UsageError, match="--lowering concat does not apply to --form spatial"):
        Request(model="m.onnx", form="spatial", planning=Planning(lowering="concat"))


def test_a_text_in_place_of_a_list_is_refused_and_not_taken_letter_by_letter() -> None:
    with pytest.raises(UsageError, match=r"--include takes a list in Python, such as \['t\*'\], not the text"):
        Planning(include="t*")
    with pytest.raises(UsageError, match="--device takes a list"):
        Measure(devices="cpu")
    with pytest.raises(UsageError, match="--augment takes a list"):
        FineTune(augment="shift")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--device names no device"):
        Measure(devices=())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Request(model="m.onnx", seed=-1),
        lambda: Request(model="m.onnx", seed=2**64),
        lambda: Request(model="m.onnx", seed=1.5),  # type: ignore[arg-type]
        lambda: Measure(threads=0),
        lambda: Measure(threads="2"),  # type: ignore[arg-type]
        lambda: Planning(jobs=0),
        lambda: FineTune(steps=0),
    ],
)
def test_numbers_that_count_are_whole_and_in_range(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"^--\w+ \S+ is not a whole number from [01]\.$"):
        wrong()


def test_the_api_is_listed_for_who_completes_names() -> None:
    assert {"rewrite", "compare", "Planning", "rebuild", "__version__"} <= set(dir(sepconvert))


@pytest.mark.parametrize(
    "given",
    [{"input_shapes": ["image:1x3"]}, {"input_shapes": {"image": "1x3"}}, {"input_shapes": {"image": 3}},
     {"input_shapes": (1, 3, 224, 224)}, {"input_types": "int64"}],
)  # fmt: skip
def test_sizes_and_types_that_are_not_given_by_input_name_are_usage_errors(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="by input name in Python, such as"):
        Reading(**given)


def test_sizes_may_be_any_sequence_of_whole_numbers() -> None:
    sizes: dict[str, Any] = {"image": [1, np.int64(3), 8, 8], "other": np.array([1, 2])}
    assert Reading(input_shapes=sizes).input_shapes is sizes
