"""Subjects: the parts of the package that a port may implement, such as cells and sequences.

A subject computes all results of a case with its *specification*, such as a class of ``cells/``.
``numpy-xlstm gradcheck`` checks what users call instead, such as a layer that runs a kernel.
"""

import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from numpy_xlstm.conformance.inside import inside
from numpy_xlstm.errors import OptionError, ShapeError
from numpy_xlstm.gradcheck.target import checked_target
from numpy_xlstm.layers.base import RunOptions
from numpy_xlstm.layers.sequence import SequenceLayer
from numpy_xlstm.layers.stacked import stack_layers
from numpy_xlstm.numerics import Array, Arrays
from numpy_xlstm.trees import leaves, rebuild
from numpy_xlstm.validation import output_size

Options = Mapping[str, Any]
"""Options of a cell, such as ``num_heads``."""

NH, CHUNK, CASE_EPS = 2, 3, 2.0**-20
"""Number of heads, steps per chunk, and eps of an mLSTM in most subjects."""
RNG = np.random.default_rng(0)
"""Generator for initial values of modules, all of which are replaced."""
NOT_POSITIONAL = ("params", "state", "dy", "dstate", "lengths")
"""Inputs that are not positional arguments, by their names before the dot."""

OPEN = 1000.0
"""Bias with which an output gate is exactly 1."""

