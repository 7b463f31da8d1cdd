"""AdamW, what it lets decay, and clipping. The equations are in ``docs/derivations/layers.md``."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError
from numpy_xlstm.models import xLSTMLarge, xLSTMLMModel
from numpy_xlstm.module import check_same_parameters
from numpy_xlstm.numerics import Array, check_above_zero, check_array, is_number, underflow_is_zero

DecayRule = Callable[[str, Array], bool]
"""Says by name and array whether a parameter decays."""


def is_matrix(name: str, array: Array) -> bool:
    """Weights decay and biases do not: whether ``array`` has two axes or more."""
    return array.ndim >= 2


def official_decay(weight_decay_on_embedding: bool = False) -> DecayRule:
    """Return the rule of the official xLSTM training: by name, whatever the shape.

    What has "weight" in its name decays, but not if it has "norm" in it too. The table of token
    vectors, ``token_embedding.weight`` or ``embedding.weight``, decays only if that is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> decays, array = official_decay(), np.ones((2, 2))
    >>> [decays(name, array) for name in ("head.weight", "norm.weight", "embedding.weight")]
    [True, False, False]
    """

    def decays(name: str, array: Array) -> bool:
        if name in ("token_embedding.weight", "embedding.weight"):
            return weight_decay_on_embedding
        return "weight" in name and "norm" not in name

    return decays


def decay_rule(model: Any) -> DecayRule:
    """Return the rule that a model is trained with, when it begins and when it goes on.

    An xLSTM model has :func:`official_decay`, with the ``weight_decay_on_embedding`` of its
    configuration if that has one. Any other has :func:`is_matrix`.
    """
    if isinstance(model, xLSTMLMModel):
        return official_decay(model.config.weight_decay_on_embedding)
    if isinstance(model, xLSTMLarge):
        return official_decay()
    return is_matrix


class AdamW:
    r"""Adam with decoupled weight decay.

    At step t, for every parameter θ with gradient g:

    .. math::
        θ &← θ - η λ θ \\
        m &← β_1 m + (1 - β_1) g \\
        v &← β_2 v + (1 - β_2) g^2 \\
        θ &← θ - \frac{η}{1 - β_1^t} \frac{m}{\sqrt{v / (1 - β_2^t)} + ε}

    Parameters
    ----------
    params : Mapping[str, np.ndarray]
        The parameters that :meth:`step` will be called with, for their names and shapes.
    lr, weight_decay : float
        η, unless a step is given another learning rate, and λ.
    betas : tuple[float, float]
        β₁ and β₂, in [0, 1).
    eps : float
        ε, outside of the root, above 0.
    decays : Callable[[str, np.ndarray], bool]
        Which parameters decay, by name and array: matrices by default.

    Attributes
    ----------
    m, v : dict[str, np.ndarray]
        First and second moment of each parameter's gradient.
    t : int
        How many steps have been taken.

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980.
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    Rule and defaults are those of ``torch.optim.AdamW``.

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
            _check_floats(f"params[{name!r}]", array)
        if not callable(decays):
            raise OptionError(f"decays: expected a function of name and array; got {decays!r}")
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise OptionError(f"betas: expected two numbers; got {betas!r}")
        self.lr = _in_range("lr", lr, np.inf)
        self.betas = _in_range("betas", betas[0], 1), _in_range("betas", betas[1], 1)
        self.eps = check_above_zero("eps", eps)  # since a gradient can be 0
        self.weight_decay = _in_range("weight_decay", weight_decay, np.inf)
        self.decays = decays
        self.m = {name: np.zeros_like(array) for name, array in params.items()}
        self.v = {name: np.zeros_like(array) for name, array in params.items()}
        self.t = 0

    @underflow_is_zero
    def step(
        self, params: Mapping[str, Array], grads: Mapping[str, Array], lr: float | None = None
    ) -> None:
        """Update the arrays of ``params`` in place, with learning rate ``lr`` if that is given.

        Nothing is updated if names, shapes or dtypes are not those of the moments, or with
        :class:`NonFiniteError` if a gradient or its square is not finite.
        """
        lr = self.lr if lr is None else _in_range("lr", lr, np.inf)
        check_same_parameters(self.m, params)
        check_same_parameters(self.m, grads, "grads")
        for name, moment in self.m.items():
            check_array(f"grads[{name!r}]", grads[name], moment.shape, moment.dtype)
            check_array(name, params[name], moment.shape, moment.dtype)
            if not params[name].flags.writeable:
                raise OptionError(f"{name}: expected an array that can be written to")
            if (largest := np.abs(grads[name]).max(initial=0)) > np.finfo(moment.dtype).max ** 0.5:
                raise NonFiniteError(  # its square would stay in the second moment for ever
                    f"grads[{name!r}]: expected entries whose squares are finite; got {largest:.3g}"
                )
        decays = {name: self.decays(name, array) for name, array in params.items()}
        self.t += 1
        beta1, beta2 = self.betas
        root = (1 - beta2**self.t) ** 0.5
        rate, eps = lr * root / (1 - beta1**self.t), self.eps * root
        for name, m in self.m.items():
            p, g, v = params[name], grads[name], self.v[name]
            if decays[name]:
                p *= 1 - lr * self.weight_decay  # [adam.1]
            m += (1 - beta1) * (g - m)  # [adam.2]
            v *= beta2
            v += (1 - beta2) * (g * g)  # [adam.3]
            p -= rate * (m / (np.sqrt(v) + eps))  # [adam.4], its fraction expanded by √(1 − β₂ᵗ)

    def state_dict(self) -> dict[str, Array]:
        """Return all that the next step depends on beside the options: ``t`` and the moments.

        They are not copied.

        Examples
        --------
        >>> import numpy as np
        >>> optimizer = AdamW({"w": np.ones((1, 2))})
        >>> optimizer.state_dict()
        {'t': array(0), 'm.w': array([[0., 0.]]), 'v.w': array([[0., 0.]])}
        """
        m = {f"m.{name}": array for name, array in self.m.items()}
        v = {f"v.{name}": array for name, array in self.v.items()}
        return {"t": np.array(self.t), **m, **v}

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Go on from where another optimiser was: copy what its :meth:`state_dict` gave."""
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


def _in_range(name: str, value: float, below: float) -> float:
    if not is_number(value) or not 0 <= value < below:
        raise OptionError(f"{name}: expected a number in [0, {below}); got {value!r}")
    return float(value)


def _check_floats(name: str, array: Any) -> None:
    """Raise :class:`DTypeError` unless ``array`` is one of real floating-point numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        got = getattr(array, "dtype", type(array).__name__)
        raise DTypeError(f"{name}: expected an array of floating-point numbers; got {got}")


