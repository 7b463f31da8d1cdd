"""Construction of an ONNX graph from standard operators."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

CONSTANT = "constant."
"""Prefix of initialisers that are not parameters."""

OPSET = 18
"""Version of the standard operators."""

Name = str
"""Name of a tensor in the graph."""

Body = Callable[..., tuple[Sequence[Name], Sequence[Name]]]
"""Function of a graph, states and slices that adds one step of a scan to the graph."""


class Graph:
    """A graph under construction. A call adds a node.

    Parameters
    ----------
    dtype : np.dtype
        Dtype of the computation, float32 or float64.
    step : bool
        Whether the graph takes exactly one step.
    root : Graph, optional
        Graph of which this one is a part.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("onnx")
    >>> g = Graph(np.dtype(np.float32), step=True)
    >>> g("Add", "x", np.ones(3)), g.split("x", 2)
    ('Add.1', ['Split.2', 'Split.3'])
    """

    def __init__(self, dtype: np.dtype[Any], *, step: bool, root: "Graph | None" = None) -> None:
        self.dtype, self.step, self.root = dtype, step, root or self
        self.float = helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes: list[NodeProto] = []
        # by the id of an array, which is kept so that no other array gets the same id
        self.names: dict[int, tuple[Name, Any]] = {}
        self.constants: dict[tuple[str, tuple[int, ...], bytes], Name] = {}
        self.fixed: dict[str, list[Name]] = {}  # names of what depends on parameters alone
        self.count, self.length = 0, ""  # name of the number of steps T, shape (1,)

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> Name:
        """Add a node, and return the name of its output.

        An input is a name, a parameter, or another array or number, which becomes a constant.
        """
        return self.several(op, 1, *inputs, **attributes)[0]

    def several(self, op: str, outputs: int, *inputs: Any, **attributes: Any) -> list[Name]:
        """Add a node with several outputs, and return their names.

        A node that depends on parameters alone is added once, to the outermost graph.
        """
        given = [x if isinstance(x, str) else self.tensor(x) for x in inputs]
        fixed, names = self.root.fixed, [self.new(op) for _ in range(outputs)]
        nodes = self.nodes
        if all(x in fixed for x in given):
            nodes, key = self.root.nodes, f"{op} {given} {attributes}"
            if key in fixed:
                return fixed[key]
            fixed |= {key: names} | {name: [name] for name in names}
        nodes.append(helper.make_node(op, given, names, **attributes))
        return names

    def split(self, x: Any, sizes: int | Sequence[int], axis: int = -1) -> list[Name]:
        """Split a tensor into parts of these sizes, or into this many equal parts."""
        if isinstance(sizes, int):
            return self.several("Split", sizes, x, axis=axis, num_outputs=sizes)
        return self.several("Split", len(sizes), x, sizes, axis=axis)

    def new(self, kind: str) -> Name:
        """Return an unused name."""
        self.root.count += 1
        return f"{kind}.{self.root.count}"

    def parameter(self, array: Any, name: Name) -> None:
        """Register an array as the tensor of this name, which depends on parameters alone."""
        self.root.names[id(array)] = name, array
        self.root.fixed[name] = [name]

    def tensor(self, value: Any) -> Name:
        """Return the name of a parameter or of a constant, which is stored once."""
        root = self.root
        if id(value) in root.names:
            return root.names[id(value)][0]
        array = np.asarray(value)
        array = array.astype(self.dtype) if array.dtype.kind == "f" else array
        key = array.dtype.str, array.shape, array.tobytes()
        name = root.constants.setdefault(key, f"{CONSTANT}{len(root.constants)}")
        root.fixed[name] = [name]
        return name

    def initializers(self) -> list[TensorProto]:
        """Return the constants."""
        return [
            numpy_helper.from_array(np.frombuffer(raw, dtype).reshape(shape), name)
            for (dtype, shape, raw), name in self.constants.items()
        ]

    def info(self, name: Name, shape: Sequence[Any] | None = None) -> ValueInfoProto:
        """Describe a tensor of the dtype of the computation."""
        return helper.make_tensor_value_info(name, self.float, shape)

    def name_outputs(self, results: Iterable[Name], outputs: Iterable[Name]) -> None:
        """Add copies of tensors under the names of outputs; runtimes remove the copies."""
        for name, output in zip(results, outputs, strict=True):
            self.nodes.append(helper.make_node("Identity", [name], [output]))

    def body(
        self, add: Callable[["Graph"], Sequence[Name]], inputs: Sequence[Name] = ()
    ) -> tuple[Any, int]:
        """Return a graph that can use all tensors of this one, and its number of outputs."""
        inner = Graph(self.dtype, step=self.step, root=self.root)
        results = add(inner)
        outputs = [self.new("output") for _ in results]
        inner.name_outputs(results, outputs)
        infos = [self.info(x) for x in inputs], [self.info(x) for x in outputs]
        return helper.make_graph(inner.nodes, self.new("body"), *infos), len(outputs)

    def scan(
        self, body: Body, states: Sequence[Name], sequences: Sequence[Name]
    ) -> tuple[list[Name], list[Name]]:
        """Apply a body to the slices of sequences along the third of their five axes.

        Return the states after the last step, and the stacked outputs.
        """
        names, S = [self.new("slice") for _ in (*states, *sequences)], len(states)

        def add(inner: Graph) -> list[Name]:
            after, ys = body(inner, names[:S], names[S:])
            return [*after, *ys]

        graph, count = self.body(add, names)
        given = [*states, *(self("Transpose", x, perm=[2, 0, 1, 3, 4]) for x in sequences)]
        options = {"body": graph, "num_scan_inputs": len(sequences)}
        results = self.several("Scan", count, *given, **options)
        return results[:S], [self("Transpose", y, perm=[1, 2, 0, 3, 4]) for y in results[S:]]

    def branch(
        self,
        condition: Name,
        yes: Callable[["Graph"], Sequence[Name]],
        no: Callable[["Graph"], Sequence[Name]],
    ) -> list[Name]:
        """Add the graph of ``yes`` or ``no``, depending on a condition at run time."""
        (then, count), (other, _) = self.body(yes), self.body(no)
        return self.several("If", count, condition, then_branch=then, else_branch=other)
