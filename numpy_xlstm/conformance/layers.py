"""A port that is in this process: a layer, or two functions, as :func:`gradcheck` takes them."""

from collections.abc import Callable, Iterator
from typing import Any

from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.subjects import Arrays, part
from numpy_xlstm.conformance.verify import Port, PortError
from numpy_xlstm.gradcheck.target import checked_target, over
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild

NOT_GIVEN = ("dy", "lengths")
"""Inputs without a dot in their name that no forward takes as such."""


def from_layer(make: Callable[[Case], Any]) -> Port:
    """The port that is made of layers.

    Parameters
    ----------
    make : Callable[[Case], layer or (forward, backward)]
        Makes what is called for a case, of ``case.options`` for example. A layer is then given the
        parameters of the case. Its forward takes the inputs of the case in their order, the state,
        a named tuple or None, and ``lengths=`` where there are some::

            y, state, cache = forward(x, state)    dx, dstate0, grads = backward(dy, cache, dstate)

        ``gradcheck.from_torch`` and ``gradcheck.from_jax`` make such layers.

    Examples
    --------
    >>> from numpy_xlstm import conformance, sLSTM
    >>> cases = conformance.cases("slstm.sequence", "float32")
    >>> port = conformance.from_layer(lambda case: sLSTM(**case.options))
    >>> conformance.verify(cases[:3], port).passed
    True
    """

    def port(case: Case) -> Arrays:
        layer = checked_target(make(case))
        params = part(case.inputs, "params")
        return _results(case, over(layer, params) if params else layer)

    return port


def _results(case: Case, layer: Any) -> Arrays:
    """All results of a case by name."""
    inputs, like = case.inputs, case.init_state()
    names = [name for name in inputs if "." not in name and name not in NOT_GIVEN]
    state = part(inputs, "state")
    more = {"lengths": inputs["lengths"]} if "lengths" in inputs else {}
    before = rebuild(like, iter(state.values())) if state else None
    y, final, cache = layer.forward(*(inputs[name] for name in names), before, **more)
    dstate = rebuild(final, iter(part(inputs, "dstate").values()))
    *found, dstate0, grads = layer.backward(inputs["dy"], cache, dstate)
    results = {"y": y, **dict(_like("final", like, final))}
    results |= {f"d{name}": gradient for name, gradient in zip(names, found, strict=True)}
    results |= dict(_like("dstate0", like, dstate0))
    return results | {f"grads.{name}": gradient for name, gradient in grads.items()}


def _like(name: str, like: Any, tree: Any) -> Iterator[tuple[str, Array]]:
    """The arrays of a state under the names that the specification has for them."""
    expected, found = (list(leaves(name, each)) for each in (like, tree))
    if len(expected) != len(found):
        raise PortError(f"{name}: expected {len(expected)} arrays; got {len(found)}")
    return zip([place for place, _ in expected], [array for _, array in found], strict=True)
