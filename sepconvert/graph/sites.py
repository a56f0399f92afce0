"""What the survey of a graph finds: convolutions that can be rewritten."""

from dataclasses import dataclass

from sepconvert.separable.geometry import ConvGeometry


@dataclass(frozen=True, slots=True)
class ConvSite:
    """A Conv that could be rewritten, identified by the name of its output value.

    ``name`` is the node's name, or the output's where the node has none: for people only, it may repeat. ``dtype`` is
    the numpy spelling of the weight's type (``float32``, ``float16``, ``bfloat16``, ``float64``). ``bias`` names the
    bias value or is None; ``bias_is_fixed`` tells that nothing computes it at run time and no caller may feed it, so
    that another one may take its place. ``keep_reason`` is a sentence when the site is kept by default (one input or
    one output channel), else None.
    """

    output: str
    name: str
    input: str
    weight: str
    bias: str | None
    dtype: str
    geometry: ConvGeometry
    keep_reason: str | None = None
    bias_is_fixed: bool = True
