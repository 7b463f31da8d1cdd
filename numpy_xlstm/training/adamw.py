"""AdamW. The equations are in ``docs/derivations/layers.md``."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.kernels import adamw
from numpy_xlstm.kernels.functions import compiled
from numpy_xlstm.module import check_same_parameters
from numpy_xlstm.numerics import (
    LARGEST,
    Array,
    check_array,
    check_form,
    check_writable,
    checked_above_zero,
    checked_range,
)
from numpy_xlstm.numerics.threads import num_threads, parallel_map, spread
from numpy_xlstm.torch_habits import advising, explained
from numpy_xlstm.training.clipping import check_floats
from numpy_xlstm.training.optimizer import DecayRule, diverged, is_matrix

BLOCK = 2**15
"""Count of numbers that are updated at a time, so that they fit into the processor's cache.

A compiled kernel needs less memory and takes blocks of four times this size.
"""

SHARE = 2**19
"""Count of numbers for which an additional thread is worthwhile."""


class Block(NamedTuple):
    """A part of a parameter p with gradient g, moments m and v, and the factors of a step."""

    name: str
    p: Array
    g: Array
    m: Array
    v: Array
    scale: float  # of g
    factors: adamw.Factors

    def update(self) -> None:
        """Update p, m and v in place."""
        adamw.update(*self[1:])

    def is_harmless(self) -> bool:
        """Return whether a simple bound proves finite results, as in every ordinary step."""
        (P, G, M, V), by = adamw.norms(*self[1:5]).tolist(), self.factors
        G *= self.scale
        bound = abs(by.shrink) * P + (1 + by.rate) * (G + M) / by.eps + V + G * G
        return bool(bound < float(np.finfo(self.p.dtype).max) / 2)


class AdamW:
    r"""Adam with decoupled weight decay.

    At step t, for every parameter θ with gradient g:

    .. math::
        θ &← θ - η λ θ \\
        m &← β_1 m + (1 - β_1) g \\
        v &← β_2 v + (1 - β_2) g^2 \\
        θ &← θ - \frac{η}{1 - β_1^t} \frac{m}{\sqrt{v} / \sqrt{1 - β_2^t} + ε}

    Parameters
    ----------
    params : Mapping[str, np.ndarray]
        Parameters of any shape that :meth:`step` updates, such as ``model.params``.
    lr, weight_decay : float
        η, which a step can override, and λ.
    betas : tuple[float, float]
        β₁ and β₂, in [0, 1), also after rounding to the dtype of a parameter.
    eps : float
        ε, outside the root, a positive normal number in the dtype of each parameter.
    decays : Callable[[str, np.ndarray], bool] or collection of str
        Function of name and array that returns whether a parameter decays, or the names of those
        that do. By default, an array decays if it has two axes, (·, ·), or more.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        The parameters in their shapes, not copied.
    decays : list[str]
        Names of the parameters that decay.
    m, v : dict[str, np.ndarray]
        First and second moment of each parameter's gradient, in its shape.
    t : int
        Number of steps taken.

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980. Loshchilov & Hutter,
    "Decoupled Weight Decay Regularization", arXiv 1711.05101. Rule, order of operations and
    defaults are those of ``torch.optim.AdamW``, which however also decays vectors by default.

    Examples
    --------
    >>> import numpy as np
    >>> params = {"w": np.array([[1.0, -2.0]])}
    >>> optimizer = AdamW(params, lr=0.1, weight_decay=0.0)
    >>> optimizer.step({"w": np.array([[3.0, -0.5]])})
    >>> params["w"].round(6)
    array([[ 0.9, -1.9]])
    """

    @advising
    def __init__(
        self,
        params: Mapping[str, Array],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        decays: DecayRule | Collection[str] = is_matrix,
    ) -> None:
        check_floats(params, "params")
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise OptionError(f"betas: expected two numbers; got {betas!r}")
        beta1, beta2 = (checked_range("betas", beta, 0, 1) for beta in betas)
        eps = checked_above_zero("eps", eps)  # because a gradient can be 0
        for dtype in {array.dtype for array in params.values()}:
            if eps < (least := np.finfo(dtype).tiny):
                raise OptionError(f"eps: expected at least {least:.3g} in {dtype}; got {eps!r}")
            if dtype.type(max(beta1, beta2)) == 1:
                raise OptionError(f"betas: expected numbers below 1 in {dtype}; got {betas!r}")
        self.lr = checked_range("lr", lr, 0, LARGEST)
        self.weight_decay = checked_range("weight_decay", weight_decay, 0, LARGEST)
        self.betas, self.eps, self.params = (beta1, beta2), eps, params
        self.decays = _decaying(params, decays)
        self.m = {name: np.zeros_like(array) for name, array in params.items()}
        self.v = {name: np.zeros_like(array) for name, array in params.items()}
        self.t = 0

    @property
    def options(self) -> dict[str, Any]:
        """Options of the constructor as JSON values."""
        names = ("lr", "betas", "eps", "weight_decay", "decays")
        return {name: getattr(self, name) for name in names}

    if not TYPE_CHECKING:  # a type checker would accept every attribute

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(explained(f"'AdamW' object has no attribute {name!r}", name))

    @advising
    def step(
        self, grads: Mapping[str, Array], *, lr: float | None = None, scale: float = 1.0
    ) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        grads : Mapping[str, np.ndarray]
            Gradients, as :meth:`~numpy_xlstm.LSTM.backward` returns them.
        lr : float, optional
            Learning rate of this step instead of that of the constructor.
        scale : float
            Factor by which the gradients are multiplied.

        Raises
        ------
        DivergenceError
            If a parameter or moment would not be finite afterwards. After this and any other error,
            no array is changed.
        """
        lr = self.lr if lr is None else checked_range("lr", lr, 0)
        scale = checked_range("scale", scale, 0)
        with np.errstate(all="ignore"):  # non-finite numbers are refused below
            self._check(grads)
            blocks = list(self._blocks(grads, lr, scale))
            if not all(on_threads(Block.is_harmless, blocks)):
                self._try(blocks, grads, lr)
            on_threads(Block.update, blocks)
        self.t += 1

    def _try(self, blocks: Sequence[Block], grads: Mapping[str, Array], lr: float) -> None:
        """Raise an error unless the update of copies, block by block, gives finite numbers."""
        for name, p in self.params.items():
            check_array(name, p, p.shape)
        for name, g in grads.items():
            check_array(f"grads[{name!r}]", g, g.shape)
        for block in blocks:
            tried = block._replace(p=block.p.copy(), m=block.m.copy(), v=block.v.copy())
            tried.update()
            if not all(np.isfinite(array).all() for array in (tried.p, tried.m, tried.v)):
                raise diverged(self, f"{block.name}: expected finite numbers after the update", lr)

    def _check(self, grads: Mapping[str, Array]) -> None:
        for title, arrays in (("params", self.params), ("grads", grads), ("v", self.v)):
            check_same_parameters(self.m, arrays, title)
            for name, moment in self.m.items():
                label = name if arrays is self.params else f"{title}[{name!r}]"
                check_form(label, arrays[name], moment.shape, moment.dtype)
        check_writable(self.params)

    def _blocks(self, grads: Mapping[str, Array], lr: float, scale: float) -> Iterator[Block]:
        """Split all arrays by rows into blocks, with the factors of the next step."""
        (beta1, beta2), decays = self.betas, {*_decaying(self.params, self.decays)}
        rate, root = lr / (1 - beta1 ** (self.t + 1)), (1 - beta2 ** (self.t + 1)) ** 0.5
        for name, array in self.params.items():
            shrink = 1 - lr * self.weight_decay if name in decays else 1.0
            factors = adamw.Factors(
                shrink, rate, root, beta1, 1 - beta1, beta2, 1 - beta2, self.eps
            )
            size = 4 * BLOCK if compiled(array.dtype) else BLOCK
            p, g, m, v = np.atleast_1d(array, grads[name], self.m[name], self.v[name])
            for rows in spread(len(p), -(-p.size // size)):
                yield Block(name, p[rows], g[rows], m[rows], v[rows], scale, factors)

    def state_dict(self) -> dict[str, Array]:
        """Return the state that the next step depends on: ``t`` and the moments, not copied.

        In PyTorch, ``optimizer.state[parameter]`` has the same arrays: ``step``, ``exp_avg`` for
        ``m.NAME``, and ``exp_avg_sq`` for ``v.NAME``.

        Examples
        --------
        >>> import numpy as np
        >>> optimizer = AdamW({"w": np.ones((1, 2)), "b": np.ones(1)})
        >>> optimizer.state_dict()["m.w"]
        array([[0., 0.]])
        """
        m = {f"m.{name}": array for name, array in self.m.items()}
        v = {f"v.{name}": array for name, array in self.v.items()}
        return {"t": np.array(self.t), **m, **v}

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Copy the state of another optimiser, from its :meth:`state_dict`, or change nothing."""
        expected = self.state_dict()
        check_same_parameters(expected, arrays)
        for name, array in expected.items():
            if name != "t":
                check_array(name, arrays[name], array.shape, array.dtype)
            if name.startswith("v.") and (arrays[name] < 0).any():
                raise OptionError(f"{name}: expected no negative number; got {arrays[name].min()}")
        if arrays["t"].dtype.kind not in "iu" or arrays["t"] < 0:
            raise OptionError(f"t: expected a whole number, at least 0; got {arrays['t']!r}")
        check_writable(expected)
        self.t = int(arrays["t"])
        for name, array in expected.items():
            array[...] = arrays[name]


def _decaying(params: Mapping[str, Array], decays: DecayRule | Collection[str]) -> list[str]:
    if callable(decays):
        return [name for name, array in params.items() if decays(name, array)]
    if not isinstance(decays, Collection) or isinstance(decays, str | Mapping):
        expected = "a function of name and array, or names of parameters"
        raise OptionError(f"decays: expected {expected}; got {decays!r}")
    for name in decays:
        if not isinstance(name, str) or name not in params:
            raise OptionError(f"decays: expected names of parameters; got {name!r}")
    decaying = {*decays}
    return [name for name in params if name in decaying]


def on_threads(work: Callable[[Block], Any], blocks: Sequence[Block]) -> list[Any]:
    """Run the work on each block, in any order."""
    count = 1 + sum(block.p.size for block in blocks) // SHARE
    count = 1 if count == 1 else min(count, num_threads())
    shares = [blocks[n::count] for n in range(count)]
    return list(chain(*parallel_map(lambda share: [work(block) for block in share], shares)))
