"""AdamW. The equations are in ``docs/derivations/layers.md``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.errors import DivergenceError, NonFiniteError, OptionError
from numpy_xlstm.module import check_same_parameters
from numpy_xlstm.numerics import (
    Array,
    check_above_zero,
    check_array,
    check_choice,
    check_form,
    is_number,
)
from numpy_xlstm.training.clipping import check_floats
from numpy_xlstm.training.decay import DecayRule, is_matrix
from numpy_xlstm.training.torch_state import from_torch, to_torch

BLOCK = 2**15
"""How many numbers of a parameter are updated at once: what that takes stays near the processor."""


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
        The parameters that :meth:`step` will be called with, for their names and shapes.
    lr, weight_decay : float
        η, unless a step is given another learning rate, and λ.
    betas : tuple[float, float]
        β₁ and β₂, in [0, 1), also when they are rounded to the dtype of a parameter.
    eps : float
        ε, outside of the root, a normal number above 0 in the dtype of each parameter.
    decays : Callable[[str, np.ndarray], bool]
        Which parameters decay, by name and array: those of shape (·, ·) by default.

    Attributes
    ----------
    m, v : dict[str, np.ndarray]
        First and second moment of each parameter's gradient, in its shape.
    t : int
        How many steps have been taken.
    largest_update : float or None
        By how much the last one has moved an entry, at most, beside its decay. It is not stored:
        None until this object has taken a step.

    Raises
    ------
    OptionError, DTypeError
        If an option is out of its range, or ``params`` are not arrays by name.

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980.
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    Rule, order of operations and defaults are those of ``torch.optim.AdamW``.

    Examples
    --------
    >>> import numpy as np
    >>> params = {"w": np.array([[1.0, -2.0]])}
    >>> optimizer = AdamW(params, lr=0.1, weight_decay=0.0)
    >>> optimizer.step(params, {"w": np.array([[3.0, -0.5]])})
    >>> params["w"].round(6)
    array([[ 0.9, -1.9]])
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        decays: DecayRule = is_matrix,
    ) -> None:
        if not isinstance(params, Mapping):
            raise OptionError(
                "params: expected arrays by name, such as model.params; "
                f"got {type(params).__name__}"
            )
        for name, array in params.items():
            check_floats(f"params[{name!r}]", array)
        if not callable(decays):
            raise OptionError(f"decays: expected a function of name and array; got {decays!r}")
        options = _checked_options(params, lr, betas, eps, weight_decay)
        self.lr, self.betas, self.eps, self.weight_decay = options
        self.decays = decays
        self.m = {name: np.zeros_like(array) for name, array in params.items()}
        self.v = {name: np.zeros_like(array) for name, array in params.items()}
        self.t = 0
        self.largest_update: float | None = None

    def step(
        self, params: Mapping[str, Array], grads: Mapping[str, Array], lr: float | None = None
    ) -> None:
        """Update the arrays of ``params`` in place, with learning rate ``lr`` if that is given.

        All are updated or none: with :class:`DivergenceError` if a parameter or moment would not be
        finite afterwards, with :class:`NonFiniteError` if a gradient or its square is not finite,
        or if names, shapes or dtypes are not those of the moments.
        """
        lr = self.lr if lr is None else _in_range("lr", lr, np.inf)
        with np.errstate(all="ignore"):  # what is not finite is refused
            self._check(params, grads)
            rules = {name: self._rule(name, params[name], lr) for name in self.m}
            arrays = {n: (params[n], grads[n], self.m[n], self.v[n]) for n in self.m}
            for name, rule in rules.items():
                if not (rule.is_harmless(*arrays[name]) or rule.stays_finite(*arrays[name])):
                    check_array(name, params[name], params[name].shape)
                    *_, step = rule.of_block(*arrays[name])
                    reason = f"{name}: expected finite numbers after the update"
                    raise diverged(self, reason, lr, _largest(step))
            largest = (rule.apply(*arrays[name]) for name, rule in rules.items())
            self.largest_update = max(largest, default=0.0)
        self.t += 1

    def _check(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Raise an error unless both are like the moments, and the squares of ``grads`` finite."""
        check_same_parameters(self.m, params)
        check_same_parameters(self.m, grads, "grads")
        for name, moment in self.m.items():
            check_form(f"grads[{name!r}]", grads[name], moment.shape, moment.dtype)
            check_form(name, params[name], moment.shape, moment.dtype)
            if not params[name].flags.writeable:
                raise OptionError(f"{name}: expected an array that can be written to")
            if np.isfinite(_norm(grads[name])):
                continue
            check_array(f"grads[{name!r}]", grads[name], moment.shape)
            if (largest := _largest(grads[name])) > np.finfo(moment.dtype).max ** 0.5:
                raise NonFiniteError(  # its square would stay in the second moment for ever
                    f"grads[{name!r}]: expected entries whose squares are finite; got {largest:.3g}"
                )

    def _rule(self, name: str, array: Array, lr: float) -> "AdamWUpdate":
        """How a parameter is updated in the next step."""
        beta1, beta2 = self.betas
        rate, root = lr / (1 - beta1 ** (self.t + 1)), (1 - beta2 ** (self.t + 1)) ** 0.5
        shrink = 1 - lr * self.weight_decay if self.decays(name, array) else 1.0
        return AdamWUpdate(shrink, rate, root, beta1, beta2, self.eps)

    def state_dict(
        self,
        *,
        format: str = "numpy",  # noqa: A002
        order: Sequence[str] | None = None,
        layout: str = "vanilla",
    ) -> dict[str, Any]:
        """Return all that the next step depends on: ``t`` and the moments, which are not copied.

        Parameters
        ----------
        format : {"numpy", "torch"}
            "torch" is the form of ``torch.optim.AdamW``, with the options, and with arrays where
            PyTorch has tensors. What decays is its first group, what does not its second, both
            with ``param_names``; options that are not there have their default in PyTorch.
        order : sequence of str, optional
            The names in the order that the parameters have in each group, such as that of
            PyTorch's ``named_parameters()``; that of ``params`` if omitted.
        layout : {"vanilla", "cuda", "canonical"}
            The order of R and b of an sLSTM, as in the model's own ``state_dict``.

        Raises
        ------
        OptionError, ShapeError
            If format or layout is another, or the names in ``order`` are.

        Examples
        --------
        >>> import numpy as np
        >>> optimizer = AdamW({"w": np.ones((1, 2)), "b": np.ones(1)})
        >>> optimizer.state_dict()["m.w"]
        array([[0., 0.]])
        >>> groups = optimizer.state_dict(format="torch")["param_groups"]
        >>> [(group["param_names"], group["weight_decay"]) for group in groups]
        [(['w'], 0.01), (['b'], 0.0)]
        """
        if check_choice("format", format, ("numpy", "torch")) == "torch":
            return to_torch(self, order, layout)
        m = {f"m.{name}": array for name, array in self.m.items()}
        v = {f"v.{name}": array for name, array in self.v.items()}
        return {"t": np.array(self.t), **m, **v}

    def load_state_dict(
        self,
        arrays: Mapping[str, Any],
        *,
        order: Sequence[str] | None = None,
        layout: str | None = None,
    ) -> None:
        """Go on from where another optimiser was: copy what its :meth:`state_dict` gave.

        Parameters
        ----------
        arrays : Mapping[str, Any]
            In either format. That of PyTorch, which may hold tensors, brings its options along; a
            learning rate is that before the schedule.
        order : sequence of str, optional
            The names that ``named_parameters()`` had, if there is one group, or one for what decays
            and one for what does not, made in this order without names.
        layout : {"vanilla", "cuda"}, optional
            The order of an sLSTM's b in PyTorch; that of R if omitted.

        Raises
        ------
        OptionError, ShapeError, DTypeError, NonFiniteError
            If something is missing or does not fit, a second moment is negative, or an option, or
            what decays, is not as it can be here. Nothing has been changed then.
        """
        if isinstance(arrays, Mapping) and "param_groups" in arrays:
            arrays, options = from_torch(self, arrays, order, layout)
            checked = _checked_options(self.m, **options)
            self.load_state_dict(arrays)
            self.lr, self.betas, self.eps, self.weight_decay = checked
            return
        expected = self.state_dict()
        check_same_parameters(expected, arrays)
        for name, array in expected.items():
            if name != "t":
                check_array(name, arrays[name], array.shape, array.dtype)
            if name.startswith("v.") and (arrays[name] < 0).any():
                raise OptionError(f"{name}: expected no negative number; got {arrays[name].min()}")
        if arrays["t"].dtype.kind not in "iu" or arrays["t"] < 0:
            raise OptionError(f"t: expected a whole number, at least 0; got {arrays['t']!r}")
        self.t = int(arrays["t"])
        for name, array in expected.items():
            array[...] = arrays[name]


