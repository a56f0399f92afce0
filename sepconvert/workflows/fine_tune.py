"""Fine-tuning as a step between the rewrite and its judgement."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconvert.data import Dataset
from sepconvert.data.vary import Variation, variation
from sepconvert.errors import MissingExtraError, OutputError, UsageError
from sepconvert.workflows.measure import ask_metric
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.request import Request
from sepconvert.workflows.resume import Packed, pack, unpack
from sepconvert.workflows.settled import Settled

if TYPE_CHECKING:
    from sepconvert.pytorch.tuning import Tuning

CALIBRATION = 1024
"""Training inputs that factors are fitted to where there are no others."""
SUFFIX = ".tuning.safetensors"
ALREADY_FITTED = "fitted to calibration inputs by least squares"
FROM_RANDOM = "random factors, trained on what each layer sees"


@dataclass(frozen=True, slots=True)
class TunedResult:
    """The result with trained weights, what the record tells about it, and sentences for the record."""

    settled: Settled
    figures: Mapping[str, Any]
    warnings: tuple[str, ...]


def check_tuning(request: Request) -> None:
    """Refuse, before any work is done, what was asked to be tuned and could not be.

    Raises:
        MissingExtraError: PyTorch or, for several devices, Lightning Fabric is not installed.
        UsageError: there is no data.
        OutputError: an interrupted training's state is in the way.
    """
    fine_tune = request.fine_tune
    if fine_tune is None:
        return
    needed = ["torch", "safetensors"]
    if any(find_spec(package) is None for package in needed):
        raise MissingExtraError("--fine-tune needs PyTorch: pip install '.[torch]'.")
    if fine_tune.processes > 1 and find_spec("lightning_fabric") is None:
        raise MissingExtraError(
            "--num-devices and --num-nodes above 1 need Lightning Fabric: pip install '.[distributed]'."
        )
    if request.training_data is None:
        raise UsageError(
            "--fine-tune needs inputs to train on, without labels if need be: give --train-data or --data."
        )
    path = checkpoint_path(request.output)
    if path is None:
        if fine_tune.resume:
            raise UsageError("--resume needs an output file: the state of the training lies beside it.")
    elif fine_tune.resume and not path.is_file():
        raise OutputError(f"There is no {path} to resume from; leave --resume away.")
    elif path.exists() and not fine_tune.resume and not request.outputs.force:
        raise OutputError(f"{path} holds an interrupted training: pass --resume to go on, or --force to start anew.")


def checkpoint_path(output: Path | None) -> Path | None:
    """Where the state of a training is kept until it is done."""
    return None if output is None else output.with_name(f"{output.name}{SUFFIX}")


def training_variants(request: Request, training: Dataset, opened: OpenedModel) -> Variation | None:
    """Say how the inputs to train on are varied, if they are.

    Raises:
        DataError: no input of the model is an image.
    """
    kinds = () if request.fine_tune is None else request.fine_tune.augment
    if not kinds:
        return None
    return variation(kinds, opened.shapes.inputs, training.source.constant, request.reading.preprocess)


def settled_before(case: Case) -> Settled | None:
    """Return the rewrite that an interrupted training began with; None where none is resumed.

    Raises:
        ModelError: its file is damaged, or of another model.
    """
    path, tuning = checkpoint_path(case.request.output), case.request.fine_tune
    if tuning is None or not tuning.resume or path is None:
        return None
    from sepconvert.pytorch.checkpoint import read_start

    plan, arrays = read_start(path)
    return unpack(case, Packed(plan, arrays), str(path))


def tune_settled(
    case: Case, settled: Settled, training: Dataset, varied: Variation | None, judged: Dataset | None
) -> TunedResult:
    """Fine-tune a settled rewrite; its structure stays, its weights change.

    Args:
        case: the original.
        settled: the rewrite.
        training: inputs to train on.
        varied: how they are varied.
        judged: inputs that the metric is asked on, before and after.

    Raises:
        SepconvertError: as ``sepconvert.pytorch.tuning.tune``.
    """
    from sepconvert.pytorch.tuning import NotTunableError, tune

    request, wanted = case.request, case.request.fine_tune
    assert wanted is not None
    path, packed = checkpoint_path(request.output), pack(case, settled)
    tuning = replace(
        tuning_of(request, varied),
        checkpoint=path,
        plan=packed.plan,
        start=packed.arrays,
        resume=wanted.resume,
        all_weights=wanted.train_weights == "all",
    )
    layers = FROM_RANDOM if request.planning.init == "random" else ALREADY_FITTED
    applied, before = settled.applied, ask_metric(case, settled.applied.opened, judged)
    emitted = tuple(name for names in applied.emitted.values() for name in names)
    try:
        tuned = tune(case.opened.model, applied.opened.model, emitted, training, tuning, request.progress)
    except NotTunableError as error:
        reason = f"Fine-tuning from end to end was left out: {error}"
        return TunedResult(settled, {"steps": 0, "layer_wise": layers, "curve": []}, (reason,))
    opened = replace(applied.opened, model=tuned.model)
    measured = {
        name: value for name, value in (settled.plan.measured or {}).items() if name not in ("max_error", "max_drop")
    }
    settled = replace(
        settled,
        applied=replace(applied, opened=opened),
        plan=replace(settled.plan, measured=measured or None),
        int8=None,
    )
    after = ask_metric(case, opened, judged)
    asked = {}
    if before is not None and after is not None:
        asked = {"metric": before.name, "metric_before": before.after, "metric_after": after.after}
    return TunedResult(settled, {"layer_wise": layers, **tuned.figures, **asked}, tuned.warnings)


def tuning_of(request: Request, varied: Variation | None) -> "Tuning":
    """What was asked of the training, whatever is trained."""
    from sepconvert.pytorch.tuning import Tuning

    wanted = request.fine_tune
    assert wanted is not None
    return Tuning(
        steps=wanted.steps,
        epochs=wanted.epochs,
        rate=wanted.lr,
        device=request.measure.devices[0],
        num_devices=wanted.num_devices,
        num_nodes=wanted.num_nodes,
        seed=request.seed,
        variation=varied,
        hard_labels=wanted.hard_labels,
    )


def resumable_from(output: Path | None) -> bool:
    """Whether the state of a training lies beside an output."""
    path = checkpoint_path(output)
    return path is not None and path.is_file()


def how_to_resume(request: Request) -> str | None:
    """Say that an interrupted training can be taken up again; None where there is none."""
    if request.fine_tune is None or not resumable_from(request.output):
        return None
    return (
        f"Interrupted; the training so far is in {checkpoint_path(request.output)}: the same command with --resume "
        "goes on, and with --resume --steps 1 writes the model as it is."
    )


def forget(output: Path | None) -> None:
    """Remove the state of a training that is done."""
    path = checkpoint_path(output)
    if path is not None:
        path.unlink(missing_ok=True)
