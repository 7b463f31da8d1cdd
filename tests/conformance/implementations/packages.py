"""Ports of ``xlstm``, ``mlstm_kernels``, ``flashrnn``, by xLSTM's authors, and transformers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy_xlstm.conformance import Case
from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.tensors import Tensors, autograd

Row = tuple[str, str, Callable[[Case, Tensors], Tensors], tuple[str, ...]]
"""Name, subject, forward, and missing features in addition to the two that all of them lack."""


def vanilla(function: str, case: Case, given: Tensors) -> Tensors:
    """LSTM or sLSTM of the vanilla backend of ``xlstm``, with initial states of 0."""
    import torch
    from xlstm.blocks.slstm.src import vanilla

    Wx, R = given["Wx"], given["R"]
    (B, _, rows), names = Wx.shape, "hcnm" if function == "slstm" else "hc"
    start = [given.get(f"state.{s}", Wx.new_zeros((B, rows // 4))) for s in names]
    pointwise = vanilla.slstm_pointwise_function_registry[function]
    found = vanilla.slstm_forward(
        Wx.swapaxes(0, 1), torch.stack(start), R, Wx.new_zeros(rows), pointwise
    )
    states, last = found[:2]
    finals = {f"final.{s}": last[n] for n, s in enumerate(names)}
    return {"y": states[0, 1:].swapaxes(0, 1), **finals}


def mlstm_start(case: Case, given: Tensors, root: float) -> list[Any] | None:
    """Return the initial C, n and m (B, NH, 1), with C and n times ``root``, or None."""
    if "state.C" not in given:
        return None
    return [given["state.C"] * root, given["state.n"] * root, given["state.m"][..., None]]


def simple_parallel(case: Case, given: Tensors) -> Tensors:
    """The parallel form of ``xlstm``."""
    from xlstm.blocks.mlstm.backends import parallel_stabilized_simple

    q, k, v, i, f = (given[name] for name in "qkvif")
    eps = case.options["eps"]
    return {"y": parallel_stabilized_simple(q, k, v, i[..., None], f[..., None], eps=eps)}


def simple_steps(case: Case, given: Tensors) -> Tensors:
    """The repeated step of ``xlstm``, whose layer starts from 0, including m."""
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


def whole_chunks(case: Case) -> int:
    """Return the largest chunk size, up to that of the case, that divides the sequence."""
    T, largest = case.inputs["i"].shape[2], case.options["chunk_size"]
    return max(size for size in range(1, largest + 1) if T % size == 0)


def simple_chunkwise(case: Case, given: Tensors) -> Tensors:
    """The chunkwise form of ``xlstm``; its argument m has no axis of size 1, its result has two."""
    from xlstm.blocks.mlstm.backends import chunkwise_simple

    q, k, v, i, f = (given[name] for name in "qkvif")
    root = q.shape[-1] ** 0.5
    C, n, m = mlstm_start(case, given, root) or (None, None, None)
    h, (C, n, m) = chunkwise_simple(
        *(q, k, v, i, f, C, n, None if m is None else m[..., 0]),
        chunk_size=whole_chunks(case),
        return_last_state=True,
        eps=case.options["eps"],
    )
    return {"y": h, "final.C": C / root, "final.n": n / root, "final.m": m[..., 0, 0]}


def transformers_form(name: str, case: Case, given: Tensors) -> Tensors:
    """A form in the code of transformers, which it uses without ``xlstm``."""
    import torch

    from tests.parity.test_transformers import code

    def function(*args: Any, **options: Any) -> Any:
        found = getattr(code(own=True), name)(*args, **options)
        return found[0], next(part for part in found[1:] if isinstance(part, tuple))

    return by_chunks(function, case, given, dtype_state=torch.float64)


def by_chunks(function: Callable[..., Any], case: Case, given: Tensors, **options: Any) -> Tensors:
    """A form of ``mlstm_kernels``, with C and n √DK times those of this package."""
    q, k, v, i, f = (given[name] for name in "qkvif")
    root = q.shape[-1] ** 0.5
    if "chunk_size" in case.options:
        options["chunk_size"] = whole_chunks(case)
    start = mlstm_start(case, given, root)
    names = ("c_initial", "n_initial", "m_initial")
    options |= dict(zip(names, start, strict=True)) if start else {}
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

    found = import_module(f"mlstm_kernels.torch.parallel.{module}.fwbw")
    prefix = "mlstm_siging" if "siging" in module else "mlstm"
    options = {"normalize": False} if "siging" in module else {"eps": case.options["eps"]}
    function = getattr(found, f"{prefix}_parallel__native_{backward}")
    return {"y": function(*(given[name] for name in "qkvif"), **options)}


def flash(function: str, Wx: Any, R: Any, b: Any, states: list[Any]) -> tuple[Any, list[Any]]:
    """Return y and the final states of the vanilla backend of ``flashrnn``.

    ``Wx`` (B, T, gates, NH, DH), ``R`` (NH, gates, DH, DH), ``b`` (gates, NH, DH), states (B, H).
    """
    import torch
    from flashrnn.flashrnn import vanilla

    B, T, _, NH, DH = Wx.shape
    found, last = vanilla.flashrnn_forward(
        Wx.swapaxes(0, 1),
        torch.stack(states, dim=1).reshape(1, B, len(states), NH, DH),
        R.permute(0, 3, 1, 2),
        b,
        vanilla.flashrnn_pointwise_function_registry[function],
    )
    y = found[:, :, 0].swapaxes(0, 1).reshape(B, T, NH * DH)
    return y, [last[0, :, n].reshape(B, NH * DH) for n in range(len(states))]


def flash_gates(function: str, case: Case, given: Tensors) -> Tensors:
    """LSTM or sLSTM of ``flashrnn``."""
    Wx, R = given["Wx"], given["R"]
    (B, T, rows), NH = Wx.shape, case.options.get("num_heads", 1)
    DH, names = rows // 4 // NH, "hcnm" if function == "slstm" else "hc"
    start = [given.get(f"state.{s}", Wx.new_zeros((B, rows // 4))) for s in names]
    shapes = Wx.reshape(B, T, 4, NH, DH), R.reshape(NH, 4, DH, DH), Wx.new_zeros((4, NH, DH))
    y, last = flash(function, *shapes, start)
    return {"y": y} | {f"final.{s}": a for s, a in zip(names, last, strict=True)}


def flash_steps(function: str, case: Case, given: Tensors) -> Tensors:
    """GRU or Elman network of ``flashrnn``; in a GRU, R h + b of the candidate comes first."""
    import torch

    x, H = given["x"], case.options["hidden_size"]
    Wx = (x @ given["params.W"].T).unflatten(-1, (-1, 1, H))
    R, b = given["params.R"].reshape(-1, H, H), given["params.b"].reshape(-1, 1, H)
    if function == "gru":
        b_h = given["params.b_h"].reshape(3, 1, H)
        R, b = R[[2, 0, 1]], torch.cat([b_h[2:], b[:2] + b_h[:2], b[2:]])
    y, (h,) = flash(function, Wx, R[None], b, [given.get("state.h", x.new_zeros((len(x), H)))])
    return {"y": y, "final.h": h}


XLSTM: list[Row] = [
    ("vanilla", "lstm.recurrent", partial(vanilla, "lstm"), ()),
    ("vanilla", "slstm.recurrent", partial(vanilla, "slstm"), ()),
    ("recurrent_step_stabilized_simple", "mlstm.recurrent", simple_steps, ("no step",)),
    ("parallel_stabilized_simple", "mlstm.parallel", simple_parallel, ("no step", "initial state")),
    ("chunkwise_simple", "mlstm.chunkwise", simple_chunkwise, ("no step", "keys unlike values")),
]
NATIVE: list[tuple[str, str, Callable[..., Tensors], tuple[str, ...]]] = [
    ("chunkwise__native_{}", "mlstm.chunkwise", native_chunkwise, ("no step",)),
    (
        "parallel__native_{}",
        "mlstm.parallel",
        partial(native_parallel, "native"),
        ("no step", "initial state"),
    ),
    (
        "parallel__native_siging_{}",
        "mlstmsig.parallel",
        partial(native_parallel, "native_siging"),
        ("initial state",),
    ),
]
"""Forms with two backwards, whose name is the next argument of the forward."""
KERNELS: list[Row] = [
    ("recurrent_sequence__native_fw", "mlstm.recurrent", native_recurrent, ("no step",)),
    *(
        (name.format(backward), subject, partial(forward, backward), lacks)
        for backward in ("autograd", "custbw")
        for name, subject, forward, lacks in NATIVE
    ),
]
TRANSFORMERS: list[Row] = [
    (name, subject, partial(transformers_form, name), ("no step",))
    for name, subject in (
        ("mlstm_recurrent_sequence_native", "mlstm.recurrent"),
        ("mlstm_chunkwise_native_autograd", "mlstm.chunkwise"),
    )
]
FLASHRNN: list[Row] = [
    ("vanilla", "lstm.recurrent", partial(flash_gates, "lstm"), ()),
    ("vanilla", "slstm.recurrent", partial(flash_gates, "slstm"), ()),
    ("vanilla", "gru.sequence", partial(flash_steps, "gru"), ()),
    ("vanilla", "elman.sequence", partial(flash_steps, "elman"), ("relu",)),
]
PACKAGES = {
    "xlstm": XLSTM,
    "mlstm_kernels": KERNELS,
    "transformers": TRANSFORMERS,
    "flashrnn": FLASHRNN,
}
IMPLEMENTATIONS = [
    Implementation(
        package, name, subject, autograd(forward), ("exponential forget gate", "lengths", *lacks)
    )
    for package, rows in PACKAGES.items()
    for name, subject, forward, lacks in rows
]
