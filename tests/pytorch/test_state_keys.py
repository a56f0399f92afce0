"""Checkpoints as training scripts leave them: prefixes, counters, several state_dicts, plain data beside them."""

import argparse
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sepconvert.errors import ModelError
from sepconvert.pytorch.states import load_weights
from tests.pytorch.hostile import saved
from tests.pytorch.nets import Small, small

State = dict[str, torch.Tensor]


def load(value: object, folder: Path, key: str | None = None, module: nn.Module | None = None) -> tuple[str, ...]:
    """Save a checkpoint, put it into a module, and check that the weights of ``small()`` arrived."""
    (folder / "w.pt").write_bytes(saved(value))
    module = Small() if module is None else module
    notes = load_weights(module, folder / "w.pt", key)
    name = next(name for name in module.state_dict() if name.endswith("first.weight"))
    assert torch.equal(module.state_dict()[name], small().first.weight)
    return notes


def prefixed(prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in small().state_dict().items()}


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = Small()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (prefixed("module."), "('module.first.weight' as 'first.weight')"),
        (prefixed("module._orig_mod.model."), "('module._orig_mod.model.first.weight' as 'first.weight')"),
        (prefixed("encoder.backbone."), "('encoder.backbone.first.weight' as 'first.weight')"),
        ({("module." if "norm" in k else "") + k: v for k, v in prefixed("").items()}, "as 'norm.weight'"),
        ({**prefixed("module."), "n_averaged": torch.tensor(3)}, "1 counters"),
        ({**prefixed(""), "total_ops": torch.zeros(1)}, "(total_ops …)"),
    ],
)
def test_prefixes_and_counters_are_taken_off_and_said(state: State, said: str, tmp_path: Path) -> None:
    assert said in " ".join(load(state, tmp_path))


def test_a_wrapper_in_the_module_gets_the_prefix_put_on(tmp_path: Path) -> None:
    assert "('first.weight' as 'module.first.weight')" in load(prefixed(""), tmp_path, module=Wrapped())[0]


@pytest.mark.parametrize(
    "wrap",
    [
        OrderedDict,
        lambda state: {name: tensor for name, tensor in state.items() if "num_batches" not in name},
        lambda state: {"ckpt": {"net": state}, "optimizer": {"exp_avg": {"a": torch.ones(2)}}},
        lambda state: {
            "model": state,
            "args": types.SimpleNamespace(lr=np.float64(0.1), out=Path("a/b")),
            "best": np.int64(3),
            "curve": np.arange(3.0),
            "generator": torch.get_rng_state(),
        },
    ],
)
def test_what_else_a_checkpoint_holds_does_not_matter(wrap: Callable[[State], object], tmp_path: Path) -> None:
    assert load(wrap(small().state_dict()), tmp_path) == ()


def test_the_arguments_of_a_training_run_are_data_but_the_weights_beside_them_have_to_be_named(tmp_path: Path) -> None:
    checkpoint = {"model": small().state_dict(), "args": argparse.Namespace(lr=0.1, out=Path("a/b"))}
    assert load(checkpoint, tmp_path, "model") == ()
    with pytest.raises(ModelError, match=r"beside an argparse\.Namespace, .* with --weights-key model\."):
        load(checkpoint, tmp_path)


def test_one_of_several_is_named_by_its_place_or_by_what_its_names_begin_with(tmp_path: Path) -> None:
    other = small(1).state_dict()
    load({"model": other, "ema": small().state_dict()}, tmp_path, "ema")
    load(
        {**prefixed("model_ema."), **{f"model.{name}": tensor for name, tensor in other.items()}}, tmp_path, "model_ema"
    )
    with pytest.raises(ModelError, match=r"several state_dicts \(model, ema\).*--weights-key"):
        load({"model": other, "ema": other}, tmp_path)
    with pytest.raises(ModelError, match=r"no state_dict 'best'; --weights-key may name model, ema"):
        load({"model": other, "ema": other}, tmp_path, "best")


def test_keys_that_do_not_fit_are_named_without_the_prefix(tmp_path: Path) -> None:
    state = prefixed("module.")
    del state["module.head.bias"]
    with pytest.raises(ModelError, match=r"Small: missing head\.bias; pass"):
        load(state, tmp_path)


def test_a_module_on_the_meta_device_gets_memory_for_its_weights(tmp_path: Path) -> None:
    with torch.device("meta"):
        empty = Small()
    load(small().state_dict(), tmp_path, module=empty)
