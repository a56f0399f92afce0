"""Sizes of a PyTorch model's inputs from the data, where nobody says them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sepconvert.data import Data
from sepconvert.data.dataset import Feeds
from sepconvert.data.load import Produced
from sepconvert.workflows.options import Reading
from sepconvert.workflows.sources import ModelSource


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes and types by input name to export with, and what to load for each of the data that were named."""

    shapes: Mapping[str, Sequence[int]]
    types: Mapping[str, str]
    data: Sequence[Data | Produced | None]


def find_sizes(source: ModelSource, reading: Reading, named: Sequence[Data | None]) -> Sizes:
    """Take the sizes that ``reading`` lacks from the first data there are; ONNX models need none.

    Raises:
        DataError: the data cannot be read.
    """
    shapes, types = reading.input_shapes, reading.input_types
    spec = next((data for data in named if data is not None), None)
    takes = None if source.torch is None else source.torch.unsized(shapes)
    if takes is None or spec is None:
        return Sizes(shapes, types, named)
    from sepconvert.data.peek import peek

    found = peek(spec, *takes)
    return Sizes(
        {**_sample_shapes(found.first), **shapes},
        {**_types(found.first, reading), **types},
        [found.data if data is spec else data for data in named],
    )


def _types(first: Feeds, reading: Reading) -> dict[str, str]:
    """Types of integers among several inputs: several could run as floats too. Small ones are pixels, as are scaled."""
    if len(first) == 1 or reading.preprocess.given:
        return {}
    counted = ("int32", "int64", "bool")
    return {name: array.dtype.name for name, array in first.items() if array.dtype.name in counted}


def _sample_shapes(first: Feeds) -> dict[str, tuple[int, ...]]:
    """Shapes of one sample (1, …); what has fewer rows than another holds no samples and keeps its own."""
    rows = max((len(array) for array in first.values() if array.ndim), default=0)
    return {
        name: (1, *array.shape[1:]) if array.ndim and len(array) == rows else array.shape
        for name, array in first.items()
    }