DEFAULT_AXES = {"lengths": "row", "x": "row step input", "y": "row step unit"}
PLAIN_AXES = {1: "unit", 2: "unit input", 3: "head unit input"}
"""Axes of tensors that are not in ``axes``, by number of axes."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A part of the package that can be ported, with its variants.

    Attributes
    ----------
    name : str
        Name such as ``slstm.sequence``.
    specification : Any
        Class or function that computes the results, such as a cell, or a tuple of them.
    make : Callable[[Any, Options], Any], optional
        Function that makes a module with ``forward`` and ``backward`` from a specification and
        options; None if there is no module.
    variants : dict[str, Options]
        Names of the variants, as in the ids of cases, and their options. Values are hashable,
        because a module is made once for its options.
    axes : Mapping[str, str]
        Names of tensors, without the part before the dot, and patterns of their entries as in
        :func:`numpy_xlstm.gradcheck`. Options in braces, such as ``{num_heads}``, are filled in.
    steps : bool
        Whether x has an axis of steps.
    tokens : str
        Option with the number of tokens, if x consists of tokens.
    situations : tuple[str, ...]
        Names of its situations; if empty, all situations that fit.
    public : Callable[[Options], Any], optional
        Function that makes what users call, a module or a pair of functions, from options. By
        default that is the module of the specification.

    Examples
    --------
    >>> from numpy_xlstm import conformance
    >>> subject = conformance.SUBJECTS["slstm.sequence"]
    >>> subject.family, list(subject.variants)
    ('slstm', ['sigmoid', 'exp'])
    """

    name: str
    specification: Any
    make: Callable[[Any, Options], Any] | None
    variants: Mapping[str, Options]
    axes: Mapping[str, str]
    steps: bool = True
    tokens: str = ""
    situations: tuple[str, ...] = ()
    public: Callable[[Options], Any] | None = None

    @property
    def family(self) -> str:
        """Part of the name before the dot."""
        return self.name.split(".")[0]

    def pattern(self, name: str, ndim: int) -> str:
        """Return the pattern of the entries of an input or a result, from ``axes``."""
        first, *rest = re.sub(r"_l\d+(_reverse)?$", "", name).split(".")
        first = "state" if first in ("final", "dstate", "dstate0") else first
        known, names = DEFAULT_AXES | dict(self.axes), [first, *rest]
        bases = [".".join(names[at:]) for at in range(len(names))] + [first.removeprefix("d")]
        named = [known[base] for base in bases if base in known]
        return named[0] if named else PLAIN_AXES.get(ndim, "")

    def module(self, options: Options, specification: Any = None) -> Any:
        """Return the module for a specification and options, with arbitrary parameters."""
        return _made(self.make, specification or self.specification, tuple(options.items()))

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        module = self.module(options)
        axes = (B, T) if self.steps else (B,)
        width = getattr(module, "in_features", 0) or getattr(module, "input_size", 0)
        x = np.zeros(axes, np.int64) if self.tokens else np.zeros((*axes, width))
        state = module.init_state(B) if hasattr(module, "init_state") else None
        return {
            **{f"params.{name}": np.zeros(a.shape) for name, a in module.params.items()},
            "x": x,
            **dict(leaves("state", state)),
            "dy": np.zeros((*axes, getattr(module, "out_features", 0) or output_size(module))),
            **{name: np.zeros(a.shape) for name, a in leaves("dstate", state)},
        }

    def called(self, options: Options, inputs: Arrays) -> tuple[Any, tuple[Any, ...]]:
        """Return what users call, a module or a pair of functions, and its arguments."""
        target = self.public(options) if self.public else self.module(options)
        if not isinstance(target, tuple):
            target = target.with_params(part(inputs, "params"))
        arguments: list[Any] = [inputs[name] for name in positional(inputs)]
        if state := part(inputs, "state"):
            empty = self.module(options).init_state(len(arguments[0]))
            arguments.append(rebuild(empty, iter(state.values())))
        return target, tuple(arguments)

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs; without dy, those of the forward."""
        module = self.module(options, specification)
        if params := part(inputs, "params"):
            module = module.with_params(params)
        start = module.init_state(len(inputs["x"])) if hasattr(module, "init_state") else None
        state = rebuild(start, iter(given.values())) if (given := part(inputs, "state")) else None
        layer = module
        if "lengths" in inputs:  # not forward, which would set wrong numbers at padding to 0
            state, run = start if state is None else state, RunOptions(lengths=inputs["lengths"])
            layer = SimpleNamespace(
                forward=lambda x, state, lengths: module.compute(x, state, run),
                backward=module.compute_backward,
                params=module.params,
            )
        return computed(layer, inputs, parts_of(start), state)

    def run_public(self, options: Options, inputs: Arrays) -> Arrays:
        """Compute all results with what users call, in place of the specification."""
        target, arguments = self.called(options, inputs)
        states = parts_of(self.module(options).init_state(1))
        given = arguments[len(positional(inputs)) :]
        return computed(checked_target(target), inputs, states, *given)


class Part(Subject):
    """A part of a model, such as a block. Its parameters are not among the inputs of its case."""

    def module(self, options: Options, specification: Any = None) -> Any:
        """Return the part itself, or raise an error if its trace was read from a folder."""
        if self.make is None:
            raise OptionError(
                "results: expected a case of trace(), which has the parts of a model; got one that "
                "was read from a folder (its results are in `.expected`)"
            )
        return self.make(specification or self.specification, options)

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results, with no more logits than the option ``last_logits``."""
        results = super().run(options, inputs, specification)
        if last := options.get("last_logits"):
            results = {**results, "y": results["y"][:, -last:]}
        return results

    def pattern(self, name: str, ndim: int) -> str:
        """Return the pattern of the entries of a tensor, or its axes if they have no names."""
        known = self.axes.get(name) or super().pattern(name, ndim)
        groups = re.sub(r"\([^)]*\)", "joined", known).split()
        return known if len(groups) == ndim else " ".join(f"axis{n}" for n in range(ndim))


