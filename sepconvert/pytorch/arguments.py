"""What a module's ``forward`` takes, and random tensors that it runs on."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from sepconvert.errors import ModelError, one_line
from sepconvert.pytorch.failures import quietly

Tensors = Mapping[str, torch.Tensor]

_GUESSED = 4  # inputs whose types are guessed one by one; of more than that all are floats or all are integers
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Names of ``forward``'s arguments, and those without a default.

    ``rest`` is the name of ``*args``; ``by_name`` whether every argument can be given by its name, ``open`` whether any
    name will do (``*args`` or ``**kwargs``).
    """

    names: tuple[str, ...]
    needed: tuple[str, ...]
    rest: str | None = None
    by_name: bool = True
    open: bool = False

    def call(self, tensors: Tensors) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Positional and keyword arguments for tensors by name."""
        if self.by_name:
            return (), dict(tensors)
        return tuple(tensors[name] for name in self.order(tensors)), {}

    def order(self, given: Iterable[str]) -> list[str]:
        """The names in the order of the arguments; those that ``*args`` takes come last."""
        names = list(given)
        return [n for n in self.names if n in names] + [n for n in names if n not in self.names]

    def nested(self, shapes: Mapping[str, Any]) -> dict[str, Any]:
        """What is said of each input, in the shape of the arguments: ``*args`` are one entry."""
        if self.rest is None:
            return dict(shapes)
        rest = tuple(shape for name, shape in shapes.items() if name not in self.names)
        return {n: shapes[n] for n in self.names if n in shapes} | ({self.rest: rest} if rest else {})


def arguments_of(module: nn.Module) -> Arguments:
    """Look up what ``forward`` takes."""
    if isinstance(module, torch.jit.ScriptModule):
        method: Any = module.forward
        schema = method.schema.arguments[1:]
        return Arguments(
            tuple(a.name for a in schema), tuple(a.name for a in schema if not a.has_default_value()), by_name=False
        )
    found = list(inspect.signature(module.forward).parameters.values())
    named = [p for p in found if p.kind in (*_BY_NAME, inspect.Parameter.POSITIONAL_ONLY)]
    rest = next((p.name for p in found if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
    return Arguments(
        tuple(p.name for p in named),
        tuple(p.name for p in named if p.default is inspect.Parameter.empty),
        rest,
        rest is None and all(p.kind in _BY_NAME for p in named),
        rest is not None or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found),
    )


def run(module: nn.Module, tensors: Tensors, name: str) -> None:
    """Run a module once, for what it does to itself (lazy layers take their shapes) or to see whether it runs.

    Raises:
        ModelError: it does not.
    """
    positional, named = arguments_of(module).call(tensors)
    try:
        with quietly(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            module(*positional, **named)
    except Exception as error:  # whatever the user's own forward raises
        sizes = ", ".join(f"{given}:{'x'.join(map(str, tensor.shape))}" for given, tensor in tensors.items())
        raise ModelError(
            f"{name} does not run on inputs of the sizes {sizes} ({one_line(error)}); check the sizes, or name the "
            "type of an input, as in --input tokens:1x40:int64."
        ) from None


def drawn(
    module: nn.Module, name: str, sizes: Mapping[str, Sequence[int]], types: Mapping[str, str], *, live: bool = False
) -> dict[str, torch.Tensor]:
    """Draw inputs of the given sizes: normal floats, or integers 0 and 1 where floats do not run.

    Args:
        module: what they are for, in eval mode; it is run.
        name: what the user calls it.
        sizes: by input name.
        types: numpy's names of types, by input name; the types of other inputs are found by trying.
        live: whether the user holds the module in Python, and can give examples.

    Raises:
        ModelError: a size is missing, an input is unknown, or the module does not run on such inputs.
    """
    takes = arguments_of(module)
    unknown = [] if takes.open else [given for given in sizes if given not in takes.names]
    missing = [needed for needed in takes.needed if needed not in sizes]
    if unknown:
        known = ", ".join(takes.names) or "no inputs"
        raise ModelError(f"{name} has no input '{unknown[0]}'; it takes {known}.")
    if missing or not sizes:
        wanted = missing or ["x"]
        what = f"the size of {', '.join(missing)}" if missing else "its inputs"
        asked = _asked(wanted) if live else " ".join(f"--input {given}:1x3x224x224" for given in wanted)
        raise ModelError(f"{name} says nothing of {what}; pass it, for example {asked}.")
    floats = (p.dtype for p in module.parameters() if p.is_floating_point() and p.dtype.itemsize > 1)
    free = next(floats, torch.float32)
    failures = []
    for kinds in _guesses([given for given in takes.order(sizes) if given not in types], free):
        tensors = {
            given: _tensor(sizes[given], kinds.get(given) or getattr(torch, types[given]))
            for given in takes.order(sizes)
        }
        try:
            run(module, tensors, name)
        except ModelError as error:
            failures.append(error)
        else:
            return tensors
    raise failures[0]


def _asked(wanted: Sequence[str]) -> str:
    tensor = "torch.zeros(1, 3, 224, 224)"
    several = ", ".join(f'"{name}": {tensor}' for name in wanted)
    return f"example_inputs={tensor if len(wanted) == 1 else f'{{{several}}}'}"


def _guesses(names: Sequence[str], free: torch.dtype) -> list[dict[str, torch.dtype]]:
    """Types to try: all floats first, then as few integers as possible."""
    if len(names) > _GUESSED:
        return [dict.fromkeys(names, free), dict.fromkeys(names, torch.int64)]
    found = product((free, torch.int64), repeat=len(names))
    return [dict(zip(names, kinds, strict=True)) for kinds in sorted(found, key=lambda k: k.count(torch.int64))]


def _tensor(size: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.randn(tuple(size), generator=generator).to(dtype)
    return torch.randint(0, 2, tuple(size), generator=generator).to(dtype)


def named_examples(module: nn.Module, examples: Any) -> dict[str, torch.Tensor]:
    """Give the examples the names of ``forward``'s arguments.

    Args:
        module: whose.
        examples: a tensor, tensors in the order of the arguments or by their names; None for none.

    Raises:
        ModelError: they are not tensors that ``forward`` takes.
    """
    if examples is None:
        return {}
    takes = arguments_of(module)
    if isinstance(examples, Mapping):
        given = dict(examples)
    else:
        values = [examples] if isinstance(examples, torch.Tensor) else list(examples)
        more = [f"input_{i}" if i else "input" for i in range(len(values) - len(takes.names))] if takes.open else []
        names = [*takes.names, *more]
        given = dict(zip(names, values, strict=False)) if len(values) <= len(names) else {"…": None}
    strange = set() if takes.open else set(given) - set(takes.names)
    if not given or not all(isinstance(value, torch.Tensor) for value in given.values()) or strange:
        raise ModelError(
            f"example_inputs do not fit {type(module).__name__}: give a tensor, a tuple or a dict of tensors for "
            f"{', '.join(takes.names) or 'its inputs'}."
        )
    return {name: given[name] for name in takes.order(given)}
