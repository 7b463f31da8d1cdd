"""Ports in 16 bits, written from the equations with PyTorch, that share no code with the package.

Sums are in float32, and what is stored is rounded. The name of a mistake makes a port with it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from numpy_xlstm.conformance import Case

TORCH = {"bfloat16": torch.bfloat16, "float16": torch.float16}
MISTAKES = {
    "lstm": (
        "forget gate first",
        "y without tanh",
        "R transposed",
        "no bias",
        "no initial h",
        "z by sigmoid",
        "forget bias of 1",
        "gradients averaged",
    ),
    "slstm": (
        "h without n",
        "forget gate without log",
        "z without tanh",
        "head 0 for all",
        "m without its past",
        "m from 0",
        "h without its gradient",
    ),
    "mlstm": (
        "k unscaled",
        "k scaled after its bias",
        "1 in place of the weight",
        "C transposed",
        "no output gate",
        "no absolute value",
        "n of the last step",
        "eps omitted",
    ),
}
"""Mistakes of the ports by family."""

State = list[Any]


def port(case: Case, *, state: bool, mistake: str = "") -> dict[str, Any]:
    """Return all results, rounded; with ``state`` the state is rounded at each step."""
    narrow = TORCH[case.dtype]

    def stored(tensor: Any) -> Any:
        return tensor.to(narrow).float()

    given = {
        name: torch.tensor(array).requires_grad_(array.dtype.kind == "f")
        for name, array in case.inputs.items()
    }
    x, parts = given["x"], [name[7:] for name in given if name.startswith("dstate.")]
    before: State = [given.get(f"state.{part}") for part in parts]
    if before[0] is None:
        empty = {part: torch.zeros_like(given[f"dstate.{part}"]) for part in parts}
        if "m" in empty and mistake != "m from 0":
            empty["m"] -= torch.inf
        before = [empty[part].requires_grad_() for part in parts]
    start, ys = before, []
    lengths = given.get("lengths", torch.full((len(x),), x.shape[1]))
    for t in range(x.shape[1]):
        y, *after = STEPS[case.subject.family](
            case.options, given, x[:, t], before, stored, mistake
        )
        after = [stored(part) if state else part for part in after]
        live = lengths > t
        ys.append(torch.where(live[:, None], stored(y), torch.zeros_like(y)))
        before = [
            torch.where(shaped(live, new), new, old) for new, old in zip(after, before, strict=True)
        ]
    y = torch.stack(ys, 1) if ys else torch.zeros_like(given["dy"])
    wanted = {f"grads.{name[7:]}": a for name, a in given.items() if name.startswith("params.")}
    wanted |= {"dx": x, **{f"dstate0.{part}": a for part, a in zip(parts, start, strict=True)}}
    cotangents = [given["dy"], *(given[f"dstate.{part}"] for part in parts)]
    outputs = [(a, d) for a, d in zip([y, *before], cotangents, strict=True) if a.requires_grad]
    tensors, sent = zip(*outputs, strict=True)
    gradients = torch.autograd.grad(tensors, list(wanted.values()), sent, allow_unused=True)
    results = {"y": y, **{f"final.{part}": a for part, a in zip(parts, before, strict=True)}}
    for (name, tensor), gradient in zip(wanted.items(), gradients, strict=True):
        share = len(x) if mistake == "gradients averaged" and name.startswith("grads") else 1
        results[name] = (torch.zeros_like(tensor) if gradient is None else gradient) / share
    narrowed = {
        name: tensor.detach().to(narrow).float().numpy() for name, tensor in results.items()
    }
    if case.dtype == "float16":
        return {name: array.astype(np.float16) for name, array in narrowed.items()}
    return narrowed


def shaped(live: Any, like: Any) -> Any:
    """Return a mask of rows with the axes of a tensor."""
    return live.reshape(-1, *[1] * (like.ndim - 1))


def lstm(
    options: Mapping[str, Any], p: Any, x: Any, state: State, stored: Any, mistake: str
) -> list[Any]:
    """Return y and the state after a step of an LSTM."""
    h, c = state
    R, b = p["params.R"], p["params.b"]
    R = torch.cat([part.T for part in R.split(R.shape[1])]) if mistake == "R transposed" else R
    h = 0 * h if mistake == "no initial h" and h.is_leaf else h
    b = 0 * b if mistake == "no bias" else b
    i, f, z, o = stored(x @ p["params.W"].T + h @ R.T + b).chunk(4, 1)
    if mistake == "forget gate first":
        i, f = f, i
    f = f + 1 if mistake == "forget bias of 1" else f
    z = z.sigmoid() if mistake == "z by sigmoid" else z.tanh()
    c = f.sigmoid() * c + i.sigmoid() * z
    y = o.sigmoid() * (c if mistake == "y without tanh" else c.tanh())
    return [y, y, c]


def slstm(
    options: Mapping[str, Any], p: Any, x: Any, state: State, stored: Any, mistake: str
) -> list[Any]:
    """Return y and the state after a step of an sLSTM."""
    h, c, n, m = state
    R, heads = p["params.R"], options["num_heads"]
    R = R[:1].expand_as(R) if mistake == "head 0 for all" else R
    h = h.detach() if mistake == "h without its gradient" else h
    by_head = torch.einsum("hgd,bhd->bhg", R, h.reshape(len(h), heads, -1))
    by_gate = by_head.reshape(len(h), heads, 4, -1).transpose(1, 2).reshape(len(h), -1)
    i, f, z, o = stored(x @ p["params.W"].T + by_gate + p["params.b"]).chunk(4, 1)
    log_f = log_gate(options, f, mistake)
    top = torch.maximum(log_f if mistake == "m without its past" else log_f + m, i)
    forget, write = (log_f + m - top).exp(), (i - top).exp()
    c = forget * c + write * (z if mistake == "z without tanh" else z.tanh())
    n = forget * n + write
    y = o.sigmoid() * (c if mistake == "h without n" else c / n)
    return [y, y, c, n, top]


def log_gate(options: Mapping[str, Any], f: Any, mistake: str = "") -> Any:
    """Return the log of the forget gate."""
    if options["forget_gate"] == "exp" or mistake == "forget gate without log":
        return f if options["forget_gate"] == "exp" else f.sigmoid()
    return torch.nn.functional.logsigmoid(f)


def mlstm(
    options: Mapping[str, Any], p: Any, x: Any, state: State, stored: Any, mistake: str
) -> list[Any]:
    """Return y and the state after a step of an mLSTM."""
    C, n, m = state
    made = {g: x @ p[f"params.W_{g}"].T for g in "qkvifo"}
    root = (n.shape[2]) ** 0.5
    b = {g: p[f"params.b_{g}"] for g in "qkvifo"}
    if mistake == "k scaled after its bias":
        made["k"] = (made["k"] + b["k"]) / root
    else:
        made["k"] = (made["k"] if mistake == "k unscaled" else made["k"] / root) + b["k"]
    made |= {g: made[g] + b[g] for g in "qvifo"}
    q, k, v, i, f, o = (stored(made[g]) for g in "qkvifo")
    q, k, v = (a.reshape(len(x), options["num_heads"], -1) for a in (q, k, v))
    A = log_gate(options, f) + m
    top = torch.maximum(A, i)
    forget, write = (A - top).exp(), (i - top).exp()
    C = forget[..., None, None] * C + write[..., None, None] * k[..., None] * v[..., None, :]
    n = k if mistake == "n of the last step" else forget[..., None] * n + write[..., None] * k
    read = C if mistake != "C transposed" or C.shape[2] != C.shape[3] else C.transpose(2, 3)
    qn = (q * n).sum(-1)
    floor = (
        torch.ones_like(top)
        if mistake == "1 in place of the weight"
        else (-top).clamp(max=80).exp()
    )
    below = torch.maximum(qn if mistake == "no absolute value" else qn.abs(), floor)
    below = below + (0 if mistake == "eps omitted" else options["eps"])
    h = torch.einsum("bhk,bhkv->bhv", q, read) / below[..., None]
    y = h.reshape(len(x), -1)
    return [y if mistake == "no output gate" else o.sigmoid() * y, C, n, top]


STEPS = {"lstm": lstm, "slstm": slstm, "mlstm": mlstm}
