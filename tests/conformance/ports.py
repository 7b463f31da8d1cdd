"""Correct ports of the subjects with a kernel, made of the package itself."""

from typing import Any

from numpy_xlstm import kernels, layers
from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.subjects import Arrays, part
from numpy_xlstm.kernels import mlstm
from numpy_xlstm.trees import leaves

LAYERS: dict[str, Any] = {
    "lstm": layers.LSTMSequence,
    "slstm": layers.sLSTM,
    "mlstm": layers.mLSTM,
    "mlstmsig": layers.mLSTM,
}


def layer(case: Case) -> Arrays:
    """A sequence by the layer that has a kernel."""
    module = LAYERS[case.subject.family](**case.options).with_params(part(case.inputs, "params"))
    state = part(case.inputs, "state")
    like = module.init_state(len(case.inputs["x"]))
    y, final, cache = module.forward(
        case.inputs["x"], _state(like, state), lengths=case.inputs.get("lengths")
    )
    dstate = _state(like, part(case.inputs, "dstate"))
    dx, dstate0, grads = module.backward(case.inputs["dy"], cache, dstate)
    found = {"y": y, **dict(leaves("final", final)), "dx": dx, **dict(leaves("dstate0", dstate0))}
    return found | {f"grads.{name}": array for name, array in grads.items()}


def form(case: Case) -> Arrays:
    """A recurrence over given inputs, by its kernel."""
    name = case.subject.name.replace("mlstmsig", "mlstm").replace(".", "_")
    module: Any = mlstm if name.startswith("mlstm") else kernels
    forward, backward = getattr(module, name), getattr(module, f"{name}_backward")
    given = [case.inputs[n] for n in (*"qkvif", "Wx", "params.R") if n in case.inputs]
    if "params.R" in case.inputs and case.inputs["params.R"].ndim == 2:
        given[1] = given[1][None]
    options = {n: v for n, v in case.options.items() if n not in UNUSED}
    state = part(case.inputs, "state")
    like = case.subject.make(case.subject.specification, _sizes(case)).init_state(1)
    h, final, cache = forward(
        *given, _state(like, state), lengths=case.inputs.get("lengths"), **options
    )
    *found, dstate0 = backward(case.inputs["dy"], cache, _state(like, part(case.inputs, "dstate")))
    names = [f"d{g}" for g in "qkvif"] if len(found) == 5 else ["dWx", "grads.R"]
    results = dict(zip(names, found, strict=True))
    if "grads.R" in results:
        results["grads.R"] = results["grads.R"].reshape(case.inputs["params.R"].shape)
    return {"y": h, **dict(leaves("final", final)), **results, **dict(leaves("dstate0", dstate0))}


UNUSED = ("hidden_size", "num_heads", "qk_dim")


def _sizes(case: Case) -> dict[str, Any]:
    return {n: v for n, v in case.options.items() if n != "chunk_size"} | {"input_size": 1}


def _state(like: Any, state: Arrays) -> Any:
    """Return the arrays of a state in its type; None if there are none."""
    if not state:
        return None
    if isinstance(like, mLSTMState):
        return mLSTMState(state["C"], state.get("n"), state.get("m"))
    return type(like)(**state)
