"""Options that several workflows share, checked when they are made; messages spell them as the command line does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import TypedDict

from sepconvert.data import Data, Preprocess
from sepconvert.data.vary import KINDS
from sepconvert.errors import UsageError
from sepconvert.separable.forms import FORMS, cli_name
from sepconvert.workflows.metrics import MetricSpec, find_metric

LOWERINGS = ("auto", "stacked", "branches", "concat")
TRAINED = ("new", "all")
INITS = ("low-rank", "random")
DEFAULT_ERROR = 0.01  # of a rewrite with data and without a budget: hard to notice


class BudgetWords(TypedDict, total=False):
    """The keywords of which a budget takes one; None is as good as absent."""

    rank: float | None
    speedup: float | None
    macs: float | None
    params: float | None
    max_error: float | None


_MOST = 2**63
_RATIO = "is not a ratio between 0 and 1 (new/old of the whole model)"
_RANGES = {
    "rank": "is neither a whole number from 1 nor a share between 0 and 1",
    "speedup": "is not a number above 1 (old/new latency)",
    "macs": _RATIO,
    "params": _RATIO,
    "max_error": "is not a relative error between 0 and 1",
    "max_drop": "is not a number from 0 by which the metric may fall",
}


def form_words() -> dict[str, str]:
    """Names for ``--form``, each with a few words on what it is."""
    groups = {"auto": "the depthwise forms", "any": "every form"}
    return groups | {cli_name(name): form.WORDS for name, form in FORMS.items()}


@dataclass(frozen=True, slots=True)
class Budget:
    """What a rewrite may cost, by name: ``rank``, ``speedup``, ``macs``, ``params``, ``max_error`` or ``max_drop``.

    ``by_default`` says that nobody asked for it. ``max_drop`` is a bound of ``Planning``, and the budget where there
    is no other.

    Raises:
        UsageError: the value is out of range.
    """

    name: str = "macs"
    value: float = 0.5
    by_default: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        value = self.value
        if self.name == "rank":
            sensible = 0 < value < 1 or (value >= 1 and value % 1 == 0)
        elif self.name == "max_drop":
            sensible = 0 <= value < float("inf")
        else:
            sensible = 1 < value < float("inf") if self.name == "speedup" else 0 < value < 1
        if not sensible:
            raise UsageError(f"{self.option} {value:g} {_RANGES[self.name]}.")

    @property
    def option(self) -> str:
        """How the command line spells it."""
        return f"--{self.name.replace('_', '-')}"

    @staticmethod
    def of(words: BudgetWords, *, judged: bool = False, max_drop: float | None = None) -> "Budget":
        """Return the one budget that was given, else the default goal.

        Args:
            words: the keywords.
            judged: whether there are inputs that an error can be judged by. Then the default is to be as fast as
                possible within ``DEFAULT_ERROR``, else half of the MACs; so it is too where times are not known.
            max_drop: how far the metric may fall; without another budget it is the one.

        Raises:
            UsageError: there are two, or one is out of range.
        """
        names = list(BudgetWords.__annotations__)
        given = [Budget(name, float(words[name])) for name in names if words.get(name) is not None]  # type: ignore[literal-required]
        if len(given) > 1:
            names = [budget.name.replace("_", "-") for budget in given]
            raise UsageError(f"{' and '.join(names)} contradict each other; give one of these budgets.")
        if given:
            return given[0]
        if max_drop is not None:
            return Budget("max_drop", max_drop)
        return Budget("max_error", DEFAULT_ERROR, by_default=True) if judged else Budget(by_default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the model and its data are read.

    Args:
        input_shapes: sizes of dynamic inputs, by input name. Those that are not given come from the data; a dynamic
            first dimension otherwise counts as 1.
        input_types: types of inputs, as ``int64``, by input name; a PyTorch model's others are found by trying.
        weights: a state_dict (``.pt`` or ``.safetensors``) for the module of ``pkg.module:factory``.
        weights_key: which of several state_dicts in that file, by its key or by what the names in it begin with.
        preprocess: how integer arrays and images become inputs.
        labels: names of the classes: a file with one per line, or a JSON list or object.

    Raises:
        UsageError: sizes or types that are not given by input name.

    Example:
        >>> from sepconvert import Preprocess, Reading
        >>> reading = Reading(input_shapes={"image": (1, 3, 224, 224)}, preprocess=Preprocess(scale=1 / 255))
        >>> reading.preprocess.given
        True
    """

    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    input_types: Mapping[str, str] = field(default_factory=dict)
    weights: Path | str | None = None
    weights_key: str | None = None
    preprocess: Preprocess = Preprocess()
    labels: Path | str | None = None

    def __post_init__(self) -> None:
        if not _by_name(self.input_shapes) or not all(map(_is_shape, self.input_shapes.values())):
            raise UsageError(
                "--input takes sizes by input name in Python, such as {'image': (1, 3, 224, 224)}, not "
                f"{self.input_shapes!r}."
            )
        if not _by_name(self.input_types):
            raise UsageError(
                f"--input takes types by input name in Python, such as {{'tokens': 'int64'}}, not {self.input_types!r}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What to time and how.

    Args:
        latency: whether latency is measured.
        devices: names as ``cpu``, ``cuda`` or ``torch:cuda`` (there PyTorch runs the models); the first one is planned
            for, all are measured.
        threads: threads of a model that is timed.
        metric: what else to measure: ``top1``, ``mean-iou``, ``psnr``, ``ssim``, ``detection-ap``, ``ctc-text``,
            ``pkg.module:callable``, or a function of the original's outputs, the judged network's (mappings from names
            to arrays (N, …)) and the labels or None. It returns a number; larger is better.

    Raises:
        UsageError: no device, a text in place of a list, or no whole number of threads.

    Example:
        >>> from sepconvert import Measure
        >>> Measure(devices=("cpu",), threads=4).latency
        True
    """

    latency: bool = True
    devices: Sequence[str] = ("cpu",)
    threads: int = 1
    metric: MetricSpec | None = None

    def __post_init__(self) -> None:
        several("--device", self.devices)
        if not self.devices:
            raise UsageError("--device names no device; leave it away for cpu.")
        whole("--threads", self.threads)

    def check(self) -> None:
        """Refuse, before any work is done, a device or a metric that could not be measured at the end.

        Raises:
            DeviceError: its name is unknown, or the installed onnxruntime or PyTorch does not have it.
            UsageError: no metric has that name.
            DataError: the metric cannot be imported.
        """
        find_metric(self.metric)
        if self.latency or tuple(self.devices) != ("cpu",):
            from sepconvert.workflows.engines import find_engine

            for device in self.devices:
                find_engine(device, self.threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Which sites are rewritten, how their factors are made and written, and where times for a plan come from.

    Args:
        include: globs of names or outputs; sites that match none of them are kept.
        exclude: globs; sites that match are kept.
        lowering: ``stacked`` (one grouped Conv), ``branches`` (a pair per rank), ``concat`` (a depthwise Conv per
            rank), or ``auto``: whichever is timed to be the fastest.
        init: ``low-rank`` approximates the weights; ``random`` draws new ones, for training.
        latency_table: times of sites from elsewhere, as ``sweep`` exports them.
        cache: whether times and profiles of sites are kept between runs.
        jobs: processes that profile sites at the same time; None for one per core, at most 4.
        cluster: address of a dask scheduler, as ``tcp://192.168.0.1:8786``, whose workers profile the sites.
        fold: also fold sums ``P z + z`` into the pointwise convolution P, exactly; done even where nothing else is.
        allow_loss: also write a network that is beyond use (a relative error of 0.9 or more).
        max_drop: how far the metric (``Measure.metric``) may fall below the original's. Nothing is written beyond it;
            where no budget is given, the result is as fast as it allows.
        int8: also compute in INT8, wherever that serves what was asked best.
        quick: a first answer in a fraction of the time: fewer inputs, steps and timings; it loses more.
        allow_growth: also admit ranks at or above break-even: to check that full rank is exact, never for use.

    Raises:
        UsageError: an unknown name, a text in place of a list, or no whole number of jobs.

    Example:
        >>> from sepconvert import Planning
        >>> Planning(exclude=["first*"], lowering="stacked").init
        'low-rank'
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    lowering: str = "auto"
    init: str = "low-rank"
    latency_table: Path | str | None = None
    cache: bool = True
    jobs: int | None = None
    cluster: str | None = None
    fold: bool = False
    allow_loss: bool = False
    max_drop: float | None = None
    int8: bool = False
    quick: bool = False
    allow_growth: bool = False

    def __post_init__(self) -> None:
        several("--include", self.include)
        several("--exclude", self.exclude)
        if self.jobs is not None:
            whole("--jobs", self.jobs)
        one_of("--lowering", self.lowering, LOWERINGS)
        one_of("--init", self.init, INITS)
        if self.max_drop is not None:
            Budget("max_drop", self.max_drop)


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTune:
    """How to fine-tune; None leaves a number to the defaults.

    Args:
        train_data: inputs to train on, spelled as ``data``, which they default to.
        steps: steps of the optimiser.
        epochs: passes over the training inputs; not both this and ``steps``.
        lr: peak learning rate; None for 0.002, or less where the start is good and steps are few.
        resume: go on with an interrupted training.
        num_devices: processes on each machine, with a GPU each where the device is one.
        num_nodes: machines that train together.
        train_weights: ``new`` (new factors, biases, scales of normalisations) or ``all`` (every convolution and fully
            connected layer too).
        augment: kinds of variants of images, ``shift`` and ``flip``, that are trained on too.
        hard_labels: whether the original's own answers count as labels.

    Raises:
        UsageError: a number out of range, an unknown name, or both steps and epochs.

    Example:
        >>> from sepconvert import FineTune
        >>> FineTune(steps=200, augment=("shift",)).processes
        1
    """

    train_data: Data | None = None
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
        one_of("--train-weights", self.train_weights, TRAINED)
        several("--augment", self.augment)
        for kind in self.augment:
            one_of("--augment", kind, KINDS)
        if self.steps is not None and self.epochs is not None:
            raise UsageError("--steps and --epochs contradict each other; give one of them.")
        for name in ("steps", "epochs", "num_devices", "num_nodes"):
            value = getattr(self, name)
            if value is not None:
                whole(f"--{name.replace('_', '-')}", value)
        if self.lr is not None and not 0 < self.lr < 1:
            raise UsageError(f"--lr {self.lr:g} is not a learning rate between 0 and 1.")

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.num_devices * self.num_nodes


def _by_name(given: object) -> bool:
    return isinstance(given, Mapping) and all(isinstance(name, str) for name in given)


def _is_shape(given: object) -> bool:
    try:
        return not isinstance(given, str) and all(index(size) is not None for size in given)  # type: ignore[attr-defined]
    except TypeError:
        return False


def several(option: str, names: Sequence[str]) -> None:
    """Raise ``UsageError`` for a text in place of a list of texts: its letters would be taken one by one."""
    if isinstance(names, str):
        raise UsageError(f"{option} takes a list in Python, such as ['{names}'], not the text '{names}'.")


def whole(option: str, value: int, least: int = 1) -> None:
    """Raise ``UsageError`` unless ``value`` is a whole number from ``least`` that every library takes."""
    try:
        fits = least <= index(value) < _MOST
    except TypeError:
        fits = False
    if not fits:
        raise UsageError(f"{option} {value} is not a whole number from {least}.")


def one_of(option: str, value: str, names: Sequence[str]) -> None:
    """Raise ``UsageError`` with the names to choose from if ``value`` is none of them."""
    if value not in names:
        raise UsageError(f"{option} {value} is not known; choose one of {', '.join(names)}.")
