"""What the trainable graph must know of an operator before it runs a node.

An operator is a function whose signature is its specification: positional parameters are the ONNX inputs in order (one
that may be left out has the default None; ``*rest`` takes any number), keyword parameters are the ONNX attributes with
their defaults. Three keywords are no attributes but what the function asks of its surroundings:

* ``opset``: the version of the operator set, where behaviour differs between versions;
* ``results``: how many outputs the node names, where more work is done for more of them;
* ``wide``: True if half-precision graphs are computed in float32 (see ``TrainableGraph``).

A node with an attribute that is in neither the signature nor ``choices`` nor ``fixed`` is refused.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Results = Tensor | list[Tensor] | tuple[Tensor, ...]
Function = Callable[..., Results]

SURROUNDINGS = frozenset({"opset", "results", "wide"})


@dataclass(frozen=True, slots=True)
class Operator:
    """A torch function that computes an ONNX operator.

    ``choices`` are the attribute values that are supported, where not all are. ``fixed`` are attributes that say
    nothing new (a kernel's shape is the weight's) and so are not passed on. ``numbers`` are positions of inputs read as
    plain numbers (shapes, axes), through which no gradient flows.
    """

    function: Function
    attributes: frozenset[str]
    wanted: frozenset[str]
    choices: Mapping[str, Collection[Any]]
    fixed: frozenset[str]
    numbers: frozenset[int]
    least: int
    most: int | None


def operator(
    function: Function, *, numbers: Collection[int] = (), fixed: Collection[str] = (), **choices: Collection[Any]
) -> Operator:
    """Read an operator's specification from its function."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return Operator(
        function=function,
        attributes=frozenset(keywords - SURROUNDINGS),
        wanted=frozenset(keywords & SURROUNDINGS),
        choices=choices,
        fixed=frozenset(fixed),
        numbers=frozenset(numbers),
        least=sum(p.default is p.empty for p in positional),
        most=None if variadic else len(positional),
    )
