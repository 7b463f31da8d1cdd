"""Construction of an ONNX graph from standard operators."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from numpy_xlstm.checkpoints.onnx_file import CONSTANT

OPSET = 18
"""Version of the standard operators."""

DOMAIN = "numpy_xlstm"
"""Domain of the functions."""

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
    names : Mapping[int, str], optional
        Names of the parameters, by the ``id`` of their arrays.
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

    def __init__(
        self,
        dtype: np.dtype[Any],
        *,
        step: bool,
        names: Mapping[int, Name] | None = None,
        root: "Graph | None" = None,
    ) -> None:
        self.dtype, self.step, self.root = dtype, step, root or self
        self.float = helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes: list[NodeProto] = []
        self.names, self.count = dict(names or {}), 0
        self.constants: dict[tuple[str, tuple[int, ...], bytes], Name] = {}
        self.functions: dict[str, Any] = {}

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> Name:
        """Add a node, and return the name of its output.

        An input is a name, a parameter, or another array or number, which becomes a constant.
        """
        return self.several(op, 1, *inputs, **attributes)[0]

    def several(self, op: str, outputs: int, *inputs: Any, **attributes: Any) -> list[Name]:
        """Add a node with several outputs, and return their names."""
        names = [self.new(op) for _ in range(outputs)]
        given = [x if isinstance(x, str) else self.tensor(x) for x in inputs]
        self.nodes.append(helper.make_node(op, given, names, **attributes))
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

    def tensor(self, value: Any) -> Name:
        """Return the name of a parameter or of a constant, which is stored once."""
        if id(value) in self.root.names:
            return self.root.names[id(value)]
        array = np.asarray(value)
        array = array.astype(self.dtype) if array.dtype.kind == "f" else array
        key = array.dtype.str, array.shape, array.tobytes()
        return self.root.constants.setdefault(key, f"{CONSTANT}{len(self.root.constants)}")

    def initializers(self) -> list[TensorProto]:
        """Return the constants."""
        return [
            numpy_helper.from_array(np.frombuffer(raw, dtype).reshape(shape), name)
            for (dtype, shape, raw), name in self.constants.items()
        ]

    def info(self, name: Name, shape: Sequence[Any] | None = None) -> ValueInfoProto:
        """Describe a tensor of the dtype of the computation."""
        return helper.make_tensor_value_info(name, self.float, shape)

    def inner(self) -> "Graph":
        """Make the graph of a body, which can use all tensors here."""
        return Graph(self.dtype, step=self.step, root=self.root)

    def finished(self, inputs: Sequence[Name], outputs: Sequence[Name]) -> Any:
        """Return this graph as the body of a node, with a new name for each output."""
        named = [self("Identity", name) for name in outputs]
        infos = [self.info(x) for x in inputs], [self.info(x) for x in named]
        return helper.make_graph(self.nodes, self.new("body"), *infos)

    def scan(
        self, body: Body, states: Sequence[Name], sequences: Sequence[Name]
    ) -> tuple[list[Name], list[Name]]:
        """Apply a body to the slices of sequences along their first axis.

        Returns
        -------
        states, outputs : list of str
            States after the last step, and stacked outputs.
        """
        if self.step:
            after, ys = body(self, states, [self("Squeeze", x, [0]) for x in sequences])
            return list(after), [self("Unsqueeze", y, [0]) for y in ys]
        inner, names = self.inner(), [self.new("slice") for _ in (*states, *sequences)]
        after, ys = body(inner, names[: len(states)], names[len(states) :])
        outputs = [*after, *ys]
        made = self.several(
            "Scan",
            len(outputs),
            *(*states, *sequences),
            body=inner.finished(names, outputs),
            num_scan_inputs=len(sequences),
        )
        return made[: len(states)], made[len(states) :]

    def branch(
        self, condition: Name, yes: Callable[["Graph"], Sequence[Name]], no: Any
    ) -> list[Name]:
        """Add the graph of ``yes`` or ``no``, depending on a condition at run time."""
        graphs = {}
        for name, add in (("then_branch", yes), ("else_branch", no)):
            inner = self.inner()
            outputs = add(inner)
            graphs[name] = inner.finished([], outputs)
        return self.several("If", len(outputs), condition, **graphs)

    def function(
        self,
        name: str,
        body: Callable[..., Sequence[Name]],
        inputs: Sequence[Any],
        outputs: Sequence[Name],
    ) -> list[Name]:
        """Call a function of this package, defined at its first use by ``body(graph, *names)``.

        Its inputs have the names of the parameters of ``body``. Constants of the body are nodes of
        the function, as it cannot use tensors of the graph.
        """
        if name not in self.root.functions:
            inner, (_, *names) = Graph(self.dtype, step=True), signature(body).parameters
            for found, output in zip(body(inner, *names), outputs, strict=True):
                inner.nodes.append(helper.make_node("Identity", [found], [output]))
            nodes = [
                helper.make_node("Constant", [], [each.name], value=each)
                for each in inner.initializers()
            ]
            nodes += inner.nodes
            opset = [helper.make_opsetid("", OPSET)]
            text = (body.__doc__ or "").partition("\n")[0]
            self.root.functions[name] = helper.make_function(
                DOMAIN, name, names, [*outputs], nodes, opset, doc_string=text
            )
        return self.several(name, len(outputs), *inputs, domain=DOMAIN)