class AdamWUpdate(NamedTuple):
    """The update of a parameter p with gradient g and moments m and v in one step."""

    shrink: float  # 1 − η λ, or 1
    rate: float  # η / (1 − β₁^t)
    root: float  # √(1 − β₂^t)
    beta1: float
    beta2: float
    eps: float

    def of_block(
        self, p: Array, g: Array, m: Array, v: Array, out: Sequence[Array | None] = (None,) * 3
    ) -> tuple[Array, ...]:
        """New p, m and v, in new arrays or in those of ``out``, and what p is moved by."""
        m = np.add(m, (1 - self.beta1) * (g - m), out=out[1])  # [adam.2]
        v = np.add(v * self.beta2, (1 - self.beta2) * (g * g), out=out[2])  # [adam.3]
        step = self.rate * (m / (np.sqrt(v) / self.root + self.eps))
        p = np.subtract(p * self.shrink, step, out=out[0])  # [adam.1] [adam.4]
        return p, m, v, step

    def apply(self, *arrays: Array) -> float:
        """Update p, m and v in place; return the largest entry of what p is moved by."""
        steps = (self.of_block(p, g, m, v, (p, m, v))[3] for p, g, m, v in _blocks(*arrays))
        return max(map(_largest, steps), default=0.0)

    def is_harmless(self, p: Array, g: Array, m: Array, v: Array) -> bool:
        """Whether a bound says that all will be finite, as it does in any sane step."""
        P, G, M, V = map(_norm, (p, g, m, v))
        bound = abs(self.shrink) * P + (1 + self.rate) * (G + M) / self.eps + V + G * G
        return bound < float(np.finfo(p.dtype).max) / 2

    def stays_finite(self, *arrays: Array) -> bool:
        """Whether all will be finite: compute it, and keep nothing."""
        new = (self.of_block(p, g, m, v) for p, g, m, v in _blocks(*arrays))
        return all(np.isfinite(array).all() for block in new for array in block)


