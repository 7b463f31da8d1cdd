"""Construction of an ONNX graph from standard operators."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 18
"""Version of the standard operators."""


class Tensor:
    """A tensor in a graph. Operators and calls add a node with it as the first input."""

    def __init__(self, graph: "Graph", name: str) -> None:
        self.graph, self.name = graph, name

    def __call__(self, op: str, *others: Any, **attributes: Any) -> "Tensor":
        """Add a node, and return its output."""
        return self.graph(op, self, *others, **attributes)

    def __add__(self, other: Any) -> "Tensor":
        return self("Add", other)

    def __sub__(self, other: Any) -> "Tensor":
        return self("Sub", other)

    def __mul__(self, other: Any) -> "Tensor":
        return self("Mul", other)

    def __truediv__(self, other: Any) -> "Tensor":
        return self("Div", other)

    def __matmul__(self, other: Any) -> "Tensor":
        return self("MatMul", other)

    def __neg__(self) -> "Tensor":
        return self("Neg")

    def reshape(self, *shape: int) -> "Tensor":
        """Give it another shape, in which 0 keeps an axis."""
        return self("Reshape", shape)

    def transpose(self, *axes: int) -> "Tensor":
        """Reorder its axes."""
        return self("Transpose", perm=axes)

    def split(self, sizes: int | Sequence[int], axis: int = -1) -> list["Tensor"]:
        """Split it into parts of these sizes, or into this many equal parts."""
        if isinstance(sizes, int):
            return self.graph.several("Split", sizes, self, axis=axis, num_outputs=sizes)
        return self.graph.several("Split", len(sizes), self, sizes, axis=axis)


Body = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]]
"""Function of states and slices that adds one step of a scan, and returns states and outputs."""


class Graph:
    """A graph under construction. A call adds a node.

    Parameters
    ----------
    dtype : np.dtype
        Dtype of the computation, float32 or float64.
    step : bool
        Whether the graph takes exactly one step.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("onnx")
    >>> g = Graph(np.dtype(np.float32), step=True)
    >>> x = Tensor(g, "x")
    >>> (x + np.ones(3)).name, [part.name for part in x.split(2)]
    ('Add.1', ['Split.2', 'Split.3'])
    """

    def __init__(self, dtype: np.dtype[Any], *, step: bool) -> None:
        self.dtype, self.step = dtype, step
        self.float = helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes: list[NodeProto] = []
        # by the id of an array, which is kept so that no other array gets the same id
        self.parameters: dict[int, tuple[Tensor, Any]] = {}
        self.constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> Tensor:
        """Add a node, and return its output.

        An input is a tensor, a parameter, another array or number, which becomes a constant, or
        None if it is absent.
        """
        return self.several(op, 1, *inputs, **attributes)[0]

    def several(self, op: str, outputs: int, *inputs: Any, **attributes: Any) -> list[Tensor]:
        """Add a node, and return its outputs."""
        results = [self.new(op) for _ in range(outputs)]
        names_in, names_out = ([self.tensor(x).name for x in xs] for xs in (inputs, results))
        self.nodes.append(helper.make_node(op, names_in, names_out, **attributes))
        return results

    def new(self, kind: str) -> Tensor:
        """Return a tensor with an unused name."""
        self._count += 1
        return Tensor(self, f"{kind}.{self._count}")

    def parameter(self, array: Any, tensor: Tensor) -> None:
        """Register the tensor of an array."""
        self.parameters[id(array)] = tensor, array

    def tensor(self, value: Any) -> Tensor:
        """Return the tensor of a parameter or of a constant, which is stored once."""
        if value is None or isinstance(value, Tensor):
            return value or Tensor(self, "")
        if id(value) in self.parameters:
            return self.parameters[id(value)][0]
        array = np.asarray(value)
        array = array.astype(self.dtype) if array.dtype.kind in "fV" else array
        key = array.dtype.str, array.shape, array.tobytes()
        return Tensor(self, self.constants.setdefault(key, f"constant.{len(self.constants)}"))

    def initializers(self) -> list[TensorProto]:
        """Return the constants."""
        return [
            numpy_helper.from_array(np.frombuffer(raw, dtype).reshape(shape), name)
            for (dtype, shape, raw), name in self.constants.items()
        ]

    def info(self, name: str, shape: Sequence[Any] | None = None) -> ValueInfoProto:
        """Describe a tensor of the dtype of the computation."""
        return helper.make_tensor_value_info(name, self.float, shape)

    def scan(
        self, body: Body, states: Sequence[Tensor], sequences: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Apply a body to the slices of sequences along the third of their five axes.

        Return the states after the last step, and the stacked outputs.
        """
        S, outer, self.nodes = len(states), self.nodes, []  # nodes of the body
        slices = [self.new("slice") for _ in (*states, *sequences)]  # of one step
        after, ys = body(slices[:S], slices[S:])
        # each output needs a name of its own; y may be a state, such as h
        outputs = [x("Identity") for x in (*after, *ys)]
        inputs, results = ([self.info(x.name) for x in xs] for xs in (slices, outputs))
        graph = helper.make_graph(self.nodes, self.new("body").name, inputs, results)
        self.nodes = outer
        arguments = [*states, *(x.transpose(2, 0, 1, 3, 4) for x in sequences)]
        options = {"body": graph, "num_scan_inputs": len(sequences)}
        outputs = self.several("Scan", len(outputs), *arguments, **options)
        return outputs[:S], [y.transpose(1, 2, 0, 3, 4) for y in outputs[S:]]
