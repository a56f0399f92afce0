"""Options that several workflows share, checked when they are made."""

from dataclasses import dataclass
from pathlib import Path

from sepconvert.data.vary import KINDS
from sepconvert.errors import UsageError
from sepconvert.separable.forms import FORMS, cli_name, lowerings, named, names

LOWERINGS = ("auto", "stacked", "branches", "concat")
TRAINED = ("new", "all")
INITS = ("low-rank", "random")
BUDGETS = ("rank", "speedup", "macs", "params", "max_error")


def form_words() -> dict[str, str]:
    """Names for ``--form``, each with a few words on what it is."""
    groups = {"auto": "the depthwise forms", "any": "every form"}
    return groups | {cli_name(name): form.WORDS for name, form in FORMS.items()}


@dataclass(frozen=True, slots=True)
class Measure:
    """What to time and how: ``latency`` switches timing, ``devices`` are names as ``cpu`` or ``cuda``."""

    latency: bool = True
    devices: tuple[str, ...] = ("cpu",)
    threads: int = 1

    def check(self) -> None:
        """Refuse, before any work is done, a device that could not be measured at the end.

        Raises:
            DeviceError: its name is unknown, or the installed onnxruntime does not have it.
        """
        from sepconvert.runtime.devices import find_device

        if self.latency or self.devices != ("cpu",):
            for device in self.devices:
                find_device(device)


@dataclass(frozen=True, slots=True)
class Planning:
    """How to plan: a latency table from elsewhere, whether measured times are cached, parallel jobs of the profile."""

    latency_table: Path | None = None
    cache: bool = True
    jobs: int | None = None


@dataclass(frozen=True, slots=True)
class FineTune:
    """How to fine-tune; None leaves a number to the defaults.

    ``train_data`` is spelled as ``--data`` and defaults to it. ``steps`` of the optimiser or ``epochs`` over the
    inputs, not both; ``lr`` is the peak learning rate; ``resume`` goes on from an interrupted run; ``num_devices`` are
    processes (with a GPU each, where the device is one) on each of ``num_nodes`` machines. ``train_weights`` is ``new``
    (new factors, biases, scales of normalisations) or ``all`` (every convolution and fully connected layer too);
    ``augment`` are kinds of variants of images, ``shift`` and ``flip``, that are trained on too; with ``hard_labels``
    the original's own answers count as labels.

    Raises:
        UsageError: a number out of range, an unknown name, or both steps and epochs.
    """

    train_data: str | None = None
    steps: int | None = None
    epochs: int | None = None
    lr: float | None = None
    resume: bool = False
    num_devices: int = 1
    num_nodes: int = 1
    train_weights: str = "new"
    augment: tuple[str, ...] = ()
    hard_labels: bool = False

    def __post_init__(self) -> None:
        _one_of("--train-weights", self.train_weights, TRAINED)
        for kind in self.augment:
            _one_of("--augment", kind, KINDS)
        if self.steps is not None and self.epochs is not None:
            raise UsageError("--steps and --epochs contradict each other; give one of them.")
        for name in ("steps", "epochs", "num_devices", "num_nodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} {value} is not a whole number from 1.")
        if self.lr is not None and not 0 < self.lr < 1:
            raise UsageError(f"--lr {self.lr:g} is not a learning rate between 0 and 1.")

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.num_devices * self.num_nodes


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of a rewrite: at most one budget of ``rank``, ``speedup``, ``macs``, ``params``, ``max_error``.

    None of them means ``macs=0.5``.

    ``form``, ``lowering`` and ``init`` are spelled as on the command line. ``allow_growth`` also admits ranks at or
    above break-even: to check that a full-rank rewrite is exact, never for use.

    Raises:
        UsageError: an unknown name, a number out of range, or two budgets at once.
    """

    form: str = "auto"
    rank: float | None = None
    macs: float | None = None
    params: float | None = None
    lowering: str = "auto"
    init: str = "low-rank"
    allow_growth: bool = False
    speedup: float | None = None
    max_error: float | None = None

    def __post_init__(self) -> None:
        _one_of("--form", self.form, names())
        _one_of("--lowering", self.lowering, LOWERINGS)
        _one_of("--init", self.init, INITS)
        given = [f"--{name.replace('_', '-')}" for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} contradict each other; give one of them.")
        if self.rank is not None and not (0 < self.rank < 1 or (self.rank >= 1 and self.rank == int(self.rank))):
            raise UsageError(f"--rank {self.rank:g} is neither a whole number from 1 nor a share between 0 and 1.")
        for name in ("macs", "params"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UsageError(f"--{name} {value:g} is not a ratio between 0 and 1 (new/old of the whole model).")
        if self.speedup is not None and not 1 < self.speedup < float("inf"):
            raise UsageError(f"--speedup {self.speedup:g} is not a number above 1 (old/new latency).")
        if self.max_error is not None and not 0 < self.max_error < 1:
            raise UsageError(f"--max-error {self.max_error:g} is not a relative error between 0 and 1.")
        if not self.forms:
            raise UsageError(f"--lowering {self.lowering} does not apply to --form {self.form}; use --lowering auto.")

    @property
    def forms(self) -> tuple[str, ...]:
        """Forms that the form and the lowering allow, as keys of ``FORMS``."""
        every = named(self.form)
        if self.lowering == "auto":
            return every
        return tuple(form for form in every if self.lowering in lowerings(form, 2))

    @property
    def budget(self) -> dict[str, float]:
        """The one budget in force, by name."""
        for name in BUDGETS:
            value = getattr(self, name)
            if value is not None:
                return {name: value}
        return {"macs": 0.5}

    def lowering_of(self, form: str, rank: int) -> str:
        """Return the lowering of one site; at rank 1 all of them write the same nodes."""
        choices = lowerings(form, rank)
        return self.lowering if self.lowering in choices else choices[0]


def _one_of(option: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise UsageError(f"{option} {value} is not known; choose one of {', '.join(names)}.")
