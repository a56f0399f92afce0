"""Fine-tune a rewritten model by distillation from the original: from two models and data to the better model."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.data.vary import Variation
from sepconvert.errors import DataError, DeviceError, ModelError
from sepconvert.fitting.sizes import value_sizes
from sepconvert.graph.heads import expose
from sepconvert.graph.integers import UNROUNDED, Rounding
from sepconvert.graph.joined import output_parts
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import model_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.trained_constants import trainable_constants
from sepconvert.graph.uses import find_value
from sepconvert.progress import Progress
from sepconvert.pytorch.checkpoint import read_checkpoint
from sepconvert.pytorch.distil import Keeping, Settings
from sepconvert.pytorch.distributed import train_together
from sepconvert.pytorch.hard_labels import with_own_answers
from sepconvert.pytorch.processes import Alone
from sepconvert.pytorch.trainable import TrainableGraph
from sepconvert.pytorch.training import Job, Trained, compare, train
from sepconvert.runtime.devices import IN_PYTORCH, available_devices
from sepconvert.runtime.sessions import open_session

EPOCHS = 20
FEWEST_STEPS = 500
EXAMINED = ("divergence", "cross_entropy", "agreement", "top1")
LARGEST_BATCH = 64
FEWEST_BATCHES = 8
ACTIVATIONS = 2 << 30  # bytes that a batch's activations may take
HELDOUT, MOST_HELDOUT, FEWEST_HELDOUT = 0.1, 1000, 2
_SPLIT, _CUT, _CUT_HELDOUT = 11, 12, 13  # tell random choices apart that come from one seed


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to fine-tune; None leaves the choice to the defaults.

    ``device`` is a name as in ``--device``; ``checkpoint`` is where the state is kept meanwhile, with ``plan`` (words)
    and ``start`` (arrays) in it for whoever resumes; ``resume`` goes on from there. ``all_weights`` also trains the
    layers that stayed dense; ``variation`` says how the inputs to train on are varied at every step; ``hard_labels``
    takes the original's own answers for labels. ``rounding`` says what is rounded as in integers meanwhile.
    """

    steps: int | None = None
    epochs: int | None = None
    rate: float | None = None
    device: str = "cpu"
    num_devices: int = 1
    num_nodes: int = 1
    seed: int = 0
    checkpoint: Path | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    resume: bool = False
    all_weights: bool = False
    variation: Variation | None = None
    hard_labels: bool = False
    rounding: Rounding = UNROUNDED


@dataclass(frozen=True, slots=True)
class Tuned:
    """The model with its best weights, figures for the record, and sentences for it."""

    model: LoadedModel
    figures: Mapping[str, Any]
    warnings: tuple[str, ...]


class NotTunableError(ModelError):
    """The trainable graph cannot run this model; the message says why."""


def tune(
    original: LoadedModel,
    rewritten: LoadedModel,
    emitted: Sequence[str],
    data: Dataset,
    tuning: Tuning,
    progress: Progress,
) -> Tuned:
    """Train the new factors, biases and scales of a rewritten model until it says what the original says.

    Args:
        original: the model to learn from.
        rewritten: the model to train; it stays as it is.
        emitted: outputs of the convolutions that stand in the place of sites.
        data: inputs to train on; a part of them is held out to judge by. Labels are mixed in where there are some.
        tuning: see ``Tuning``.
        progress: told of every step.

    Raises:
        NotTunableError: the graph has operators that cannot be trained.
        DataError: there is too little data.
        DeviceError: the device is not there.
    """
    start = perf_counter()
    accelerator = _accelerator(tuning.device)
    trainable = trainable_constants(rewritten, None if tuning.all_weights else emitted)
    # What has fixed steps would be cut off where it grew.
    trainable = tuple(name for name in trainable if name not in tuning.rounding.values)
    try:
        graph = TrainableGraph.from_model(rewritten, trainable, wide=True)
    except ModelError as error:
        raise NotTunableError(str(error)) from None
    job = _job(original, rewritten, trainable, data, tuning)
    if tuning.num_devices * tuning.num_nodes > 1:
        trained = train_together(job, accelerator, tuning.num_devices, tuning.num_nodes, progress)
    else:
        trained = train(job, Alone(torch.device(accelerator)), progress)
    weights = graph.parameters_by_name()
    with torch.no_grad():
        for name, tensor in trained.learned.best.items():
            weights[name].copy_(tensor)
    tuned = graph.write_back()
    compare(tuned, job.heldout)
    figures = _figures(job, trained, tuning) | {
        "trained_parameters": sum(weight.numel() for weight in weights.values()),
        "seconds": perf_counter() - start,
    }
    ended = trained.learned.ended
    stopped = () if ended is None else (f"Fine-tuning ended early: {ended}.",)
    return Tuned(tuned, figures, (*trained.warnings, *stopped))


