"""Ports in this process: layers, or pairs of functions, as for :func:`gradcheck`."""

from collections.abc import Callable, Mapping
from typing import Any

from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.subjects import computed, cotangent_of, gradient_of, part, positional
from numpy_xlstm.conformance.verify import Port
from numpy_xlstm.gradcheck.target import checked_target, over
from numpy_xlstm.numerics import Arrays
from numpy_xlstm.trees import rebuild


def from_layer(make: Callable[[Case], Any]) -> Port:
    """Make a port from layers.

    Parameters
    ----------
    make : Callable[[Case], layer or (forward, backward)]
        Function that makes a layer for a case, for example from ``case.options``. The layer then
        gets the parameters of the case. Its forward is called with the inputs of the case in their
        order, with the state if there is one, and with ``lengths=`` if there are lengths. The state
        has the type of ``init_state(batch_size)`` if the layer has this method; otherwise it is
        tuples or None. :func:`numpy_xlstm.gradcheck.from_torch` makes such layers.

    Returns
    -------
    callable
        Port for :func:`verify`.

    Raises
    ------
    TypeError
        In the port, if ``make`` returns neither a layer nor a pair of functions.

    Examples
    --------
    >>> from numpy_xlstm import conformance, sLSTM
    >>> cases = conformance.cases("slstm.sequence", "float32")
    >>> port = conformance.from_layer(lambda case: sLSTM(**case.options))
    >>> conformance.verify(cases[:3], port).passed
    True
    """

    def port(case: Case) -> Arrays:
        layer, params = checked_target(make(case)), part(case.inputs, "params")
        layer = over(layer, params) if params else layer
        states, state = [*part(case.expected, "final")], part(case.inputs, "state")
        before: Any = _nested(state) if state else None
        if states and hasattr(layer, "init_state"):
            before = layer.init_state(len(case.inputs[positional(case.inputs)[0]]))
            before = rebuild(before, iter(state.values())) if state else before
        inputs = dict(case.inputs)
        if not any(name.startswith(("d", "grads.")) for name in case.expected):
            inputs.pop("dy", None)  # no gradient is asked for, and the layer may have none
        return computed(layer, inputs, states, before)

    return port


def from_forward(wrap: Callable[..., Any], forward: Callable[..., Mapping[str, Any]]) -> Port:
    """Make a port from a forward in PyTorch or JAX, whose backward is that of the framework.

    Parameters
    ----------
    wrap : callable
        :func:`numpy_xlstm.gradcheck.from_torch` or ``from_jax``.
    forward : Callable[[Case, dict], Mapping]
        Function of a case and its inputs as tensors of the framework, without cotangents. It
        returns y and the final states as tensors, under the names of the kit. If the case has no
        state, the empty state is among the inputs.

    Returns
    -------
    callable
        Port for :func:`verify`.

    Examples
    --------
    .. code-block:: python

        def forward(case, given):
            h = torch.tanh(given["x"] @ given["params.W"].T + given["params.b"])
            return {"y": h}

        port = conformance.from_forward(from_torch, forward)
    """

    def port(case: Case) -> Arrays:
        given = {n: a for n, a in case.given.items() if not n.startswith(("dy", "dstate"))}
        layer = wrap(lambda inputs: dict(forward(case, inputs)))
        y, cache = layer.forward(given)
        if case.expected.keys() <= y.keys():
            return dict(y)
        cotangents = {name: case.inputs[cotangent_of(name)] for name in y}
        gradients, _ = layer.backward(cotangents, cache)
        given_back = {gradient_of(n): a for n, a in gradients.items() if a is not None}
        return {**y, **given_back}

    return port


def _nested(arrays: Arrays) -> Any:
    """Convert ``{"0.h": a, "0.c": b, "1.h": c}`` to ((a, b), (c,))."""
    if "" in arrays:
        return arrays[""]
    groups: dict[str, Arrays] = {}
    for name, array in arrays.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = array
    return tuple(_nested(group) for group in groups.values())
