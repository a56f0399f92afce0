"""What is asked for: the one object that a command or a call becomes, and that all workflows pass on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconvert.data import Data
from sepconvert.errors import UsageError
from sepconvert.graph.sites import CONV, LAYERS
from sepconvert.progress import Progress, silent
from sepconvert.runtime.devices import IN_PYTORCH
from sepconvert.separable.forms import lowerings, named, names
from sepconvert.workflows.options import Budget, FineTune, Measure, Planning, Reading, one_of, whole
from sepconvert.workflows.outputs import Outputs

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A model and everything that was asked of it; the fields are the keywords of ``sepconvert.rewrite``.

    Raises:
        UsageError: an unknown form, or options that contradict each other.
    """

    model: "Path | str | Module"
    output: Path | None = None
    data: Data | None = None
    test_data: Data | None = None
    example_inputs: Any = None
    form: str = "auto"
    budget: Budget = Budget()
    fine_tune: FineTune | None = None
    reading: Reading = Reading()
    planning: Planning = Planning()
    measure: Measure = Measure()
    outputs: Outputs = Outputs()
    seed: int = 0
    progress: Progress = field(default=silent, compare=False)

    def __post_init__(self) -> None:
        one_of("--form", self.form, names())
        whole("--seed", self.seed, least=0)
        if not self.forms:
            raise UsageError(
                f"--lowering {self.planning.lowering} does not apply to --form {self.form}; use --lowering auto."
            )
        if self.planning.int8 and self.data is None:
            raise UsageError("--int8 needs inputs that show between which bounds values lie: give --data.")
        if self.planning.max_drop is not None and self.measure.metric is None:
            raise UsageError("--max-drop bounds the fall of a metric: name it with --metric.")
        if self.measure.metric is not None and self.data is None and self.test_data is None:
            raise UsageError("--metric is measured on real inputs: give --data or --test-data.")
        if self.budget.name == "max_drop" and (self.data is None or self.planning.init == "random"):
            raise UsageError("--max-drop is planned for on held-out inputs of --data; give them, and no --init random.")
        foreign = next((device for device in self.measure.devices if device.lower() in IN_PYTORCH), None)
        if self.planning.int8 and foreign is not None:
            raise UsageError(
                f"--int8 makes models for onnxruntime, and --device {foreign} is PyTorch's; choose another device."
            )
        if self.budget.name == "max_error" and (self.data is None or self.planning.init == "random"):
            raise UsageError("--max-error is measured on held-out inputs of --data; give them, and no --init random.")

    @property
    def forms(self) -> tuple[str, ...]:
        """Forms that the form and the lowering allow, as keys of ``FORMS``."""
        every, lowering = named(self.form), self.planning.lowering
        return every if lowering == "auto" else tuple(form for form in every if lowering in lowerings(form, 2))

    @property
    def layers(self) -> tuple[str, ...]:
        """Kinds of layers that may be rewritten: with ``auto`` convolutions alone, otherwise all."""
        return (CONV,) if self.form == "auto" else LAYERS

    @property
    def training_data(self) -> Data | None:
        """Inputs to train on; None where nothing is trained."""
        if self.fine_tune is None:
            return None
        return self.data if self.fine_tune.train_data is None else self.fine_tune.train_data
