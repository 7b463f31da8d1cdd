"""The packages of xLSTM's authors: ``xlstm``, ``mlstm_kernels``, ``flashrnn``; and transformers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy_xlstm.conformance import Case
from tests.conformance.implementations.offers import (
    Implementation,
    NotOfferedError,
    no_lengths,
    sigmoid_forget,
    some_steps,
)
from tests.conformance.implementations.tensors import Tensors, autograd


def checked(forward: Callable[[Case, Tensors], Tensors]) -> Callable[[Case], Any]:
    """The port of a forward that has neither lengths, nor an exponential forget gate."""

    def port(case: Case, given: Tensors) -> Tensors:
        no_lengths(case)
        some_steps(case)
        sigmoid_forget(case)
        return forward(case, given)

    return autograd(port)


def vanilla_slstm(case: Case, given: Tensors) -> Tensors:
    """The vanilla sLSTM of ``xlstm``, whose states begin at 0."""
    import torch
    from xlstm.blocks.slstm.src.vanilla import slstm_forward
    from xlstm.blocks.slstm.src.vanilla.slstm import slstm_forward_pointwise

    Wx, R = given["Wx"], given["params.R"]
    B, _, rows = Wx.shape
    shape = (B, rows // 4)
    states = torch.stack([given.get(f"state.{s}", Wx.new_zeros(shape)) for s in "hcnm"])
    b = Wx.new_zeros(rows)
    found = slstm_forward(Wx.swapaxes(0, 1), states, R, b, slstm_forward_pointwise)[0]
    finals = {f"final.{s}": found[n, -1] for n, s in enumerate("hcnm")}
    return {"y": found[0, 1:].swapaxes(0, 1), **finals}


def mlstm_start(case: Case, given: Tensors, root: float) -> list[Any] | None:
    """C, n and m (B, NH, 1) to begin with, C and n times ``root``; None if there are none."""
    if "state.C" not in given:
        return None
    return [given["state.C"] * root, given["state.n"] * root, given["state.m"][..., None]]


def simple_parallel(case: Case, given: Tensors) -> Tensors:
    """The parallel form of ``xlstm``."""
    from xlstm.blocks.mlstm.backends import parallel_stabilized_simple

    if "state.C" in given:
        raise NotOfferedError("initial state")
    q, k, v, i, f = (given[name] for name in "qkvif")
    eps = case.options["eps"]
    return {"y": parallel_stabilized_simple(q, k, v, i[..., None], f[..., None], eps=eps)}


def simple_steps(case: Case, given: Tensors) -> Tensors:
    """The step of ``xlstm``, again and again; its layer begins at 0, m too."""
    import torch
    from xlstm.blocks.mlstm.backends import recurrent_step_stabilized_simple

    q, k, v, i, f = (given[name] for name in "qkvif")
    (B, NH, T, DK), DV = q.shape, v.shape[-1]
    start = mlstm_start(case, given, 1.0)
    C, n, m = start or (q.new_zeros(s) for s in ((B, NH, DK, DV), (B, NH, DK), (B, NH, 1)))
    state = C, n[..., None], m[..., None]
    hs = []
    for t in range(T):
        parts = (a[:, :, t : t + 1].clone() for a in (q, k, v))  # which are reshaped in place
        gates = (g[:, :, t, None, None].clone() for g in (i, f))
        h, state = recurrent_step_stabilized_simple(*state, *parts, *gates, eps=case.options["eps"])
        hs.append(h)
    C, n, m = state
    finals = {"final.C": C, "final.n": n[..., 0], "final.m": m[..., 0, 0]}
    return {"y": torch.cat(hs, dim=2), **finals}


def transformers_form(name: str, case: Case, given: Tensors) -> Tensors:
    """A form of transformers' own code, which it has where ``xlstm`` is not installed."""
    import torch

    from tests.parity.outside.transformers_model import code

    def function(*args: Any, **options: Any) -> Any:
        found = getattr(code(own=True), name)(*args, **options)
        return found[0], next(part for part in found[1:] if isinstance(part, tuple))

    return by_chunks(function, case, given, dtype_state=torch.float64)


def by_chunks(function: Callable[..., Any], case: Case, given: Tensors, **options: Any) -> Tensors:
    """A form of ``mlstm_kernels``, whose C and n are √DK times ours; with its last state."""
    q, k, v, i, f = (given[name] for name in "qkvif")
    root = q.shape[-1] ** 0.5
    if "chunk_size" in case.options:
        if q.shape[2] % case.options["chunk_size"]:
            raise NotOfferedError("part of a chunk")
        options["chunk_size"] = case.options["chunk_size"]
    start = mlstm_start(case, given, root)
    names = ("c_initial", "n_initial", "m_initial")
    options |= dict(zip(names, start, strict=True)) if start else {}
    if "m_initial" in options and "chunk_size" in options:
        options["m_initial"] = options["m_initial"][..., 0]
    h, (C, n, m) = function(
        q, k, v, i, f, return_last_states=True, eps=case.options["eps"], **options
    )
    return {
        "y": h,
        "final.C": C / root,
        "final.n": n / root,
        "final.m": m.reshape(given["i"].shape[:2]),
    }


