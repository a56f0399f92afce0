"""An ONNX graph as a torch module.

Every operator is a torch function of the table in ``operators``; every constant of the graph, an initializer or the
result of a ``Constant`` node, is one tensor of the module however often it is used, so tied weights stay tied.
Constants that the caller names are Parameters, all other floating-point ones are buffers; integers, and numbers that
only say a size or a position, stay on the host, where shapes are computed whatever device the module is on.
"""

from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence

from torch import Tensor, nn

from sepconvert.errors import ModelError, one_line
from sepconvert.graph.integers import UNROUNDED, Rounding
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.plain import PlainGraph, plain_graph, with_constants
from sepconvert.pytorch.binding import Step, bind, read_as_values
from sepconvert.pytorch.operators.dtypes import to_array, to_tensor, widened
from sepconvert.pytorch.rounding import round_value, rounded_constants
from sepconvert.pytorch.schedule import Schedule, schedule

Value = Tensor | list[Tensor]
"""A tensor, or a sequence of tensors."""

Values = MutableMapping[str, Value]


class TrainableGraph(nn.Module):
    """An ONNX model that torch can train; made by ``from_model``.

    Nothing is dropped by Dropout, and BatchNormalization uses its stored statistics, in training mode too. Keys of the
    ``state_dict`` are the names of the graph's constants with ``%`` and ``.`` written as ``%25`` and ``%2E``, because
    torch allows no dots in them, after ``weights.=``.
    """

    def __init__(
        self,
        model: LoadedModel,
        graph: PlainGraph,
        steps: Sequence[Step],
        weights: "Weights",
        wide: bool,
        rounding: Rounding,
    ):
        super().__init__()
        self.rounding = rounding
        self.weights = weights
        self.inputs = graph.inputs
        self.outputs = graph.outputs
        self._model = model
        self._graph = graph
        self.steps = tuple(steps)
        self._wide = wide
        used = {name for step in steps for name in step.reads} | set(graph.outputs)
        kept = {name: to_tensor(a, name) for name, a in graph.constants.items() if name in used - weights.names.keys()}
        self._host = {name: tensor.to(widened(tensor.dtype, wide)) for name, tensor in kept.items()}
        self._schedules: dict[tuple[tuple[str, ...], frozenset[str]], Schedule] = {}

    @classmethod
    def from_model(
        cls,
        model: LoadedModel,
        trainable: Collection[str] | None = None,
        *,
        wide: bool = False,
        rounding: Rounding = UNROUNDED,
    ) -> "TrainableGraph":
        """Turn a model into a module in evaluation mode.

        Args:
            model: stays as it is.
            trainable: names of initializers, or of ``Constant`` nodes' outputs, that become Parameters; None for all
                floating-point ones that the graph computes with, but running statistics of BatchNormalization.
            wide: compute in float32 what the graph has in float16 or bfloat16, from float32 copies of the weights
                (``write_back`` rounds them); results are float32 too.
            rounding: what is rounded as in integers wherever the graph computes with it.

        Raises:
            ModelError: the graph has operators, attributes or types that are not supported (all are named), or
                ``trainable`` names something that cannot be trained.
        """
        graph = plain_graph(model)
        steps = bind(graph, wide=wide)
        weights = _floating_constants(graph, steps)
        normalisations = [step.node for step in steps if step.node.op_type == "BatchNormalization"]
        statistics = {name for node in normalisations for name in node.inputs[3:5]}
        chosen = weights.keys() - statistics if trainable is None else set(trainable)
        wrong = sorted(chosen - (weights.keys() - statistics))
        if wrong:
            raise ModelError(
                f"Not trainable: {', '.join(repr(name) for name in wrong)}; name floating-point initializers or "
                "Constants that the graph computes with, and no running statistics of BatchNormalization."
            )
        module = cls(model, graph, steps, Weights(weights, chosen, wide), wide, rounding)
        module.eval()
        return module

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Return the trainable tensors by the names of the graph's constants."""
        found = self.weights.by_name()
        return {name: tensor for name, tensor in found.items() if isinstance(tensor, nn.Parameter)}

    def forward(self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute values of the graph.

        Args:
            inputs: tensors by name: the graph's inputs, or inner values, which are then not computed.
            outputs: names of any values of the graph, those before a final activation too; None for the graph's
                outputs. Only what they need is computed.

        Returns:
            The values by name.

        Raises:
            ModelError: a name is unknown, a needed input is missing, or torch could not compute a node (it is named).
        """
        wanted = self.outputs if outputs is None else tuple(outputs)
        constants = {**self._host, **self.weights.by_name()}
        key = (wanted, frozenset(inputs))
        if key not in self._schedules:
            self._schedules[key] = schedule(self.steps, wanted, inputs.keys(), constants.keys())
        given = {name: tensor.to(widened(tensor.dtype, self._wide)) for name, tensor in inputs.items()}
        values: Values = {name: self._rounded(name, value) for name, value in {**constants, **given}.items()}
        values.update(rounded_constants(constants, self.rounding))
        for step, done in self._schedules[key]:
            self._compute(step, values)
            for name in done:
                del values[name]
        return {name: _tensor(values, name) for name in wanted}

    def _compute(self, step: Step, values: Values) -> None:
        try:
            results = self._call(step, values)
        except ModelError as error:
            raise ModelError(f"{step.node.label} could not run: {error}.") from None
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            raise ModelError(f"{step.node.label} could not run in PyTorch: {one_line(error, 400)}.") from error
        named = zip(step.node.outputs, results, strict=False)
        values.update((name, self._rounded(name, result)) for name, result in named if name)

    def _rounded(self, name: str, value: Value) -> Value:
        steps = self.rounding.values.get(name)
        return value if steps is None or not isinstance(value, Tensor) else round_value(value, steps)

    def _call(self, step: Step, values: Values) -> Sequence[Value]:
        if step.bodies is not None:
            return self._branch(step, values)
        assert step.function is not None
        arguments = _on_one_device([_find(values, name) for name in step.node.inputs], step.numbers)
        result = step.function(*arguments)
        return result if isinstance(result, tuple) else (result,)

    def _branch(self, step: Step, values: Values) -> Sequence[Value]:
        assert step.bodies is not None
        body = step.bodies[0 if bool(_tensor(values, step.node.inputs[0]).item()) else 1]
        inner = {**values, **body.constants}
        for child in body.steps:
            self._compute(child, inner)
        return [inner[name] for name in body.outputs]

    def write_back(self) -> LoadedModel:
        """Return the model with the module's current numbers; where nothing changed, bit by bit the old ones."""
        changed = {}
        for name, tensor in self.weights.by_name().items():
            old = self._graph.constants[name]
            new = to_array(tensor.to(to_tensor(old.ravel()[:1], name).dtype))
            if new.tobytes() != old.tobytes():
                changed[name] = new
        return with_constants(self._model, changed)


class Weights(nn.Module):
    """The floating-point constants of a graph under names that torch allows."""

    def __init__(self, tensors: Mapping[str, Tensor], trainable: Collection[str], wide: bool):
        super().__init__()
        self.names = {name: "=" + name.replace("%", "%25").replace(".", "%2E") for name in tensors}
        for name, tensor in tensors.items():
            held = tensor.to(widened(tensor.dtype, wide))
            if name in trainable:
                self.register_parameter(self.names[name], nn.Parameter(held))
            else:
                self.register_buffer(self.names[name], held)

    def by_name(self) -> dict[str, Tensor]:
        """Return the tensors as they are now by the names of the graph's constants."""
        held: dict[str, Tensor | None] = {**self._parameters, **self._buffers}
        return {name: tensor for name, key in self.names.items() if (tensor := held[key]) is not None}


def _floating_constants(graph: PlainGraph, steps: Iterable[Step]) -> dict[str, Tensor]:
    """The constants that the graph computes with, or that are its results."""
    used = {*read_as_values(steps), *graph.outputs}
    tensors = {name: to_tensor(array, name) for name, array in graph.constants.items() if name in used}
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


def _find(values: Values, name: str) -> Value | None:
    if name and name not in values:
        raise ModelError(f"its input '{name}' is an output that the trainable graph does not compute")
    return values[name] if name else None


def _tensor(values: Values, name: str) -> Tensor:
    value = values.get(name)
    if isinstance(value, Tensor):
        return value
    raise ModelError(f"'{name}' is {'not computed' if value is None else 'a sequence'} in the trainable graph.")


def _on_one_device(arguments: list[Value | None], numbers: frozenset[int]) -> list[Value | None]:
    """Bring what is still on the host to the device of the others; shapes and the like stay where they are."""
    tensors = [a for index, a in enumerate(arguments) if isinstance(a, Tensor) and index not in numbers]
    device = next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), None)
    if device is None:
        return arguments
    return [a.to(device) if isinstance(a, Tensor) and index not in numbers else a for index, a in enumerate(arguments)]
