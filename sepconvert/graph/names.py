"""Names that collide with nothing."""

from collections.abc import Callable, Iterable, Iterator

import onnx_ir as ir

Namer = Callable[[str], str]


def fresh_names(taken: Iterable[str]) -> Namer:
    """Return a function that makes, from a hint, a name that is not taken and that it never made before."""
    known = set(taken)

    def unique(hint: str) -> str:
        name, count = hint, 1
        while name in known:
            count += 1
            name = f"{hint}_{count}"
        known.add(name)
        return name

    return unique


def names_in(model: ir.Model) -> Iterator[str]:
    """Yield the names of all values and nodes in the graph, its subgraphs and the functions."""
    bodies = [function.graph for function in model.functions.values()]
    for graph in (*model.graphs(), *bodies, *(inner for body in bodies for inner in body.subgraphs())):
        for value in (*graph.inputs, *graph.initializers.values()):
            yield value.name or ""
        for node in graph:
            yield node.name or ""
            for output in node.outputs:
                yield output.name or ""