def _job(
    original: LoadedModel, rewritten: LoadedModel, trainable: tuple[str, ...], data: Dataset, tuning: Tuning
) -> Job:
    parts = output_parts(original, infer_shapes(original, data.shapes())).values()
    judged = list(dict.fromkeys(part.value for found in parts for part in found))
    teacher = model_bytes(expose(original, judged))
    floating = {info.name for info in open_session(teacher).outputs if info.dtype.startswith(("float", "bfloat"))}
    values = tuple(name for name in judged if name in floating)
    lost = [name for name in values if find_value(rewritten, name) is None]
    if lost:
        raise NotTunableError(f"the model to train has no value '{lost[0]}'")
    if not values:
        raise NotTunableError("no output of the model is a floating-point tensor")
    processes = tuning.num_devices * tuning.num_nodes
    unit = data.batch or 1
    if data.count < 2 * unit * max(2, processes):
        raise DataError(
            f"{data.origin} holds {data.count} inputs, too few for fine-tuning; give some hundreds or more."
        )
    if tuning.hard_labels:
        data = with_own_answers(teacher, values, data, _runtime_device(tuning.device))
    fitted, heldout = split(data, tuning.seed)
    batch = _batch_size(rewritten, fitted, processes)
    batches = tuple(fitted.cut(batch, _rng(tuning.seed, _CUT)))
    per_epoch = max(1, len(batches) // processes)
    default = max(EPOCHS * per_epoch, FEWEST_STEPS) if tuning.epochs is None else tuning.epochs * per_epoch
    settings = Settings(tuning.steps or default, tuning.rate, tuning.seed)
    student = model_bytes(rewritten)
    keeping = None
    if tuning.checkpoint is not None:
        subject = _subject(student, fitted, batch, processes, tuning)
        start = {name: torch.from_numpy(array.copy()) for name, array in tuning.start.items()}
        keeping = Keeping(tuning.checkpoint, subject, tuning.plan, start, _resumed(tuning, subject))
    return Job(
        teacher,
        student,
        trainable,
        values,
        batches,
        tuple(heldout.cut(batch, _rng(tuning.seed, _CUT_HELDOUT))),
        _runtime_device(tuning.device),
        settings,
        keeping,
        tuning.variation,
        tuning.rounding,
    )


def split(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Split inputs into those that are trained on and those that are held out to judge by."""
    # Of a single input nothing varies, so that there would be nothing to measure an error by.
    share = max(min(HELDOUT, MOST_HELDOUT / data.count), FEWEST_HELDOUT / data.count)
    return data.split(share, _rng(seed, _SPLIT))


def _batch_size(model: LoadedModel, data: Dataset, processes: int) -> int:
    """Samples per batch: what memory allows, but several batches for each process."""
    shapes = infer_shapes(model, data.shapes())
    size = value_sizes(shapes)
    activations = sum(size(name) for name in shapes.shapes if name not in shapes.constants)
    fits = ACTIVATIONS // max(activations, 1)
    return max(1, min(LARGEST_BATCH, fits, data.count // (FEWEST_BATCHES * processes)))


def _subject(student: bytes, data: Dataset, batch: int, processes: int, tuning: Tuning) -> str:
    """What a checkpoint belongs to: the same weights at the start, the same of them trained, and the same batches."""
    labelled, kinds = data.labels is not None, _kinds(tuning)
    text = f"{data.count} {batch} {processes} {tuning.seed} {labelled} {tuning.all_weights} {kinds} ".encode()
    return hashlib.sha256(text + student).hexdigest()


def _resumed(tuning: Tuning, subject: str) -> Any:
    if not tuning.resume or tuning.checkpoint is None:
        return None
    found = read_checkpoint(tuning.checkpoint)
    if found.progressed.subject != subject:
        raise ModelError(
            f"{tuning.checkpoint} belongs to another training (another model, plan, seed, data, --augment, "
            "--hard-labels, --train-weights or number of devices); repeat the command that began it, or leave --resume "
            "away and pass --force."
        )
    return found


def _accelerator(device: str) -> str:
    if device not in ("cuda", "tensorrt", "torch:cuda"):
        return "cpu"
    if not torch.cuda.is_available():
        raise DeviceError(
            f"--device {device}: this PyTorch sees no CUDA device; install a CUDA build of torch, or train on the cpu."
        )
    return "cuda"


def _runtime_device(device: str) -> str:
    """Where onnxruntime runs the original: a device of PyTorch's may be none of the installed onnxruntime's."""
    if device not in IN_PYTORCH:
        return device
    same = device.removeprefix("torch:")
    return same if same in available_devices() else "cpu"


def _figures(job: Job, trained: Trained, tuning: Tuning) -> dict[str, Any]:
    learned = trained.learned
    best = next(point for point in learned.curve if point["step"] == learned.best_step)
    per_epoch = max(1, len(job.batches) // (tuning.num_devices * tuning.num_nodes))
    return {
        "steps": learned.steps,
        "epochs": ceil(100 * learned.steps / per_epoch) / 100,
        "inputs": sum(batch.count for batch in job.batches),
        "held_out_inputs": sum(batch.count for batch in job.heldout),
        "labels": trained.labelled,
        "hard_labels": tuning.hard_labels,
        "augment": _kinds(tuning),
        "train_weights": "all" if tuning.all_weights else "new",
        "batch": max(batch.count for batch in job.batches),
        "peak_rate": learned.rate,
        "processes": tuning.num_devices * tuning.num_nodes,
        **{f"{name}_before": learned.curve[0][name] for name in EXAMINED if name in best},
        **{f"{name}_after": best[name] for name in EXAMINED if name in best},
        "best_step": learned.best_step,
        "values": list(trained.goals),
        "curve": learned.curve,
    }


def _kinds(tuning: Tuning) -> list[str]:
    return [] if tuning.variation is None else list(tuning.variation.kinds)


def _rng(seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose])