class Given(Subject):
    """A recurrence over given pre-activations, or over given q, k and v, without input matrices.

    The cell itself computes it. Its input is the concatenation of everything given, and its
    matrices select each part: LSTM or sLSTM over ``Wx`` and ``R``, or mLSTM over ``q``, ``k``,
    ``v``, ``i`` and ``f``.

    ``Wx`` (B, T, 4·H) is W x + b, gate by gate. ``R`` (NH, 4·DH, DH) is an argument, as in the
    public functions. q and k are (B, NH, T, DK), v is (B, NH, T, DV), and ĩ and f̃ are (B, NH, T).
    There is no o.
    """

    def module(self, options: Options, specification: Any = None) -> Any:
        """Return a layer of the cell, whose x is everything given."""
        inner = {name: value for name, value in options.items() if name != "chunk_size"}
        inner["input_size"] = sum(_widths(options).values())
        return super().module(inner, specification)

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        arrays = super().blank(options, B, T)
        given = _split(arrays["x"], options)
        if "params.R" in arrays:
            given["R"] = _with_heads(arrays["params.R"])
        arrays["dy"] = _apart("y", arrays["dy"], options)
        return given | _kept(arrays, "state", "dy", "dstate")

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        widths = _widths(options)
        x = np.concatenate([_joined(inputs[name], options) for name in widths], axis=-1)
        params = {n: np.zeros(a.shape, x.dtype) for n, a in self.module(options).params.items()}
        rows = np.split(np.eye(x.shape[-1], dtype=x.dtype), np.cumsum([*widths.values()])[:-1])
        if "R" in inputs:
            params |= {"W": rows[0], "R": inputs["R"].reshape(params["R"].shape)}
        else:
            params |= {f"W_{name}": row for name, row in zip(widths, rows, strict=True)}
            params["b_o"] += OPEN
        inner = {"x": x, **{f"params.{name}": array for name, array in params.items()}}
        inner |= {name: array for name, array in inputs.items() if name not in (*widths, "R")}
        if "dy" in inputs:
            inner["dy"] = _joined(inputs["dy"], options)
        results = super().run(options, inner, specification)
        outputs = {"y": _apart("y", results["y"], options), **_kept(results, "final")}
        if "dy" not in inputs:
            return outputs
        gradients = {f"d{name}": d for name, d in _split(results["dx"], options).items()}
        if "R" in inputs:
            gradients["dR"] = _with_heads(results["grads.R"])
        return {**outputs, **gradients, **_kept(results, "dstate0")}


@lru_cache(maxsize=256)
def _made(make: Any, specification: Any, options: tuple[tuple[str, Any], ...]) -> Any:
    return make(specification, dict(options))


def computed(layer: Any, inputs: Arrays, states: list[str], state: Any = None) -> Arrays:
    """Return the names and arrays of all results of a layer; without dy, those of the forward.

    ``states`` are the names of the parts of its state. A layer without a state has none.
    """
    names = positional(inputs)
    given = [*(inputs[name] for name in names), *([state] if states else [])]
    more = {"lengths": inputs["lengths"]} if "lengths" in inputs else {}
    y, *final, cache = layer.forward(*given, **more)
    results = copied({"y": y, **_named("final", states, final)})
    if hasattr(layer, "inside"):
        results |= copied(layer.inside(layer, inputs["x"], cache.kept))
    if "dy" not in inputs:
        return results
    dstate = [rebuild(tree, iter(part(inputs, "dstate").values())) for tree in final]
    found = layer.backward(inputs["dy"], cache, *dstate)
    parts = list(found) if isinstance(found, tuple) else [found]
    grads = parts.pop() if isinstance(parts[-1], Mapping) else {}
    dstate0 = _named("dstate0", states, parts.pop() if states else None)
    results |= {f"d{name}": gradient for name, gradient in zip(names, parts, strict=True)}
    params = getattr(layer, "params", None)
    order = dict.fromkeys((*params, *grads) if isinstance(params, Mapping) else grads)
    results |= dstate0 | {f"grads.{name}": grads[name] for name in order if name in grads}
    return {name: array for name, array in results.items() if array is not None}


def parts_of(state: Any) -> list[str]:
    """Return the names of the parts of a state; [""] if it is one array."""
    return [*part(dict(leaves("state", state)), "state")]


def _named(name: str, states: list[str], tree: Any) -> Arrays:
    """Return the arrays of a state under their names in a case."""
    arrays = [array for _, array in leaves(name, tree)]
    if len(arrays) != len(states):
        raise ShapeError(f"{name}: expected {len(states)} arrays; got {len(arrays)}")
    names = (f"{name}.{part}" if part else name for part in states)
    return dict(zip(names, arrays, strict=True))