@underflow_is_zero
def global_norm(grads: Mapping[str, Array]) -> float:
    """Euclidean norm of all arrays together, without overflow or underflow on the way.

    Examples
    --------
    >>> import numpy as np
    >>> global_norm({"a": np.array([3e300]), "b": np.array([4e300])})
    5e+300
    """
    from scipy.linalg.blas import dnrm2  # importing it takes half as long as all of this package

    norms = (dnrm2(g.ravel("K").astype(np.float64)) for g in grads.values() if g.size)
    return math.hypot(*norms)  # [clip.1]


@underflow_is_zero
def clip_grad_norm(grads: Mapping[str, Array], max_norm: float) -> tuple[dict[str, Array], float]:
    r"""Scale the gradients down so that their common norm is at most ``max_norm``.

    .. math:: g ← g \cdot \min(1, \mathrm{max\_norm} / \lVert g \rVert)

    ``torch.nn.utils.clip_grad_norm_`` divides by ‖g‖ + 1e-6 instead of ‖g‖.

    Parameters
    ----------
    grads : Mapping[str, np.ndarray]
        The gradients, which are not modified.
    max_norm : float
        The largest norm to let through; ``inf`` lets everything through that is finite.

    Returns
    -------
    clipped, norm : dict[str, np.ndarray], float
        The gradients, the very same arrays if nothing had to be scaled, and their norm before.

    Raises
    ------
    NonFiniteError
        If the norm is not finite: a step along such a gradient would destroy the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> clip_grad_norm({"a": np.array([3.0]), "b": np.array([[4.0]])}, max_norm=1.0)
    ({'a': array([0.6]), 'b': array([[0.8]])}, 5.0)
    """
    check_above_zero("max_norm", max_norm, infinite=True)
    if not isinstance(grads, Mapping):
        raise OptionError(f"grads: expected arrays by name; got {type(grads).__name__}")
    for name, g in grads.items():
        _check_floats(name, g)
    norm = global_norm(grads)
    if not np.isfinite(norm):
        bad = [name for name, g in grads.items() if not np.isfinite(g).all()]
        raise NonFiniteError(
            f"gradients: expected a finite norm; got {norm} "
            f"(in {', '.join(bad) or 'the sum of squares'})"
        )
    if norm <= max_norm:
        return dict(grads), norm
    factor = max_norm / norm
    wide = np.float64 if factor < np.finfo(np.float32).tiny else None  # as float32 it lost digits
    return {
        name: np.multiply(g, factor, dtype=wide).astype(g.dtype, copy=False)  # [clip.2]
        for name, g in grads.items()
    }, norm
