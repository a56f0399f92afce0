"""The ``rewrite`` command that a request stands for."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from sepconvert.data import Preprocess
from sepconvert.workflows.options import FineTune
from sepconvert.workflows.request import Request


def rewrite_command(request: Request) -> str | None:
    """Return the command that makes the same model again; None where none can name the model, the data or the metric.

    Where the model goes, what is written beside it, ``--resume`` and the cache are left out.
    """
    trained = None if request.fine_tune is None else request.fine_tune.train_data
    read = (request.data, request.test_data, trained, request.measure.metric)
    named = [given for given in read if given is not None]
    if not all(isinstance(given, str | Path) for given in (request.model, *named)):
        return None
    words = ["sepconvert", "rewrite", str(request.model)]
    for option, value in _options(request):
        if value is not None:
            # A value that begins with a dash would be taken for an option.
            words += [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]
    tuning = request.fine_tune
    flags = {
        "--int8": request.planning.int8,
        "--quick": request.planning.quick,
        "--fold": request.planning.fold,
        "--allow-loss": request.planning.allow_loss,
        "--fine-tune": tuning is not None,
        "--hard-labels": tuning is not None and tuning.hard_labels,
        "--no-latency": not request.measure.latency,
    }
    return shlex.join([*words, *(flag for flag, given in flags.items() if given)])


def _options(request: Request) -> Iterator[tuple[str, object]]:
    """Yield options with their values; those with None are not needed."""
    reading, planning, measure = request.reading, request.planning, request.measure
    yield "--data", request.data
    yield "--test-data", request.test_data
    yield "--weights", reading.weights
    yield "--weights-key", reading.weights_key
    for name, shape in reading.input_shapes.items():
        dtype = reading.input_types.get(name)
        yield "--input", f"{name}:{'x'.join(map(str, shape))}{f':{dtype}' if dtype else ''}"
    yield from _preprocessing(reading.preprocess)
    yield "--labels", reading.labels
    for option, globs in (("--include", planning.include), ("--exclude", planning.exclude)):
        yield from ((option, glob) for glob in globs)
    if tuple(measure.devices) != ("cpu",):
        yield from (("--device", device) for device in measure.devices)
    yield "--threads", None if measure.threads == 1 else measure.threads
    yield "--latency-table", planning.latency_table
    yield "--lowering", None if planning.lowering == "auto" else planning.lowering
    yield "--init", None if planning.init == "low-rank" else planning.init
    yield "--seed", request.seed or None
    if request.fine_tune is not None:
        yield from _tuning(request.fine_tune)
    yield "--metric", measure.metric
    yield "--max-drop", None if request.budget.name == "max_drop" else planning.max_drop
    yield "--form", request.form
    yield request.budget.option, f"{request.budget.value:g}"


def _tuning(given: FineTune) -> Iterator[tuple[str, object]]:
    default = FineTune()
    for name in ("train_data", "steps", "epochs", "lr", "train_weights", "num_devices", "num_nodes"):
        value = getattr(given, name)
        yield f"--{name.replace('_', '-')}", None if value == getattr(default, name) else value
    yield "--augment", ",".join(given.augment) or None


def _preprocessing(given: Preprocess) -> Iterator[tuple[str, object]]:
    for option, values in (("--mean", given.mean), ("--std", given.std)):
        yield option, None if values is None else ",".join(map(repr, values))
    yield "--scale", given.scale
    yield "--size", None if given.size is None else "x".join(map(str, given.size))
    yield "--layout", given.layout
    yield "--colours", None if given.colours == "rgb" else given.colours