def diverged(
    optimizer: AdamW, reason: object, lr: float | None, largest: float | None = None
) -> DivergenceError:
    """Say that the next step is none, and, if known, how large its update is, or the last one."""
    rate = optimizer.lr if lr is None else lr
    size = optimizer.largest_update if largest is None else largest
    update = "" if size is None else f", largest update {size:.3g}"
    return DivergenceError(
        f"training diverged at step {optimizer.t + 1} ({reason}; learning rate {rate:g}{update}); "
        "lower the learning rate"
    )


def _checked_options(
    params: Mapping[str, Array], lr: Any, betas: Any, eps: Any, weight_decay: Any
) -> tuple[float, tuple[float, float], float, float]:
    """Return the options if they are in range, and in that of each dtype of the parameters."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise OptionError(f"betas: expected two numbers; got {betas!r}")
    beta1, beta2 = (_in_range("betas", beta, 1) for beta in betas)
    check_above_zero("eps", eps)  # since a gradient can be 0
    for dtype in {array.dtype for array in params.values()}:
        if eps < (least := np.finfo(dtype).tiny):
            raise OptionError(f"eps: expected at least {least:.3g} in {dtype}; got {eps!r}")
        if dtype.type(max(beta1, beta2)) == 1:
            raise OptionError(f"betas: expected numbers below 1 in {dtype}; got {betas!r}")
    return (
        _in_range("lr", lr, np.inf),
        (beta1, beta2),
        float(eps),
        _in_range("weight_decay", weight_decay, np.inf),
    )


def _in_range(name: str, value: float, below: float) -> float:
    if not is_number(value) or not 0 <= value < below:
        raise OptionError(f"{name}: expected a number in [0, {below}); got {value!r}")
    return float(value)


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Cut arrays of one shape between rows into parts of about :data:`BLOCK` numbers."""
    arrays = tuple(np.atleast_1d(array) for array in arrays)
    total, size = len(arrays[0]), arrays[0].size
    rows = max(1, BLOCK * total // max(1, size))
    for start in range(0, total, rows):
        yield tuple(array[start : start + rows] for array in arrays)


def _norm(array: Array) -> float:
    """No less than the absolute value of any entry whose square is a number, and found at once."""
    flat = array.ravel("K")
    return float(np.sqrt(np.dot(flat, flat)))


def _largest(array: Array) -> float:
    """Absolute value of the largest entry, without an array of them all."""
    return float(max(array.max(initial=0), -array.min(initial=0)))
