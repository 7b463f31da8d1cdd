"""Targets of ``numpy-xlstm gradcheck``: every subject of the catalogue at a random point.

What users call is checked: a layer that runs a kernel, or a pair of functions. Each kernel is also
compared with its specification, the unrolled cell. A sequence and a
stack are also checked with rows of different lengths. The layers with PyTorch's options have no
cases in the conformance kit, because they are stacks of its subjects.

Biases and states are non-zero, because a factor of zero hides mistakes. Tokens repeat, because
otherwise a backward that overwrites instead of adding would pass.
"""

from collections.abc import Callable, Mapping
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from numpy_xlstm import layers
from numpy_xlstm.conformance.catalogue import SUBJECTS, Pair
from numpy_xlstm.conformance.subjects import Given, Options, Subject, drawn, positional
from numpy_xlstm.errors import OptionError
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array, Arrays, did_you_mean
from numpy_xlstm.trees import leaves, rebuild

Target = tuple[Any, tuple[Any, ...]]
Case = Callable[[np.random.Generator, Any], Target]

B, T, TOKENS = 2, 4, 3
"""Rows, steps, and number of different tokens."""
DEEP = 0.15
"""Scale of the matrices of blocks and models. It is small, because finite differences are less
precise for a deep model."""
SIZES = {"input_size": 3, "hidden_size": 4}
BOTH: dict[str, Any] = {**SIZES, "num_layers": 2, "bidirectional": True}
OF_PYTORCH: dict[str, Options] = {
    "": SIZES,
    "bidirectional": BOTH,
    "no-bias": {**SIZES, "num_layers": 2, "bias": False},
    "dropout": {**SIZES, "num_layers": 3, "dropout": 0.4},
}
PROJECTED: dict[str, Options] = {"projected": {**BOTH, "proj_size": 2}}
RELU: dict[str, Options] = {"relu": {**BOTH, "nonlinearity": "relu"}}
STACKS = [
    Subject("torch.LSTM", layers.LSTM, drawn, OF_PYTORCH | PROJECTED, {}),
    Subject("torch.GRU", layers.GRU, drawn, OF_PYTORCH, {}),
    Subject("torch.RNN", layers.RNN, drawn, OF_PYTORCH | RELU, {}),
]
"""Stacks with PyTorch's options."""


class Called(Module):
    """A sequence layer that is called with lengths, or with the same dropout each time."""

    def __init__(self, layer: Any, lengths: Array | None, rng: int | None) -> None:
        self.layer, self.submodules, self.lengths, self.rng = layer, {"layer": ""}, lengths, rng

    @property
    def specification(self) -> "Called | None":
        """The unrolled cell of the layer, called in the same way."""
        layer = getattr(self.layer, "specification", None)
        return None if layer is None else Called(layer, self.lengths, self.rng)

    def forward(self, x: Array, state: Any) -> Any:
        """Run over the sequences with constant lengths and dropout."""
        rng = None if self.rng is None else np.random.default_rng(self.rng)
        return self.layer.forward(x, state, rng=rng, lengths=self.lengths)

    def backward(self, dy: Array, cache: Any, dstate: Any) -> Any:
        """Compute the backward of :meth:`forward`."""
        return self.layer.backward(dy, cache, dstate)


def cases() -> dict[str, Case]:
    """Return the names and cases of all checks, in order."""
    named: dict[str, Case] = {}
    for subject in (*SUBJECTS.values(), *STACKS):
        for variant, options in subject.variants.items():
            name = "/".join(filter(None, (subject.name, variant)))
            named[name] = partial(case, subject, options, None)
            if subject.name.endswith((".sequence", ".stack")) or subject in STACKS:
                named[f"{name}/lengths"] = partial(case, subject, options, np.array([T - 1, T]))
    return named


def case(
    subject: Subject,
    options: Options,
    lengths: Array | None,
    rng: np.random.Generator,
    dtype: Any,
) -> Target:
    """Return what users call of a subject with random parameters, and its random arguments."""
    given = inputs(subject, options, rng, dtype)
    target, arguments = subject.called(options, given)
    if isinstance(subject, Given):
        target = _of_functions(target, subject, options, positional(given))
    if lengths is not None or "dropout" in options:
        target = Called(target, lengths, 5 if "dropout" in options else None)
    return target, arguments


def _of_functions(pair: Pair, subject: Subject, options: Options, names: list[str]) -> Any:
    """Return a target of two functions, whose specification is that of the subject."""
    forward, backward = pair

    @wraps(forward)
    def run(*arguments: Any) -> Any:
        state = arguments[-1]
        given = dict(zip(names, arguments, strict=False)) | dict(leaves("state", state))
        y, *final = subject.run(options, given).values()
        return y, rebuild(state, iter(final)), given

    def run_backward(dy: Array, given: Arrays, dstate: Any) -> Any:
        given |= {"dy": dy, **dict(leaves("dstate", dstate))}
        results = subject.run(options, given).items()
        gradients = iter(array for name, array in results if name.startswith("d"))
        return *(next(gradients) for _ in names), rebuild(dstate, gradients)

    specification = SimpleNamespace(forward=run, backward=run_backward)
    return SimpleNamespace(forward=forward, backward=backward, specification=specification)


def inputs(subject: Subject, options: Options, rng: np.random.Generator, dtype: Any) -> Arrays:
    """Draw all inputs from a normal distribution, with positive n for sLSTM."""
    blank, deep = subject.blank(options, B, T), subject.family in ("block", "model")
    arrays = {}
    for name, zeros in blank.items():
        if zeros.dtype.kind == "i":
            arrays[name] = rng.integers(TOKENS, size=zeros.shape)
            continue
        array = rng.standard_normal(zeros.shape).astype(dtype)
        if deep and array.ndim > 1 and name.startswith("params.") and "embedding" not in name:
            array *= DEEP
        if name.startswith("state.") and name.endswith(".n") and f"{name[:-1]}h" in blank:
            array = np.abs(array) + array.dtype.type(0.1)
        arrays[name] = array
    return arrays


def select(names: list[str], available: Mapping[str, Case]) -> list[str]:
    """Return the cases with these names, subjects or families, in any letter case."""
    labels = {}
    for name in available:
        subject = name.lower().split("/")[0]
        labels[name] = {name.lower(), subject, *subject.split(".")[:1]}
    wanted = {name.lower() for name in names}
    chosen = [name for name in available if not wanted or labels[name] & wanted]
    if unknown := sorted(wanted - set().union(*labels.values())):
        families = sorted({name.split(".")[0] for name in available})
        hint = did_you_mean(unknown[0], {label for own in labels.values() for label in own})
        raise OptionError(
            f"gradcheck: expected some of {', '.join(families)}; got {unknown[0]!r}{hint}"
        )
    return chosen