def copied(results: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the arrays of results, because a port may reuse its own."""
    arrays = np.ndarray, np.generic
    return {n: np.array(a, subok=True) if isinstance(a, arrays) else a for n, a in results.items()}


def positional(inputs: Arrays) -> list[str]:
    """Return the names of the positional arguments of a forward, without the state."""
    return [name for name in inputs if name.split(".")[0] not in NOT_POSITIONAL]


def part(arrays: Mapping[str, Array], prefix: str) -> Arrays:
    """Return the arrays ``PREFIX.NAME`` by NAME, or the array ``PREFIX`` by the name ""."""
    if prefix in arrays:
        return {"": arrays[prefix]}
    start = f"{prefix}."
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def gradient_of(name: str) -> str:
    """Return the name of the gradient of an input."""
    if name.startswith("params."):
        return f"grads.{name.removeprefix('params.')}"
    return f"dstate0{name.removeprefix('state')}" if name.startswith("state") else f"d{name}"


def cotangent_of(name: str) -> str:
    """Return the name of the cotangent of a result of the forward."""
    return "dy" if name == "y" else f"dstate{name.removeprefix('final')}"


def of_class(module: Any, specification: Any, options: Options) -> Any:
    """Return a copy of a part as an instance of its class, or of a subclass made by ``stored``.

    With the option ``inside``, its results have the tensors within it.
    """
    part = copy(module)
    object.__setattr__(part, "__class__", specification)
    if options.get("inside"):
        part.inside = inside
    return part


def drawn(specification: Any, options: Options) -> Any:
    """Make a cell or a layer whose initial values are random; a case replaces them all."""
    return specification(**options, rng=RNG)


def sequence(specification: Any, options: Options) -> SequenceLayer:
    """Make a layer that runs a cell over a sequence, step by step."""
    layer = SequenceLayer(drawn(specification, options))
    layer.unrolled = True  # run the cell, not its kernel
    return layer


def stack(specification: Any, options: Options) -> Any:
    """Make a stack of layers of a cell, in one direction or both."""

    def layer(input_size: int, hidden_size: int, **more: Any) -> SequenceLayer:
        sizes = {"input_size": input_size, "hidden_size": hidden_size}
        return sequence(specification, sizes | more)

    return stack_layers(layer, **options)


def _widths(options: Options) -> dict[str, int]:
    """Return the names of everything given, and their widths."""
    H = options["hidden_size"]
    if "qk_dim" not in options:
        return {"Wx": 4 * H}
    NH, QK = options["num_heads"], options["qk_dim"]
    return {"q": QK, "k": QK, "v": H, "i": NH, "f": NH}


def _split(x: Array, options: Options) -> Arrays:
    """Return everything given that is part of x, or its gradients."""
    widths = _widths(options)
    parts = np.split(x, np.cumsum([*widths.values()])[:-1], axis=-1)
    return {name: _apart(name, part, options) for name, part in zip(widths, parts, strict=True)}


def _with_heads(R: Array) -> Array:
    """Return R as (NH, 4·DH, DH), also for a cell without heads."""
    return R.reshape(-1, *R.shape[-2:])


def _kept(arrays: Arrays, *kinds: str) -> Arrays:
    """Return the arrays whose names before the dot are ``kinds``."""
    return {name: array for name, array in arrays.items() if name.split(".")[0] in kinds}


def _joined(array: Array, options: Options) -> Array:
    """Reshape (B, NH, T, ·) or (B, NH, T) of an mLSTM to (B, T, NH·…)."""
    if "qk_dim" not in options:
        return array
    B, NH, T, *width = array.shape
    return np.moveaxis(array, 1, 2).reshape(B, T, NH * prod(width))


def _apart(name: str, array: Array, options: Options) -> Array:
    """Reshape (B, T, NH·…) of an mLSTM to (B, NH, T, ·), or (B, NH, T) for a gate."""
    if "qk_dim" not in options:
        return array
    (B, T, width), NH = array.shape, options["num_heads"]
    heads = np.moveaxis(array.reshape(B, T, NH, width // NH), 2, 1)
    return np.ascontiguousarray(heads[..., 0] if name in ("i", "f") else heads)