def native_recurrent(case: Case, given: Tensors) -> Tensors:
    """The recurrent form of ``mlstm_kernels``."""
    import torch
    from mlstm_kernels.torch.recurrent import native_sequence

    function = native_sequence.mlstm_recurrent_sequence__native_fw
    return by_chunks(function, case, given, dtype_state=torch.float64)


def native_chunkwise(backward: str, case: Case, given: Tensors) -> Tensors:
    """The chunkwise form of ``mlstm_kernels``, with either of its backwards."""
    from mlstm_kernels.torch.chunkwise import native

    return by_chunks(getattr(native, f"mlstm_chunkwise__native_{backward}"), case, given)


def native_parallel(module: str, backward: str, case: Case, given: Tensors) -> Tensors:
    """The parallel form of ``mlstm_kernels``, with either of its backwards."""
    from importlib import import_module

    if "state.C" in given:
        raise NotOfferedError("initial state")
    found = import_module(f"mlstm_kernels.torch.parallel.{module}.fwbw")
    prefix = "mlstm_siging" if "siging" in module else "mlstm"
    options = {"normalize": False} if "siging" in module else {"eps": case.options["eps"]}
    function = getattr(found, f"{prefix}_parallel__native_{backward}")
    return {"y": function(*(given[name] for name in "qkvif"), **options)}


def flash(function: str, case: Case, given: Tensors) -> Tensors:
    """LSTM or sLSTM of the vanilla backend of ``flashrnn``."""
    import torch
    from flashrnn.flashrnn import vanilla

    Wx, R = given["Wx"], given["params.R"]
    (B, T, rows), NH = Wx.shape, case.options.get("num_heads", 1)
    DH, names = rows // 4 // NH, "hcnm" if function == "slstm" else "hc"
    start = [given.get(f"state.{s}", Wx.new_zeros((B, rows // 4))) for s in names]
    states = torch.stack(start, dim=1).reshape(1, B, len(names), NH, DH)
    found, _ = vanilla.flashrnn_forward(
        Wx.reshape(B, T, 4, NH, DH).swapaxes(0, 1),
        states,
        R.reshape(NH, 4, DH, DH).permute(0, 3, 1, 2),
        Wx.new_zeros((4, NH, DH)),
        vanilla.flashrnn_pointwise_function_registry[function],
    )
    last = {f"final.{s}": found[-1, :, n].reshape(B, -1) for n, s in enumerate(names)}
    return {"y": found[:, :, 0].swapaxes(0, 1).reshape(B, T, -1), **last}


def _all() -> list[Implementation]:
    found = [
        Implementation("xlstm", "vanilla sLSTM", "slstm.recurrent", checked(vanilla_slstm)),
        Implementation(
            "xlstm", "parallel_stabilized_simple", "mlstm.parallel", checked(simple_parallel), False
        ),
        Implementation(
            "xlstm", "recurrent_step_stabilized_simple", "mlstm.recurrent", checked(simple_steps)
        ),
        Implementation(
            "mlstm_kernels",
            "recurrent_sequence__native_fw",
            "mlstm.recurrent",
            checked(native_recurrent),
        ),
    ]
    for backward in ("autograd", "custbw"):
        name = f"chunkwise__native_{backward}"
        port = checked(partial(native_chunkwise, backward))
        found.append(Implementation("mlstm_kernels", name, "mlstm.chunkwise", port))
        for module, subject in (
            ("native", "mlstm.parallel"),
            ("native_siging", "mlstmsig.parallel"),
        ):
            name = f"parallel__{module}_{backward}"
            port = checked(partial(native_parallel, module, backward))
            found.append(Implementation("mlstm_kernels", name, subject, port, False))
    for form, name in (
        ("recurrent", "mlstm_recurrent_sequence_native"),
        ("chunkwise", "mlstm_chunkwise_native_autograd"),
    ):
        port = checked(partial(transformers_form, name))
        found.append(Implementation("transformers", name, f"mlstm.{form}", port))
    for function in ("lstm", "slstm"):
        port = checked(partial(flash, function))
        found.append(Implementation("flashrnn", "vanilla", f"{function}.recurrent", port))
    return found


IMPLEMENTATIONS = _all()
