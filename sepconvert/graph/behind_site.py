"""What runs behind a site: the network from there on, to be fed what the site gets wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.lower import Namer, fresh_names, names_in
from sepconvert.graph.parts import ValueType, extract
from sepconvert.graph.rewrite import take_over
from sepconvert.graph.save import runnable
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import values_by_name
from sepconvert.number_types import numpy_dtype


@dataclass(frozen=True, slots=True)
class Rest:
    """The network behind a site.

    Attributes:
        model: from the live values to the observed ones, as bytes; None where the site's output is the only observed
            value.
        fed: names of the live values that it reads, the site's output among them.
        errors: of further layers that use the site's weight, by their outputs: the names of inputs that are added to
            these outputs.
    """

    model: bytes | None
    fed: tuple[str, ...]
    errors: Mapping[str, str]


def cut_behind(model: LoadedModel, site: ConvSite, live: Mapping[str, ValueType], observed: Sequence[str]) -> Rest:
    """Extract the model from the values that are live before a site, and its output, to the observed values.

    Args:
        model: the whole.
        site: where to cut.
        live: types of the values before the site.
        observed: names of values that depend on the site's output, or on that of another layer of its weight.
    """
    cut = {**live, site.output: _made_type(site)}
    wanted = [name for name in observed if name not in cut]
    if not wanted:
        return Rest(None, (site.output,), {})
    part = extract(model, cut, wanted)
    fed = {str(value.name) for value in part.ir.graph.inputs}
    errors = _take_errors(part.ir.graph, site.others, fresh_names(names_in(part.ir)))
    return Rest(runnable(part), tuple(sorted({*fed, site.output})), errors)


def _made_type(site: ConvSite) -> ValueType:
    return ValueType(numpy_dtype(site.dtype), (None,) * site.dimensions)


def _take_errors(graph: ir.Graph, sites: Sequence[ConvSite], unique: Namer) -> dict[str, str]:
    """Add an input to each of the sites' outputs, as far as they are computed there; return its name by the output."""
    values, errors = values_by_name(graph), {}
    for site in sites:
        exact = values.get(site.output)
        node = None if exact is None else exact.producer()
        if exact is None or node is None:
            continue
        made = _made_type(site)
        error = ir.Value(
            name=unique(f"{site.output}/error"),
            type=ir.TensorType(ir.DataType.from_numpy(made.dtype)),
            shape=ir.Shape(made.shape),
        )
        graph.inputs.append(error)
        add = ir.node("Add", [exact, error])
        take_over(exact, add.outputs[0])
        add.replace_input_with(0, exact)
        exact.name = unique(f"{site.output}/exact")
        graph.insert_after(node, add)
        errors[site.output] = str(error.name)
    return errors
