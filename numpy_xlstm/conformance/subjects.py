"""What a port may offer: the cells, and sequences that are made of them.

A subject computes all results of a case with its *specification*, a class of ``cells/``, which is
an argument: a mistake is nothing but another specification.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numpy_xlstm.door import output_size as cell_output_size
from numpy_xlstm.layers import SequenceLayer, stack_layers
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild

Arrays = dict[str, Array]
"""Tensors by name."""

Options = Mapping[str, Any]
"""What a cell is made with, such as ``num_heads``."""

RNG = np.random.default_rng(0)
"""For the starting values of modules, which are all replaced."""


@dataclass(frozen=True)
class Subject:
    """One thing to port, with the variants that it comes in.

    Attributes
    ----------
    name : str
        Such as ``slstm.sequence``.
    specification : type
        The cell of which it is made.
    make : Callable[[Any, Options], Any]
        Makes the module of a specification and options. It has ``forward`` and ``backward``.
    variants : dict[str, Options]
        Options by the name that stands in the id of a case.
    axes : Mapping[str, str]
        What the entries of a tensor are, by its name without what stands before the dot, in the
        patterns of :func:`numpy_xlstm.gradcheck`; ``{num_heads}`` is an option.
    pages : tuple[str, ...]
        The tags of its equations begin with these.
    steps : bool
        Whether x has an axis of steps.
    """

    name: str
    specification: Any
    make: Callable[[Any, Options], Any]
    variants: Mapping[str, Options]
    axes: Mapping[str, str]
    pages: tuple[str, ...]
    steps: bool = True

    @property
    def family(self) -> str:
        """The part of the name before the dot."""
        return self.name.split(".")[0]

    def pattern(self, name: str) -> str:
        """What the entries of an input or a result are, as :attr:`axes` says."""
        base = re.sub(r"_l\d+(_reverse)?$", "", name.split(".")[-1])
        axes = {"lengths": "row", **self.axes}
        return axes[base if base in axes else base.removeprefix("d")]

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """All inputs that a case can have, full of zeros: their names and shapes."""
        module = self.make(self.specification, options)
        x = np.zeros((B, T, input_size(module)) if self.steps else (B, input_size(module)))
        state = module.init_state(B)
        y = np.zeros((*x.shape[:-1], output_size(module)))
        params = {f"params.{name}": np.zeros(a.shape) for name, a in module.params.items()}
        return {
            **params,
            "x": x,
            **dict(leaves("state", state)),
            "dy": y,
            **{name: np.zeros(a.shape) for name, a in leaves("dstate", state)},
        }

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """All results, in the dtype of the inputs."""
        module = self.make(specification or self.specification, options)
        module = module.with_params(part(inputs, "params"))
        more = {"lengths": inputs["lengths"]} if "lengths" in inputs else {}
        like = module.init_state(len(inputs["x"]))
        given = part(inputs, "state")
        state = rebuild(like, iter(given.values())) if given else None
        y, final, cache = module.forward(inputs["x"], state, **more)
        dstate = rebuild(like, iter(part(inputs, "dstate").values()))
        dx, dstate0, grads = module.backward(inputs["dy"], cache, dstate)
        found = {
            "y": y,
            **dict(leaves("final", final)),
            "dx": dx,
            **dict(leaves("dstate0", dstate0)),
        }
        return found | {f"grads.{name}": grads[name] for name in module.params}


def part(arrays: Mapping[str, Array], prefix: str) -> Arrays:
    """The arrays below a name, by what stands behind the dot."""
    start = f"{prefix}."
    return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}


def input_size(module: Any) -> int:
    """Width of x of a cell or a layer."""
    return int(getattr(module, "in_features", 0) or module.input_size)


def output_size(module: Any) -> int:
    """Width of y of a cell or a layer."""
    return int(getattr(module, "out_features", 0) or cell_output_size(module))


def step(specification: Any, options: Options) -> Any:
    """One step of a cell."""
    return specification(**options, rng=RNG)


def sequence(specification: Any, options: Options) -> SequenceLayer:
    """A cell over a sequence, step by step."""
    return SequenceLayer(step(specification, options))


def stack(specification: Any, options: Options) -> Any:
    """Layers of a cell over one another, in one direction or in both."""

    def layer(input_size: int, hidden_size: int, **more: Any) -> SequenceLayer:
        return sequence(
            specification, {"input_size": input_size, "hidden_size": hidden_size, **more}
        )

    return stack_layers(layer, **options)
