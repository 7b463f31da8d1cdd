"""Sampling: probabilities of the next token from logits, and draws from them."""

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import DTypeError, NonFiniteError
from numpy_xlstm.generation.config import GenerationConfig
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_form,
    check_generator,
    check_kind,
    own_error_state,
)

Probabilities = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@own_error_state
def probabilities(logits: Array, seen: Mask, config: GenerationConfig) -> Probabilities:
    r"""Return the probability that each token is the next one, in float64.

    .. math::
        y_k &= \begin{cases}
            x_k / θ & \text{if } k \text{ has occurred and } x_k > 0 \\
            x_k θ & \text{if } k \text{ has occurred and } x_k ≤ 0 \\
            x_k & \text{otherwise} \end{cases} \\
        w_k &= e^{y_k / τ}, \qquad K = \text{the top\_k tokens with the largest } y \\
        N &= \text{the smallest set of the likeliest tokens of } K \text{ with }
            \sum_{k ∈ N} w_k ≥ \mathrm{top\_p} \sum_{k ∈ K} w_k \\
        P(k) &= w_k \Big/ \sum_{j ∈ N} w_j \text{ for } k ∈ N, \text{ else } 0

    The order is repetition penalty, temperature, top-k, top-p. Equally likely tokens are ordered by
    id, so K has exactly top_k members. N has at least one. In the limit τ = 0, and without
    ``do_sample``, the token with the largest y has probability 1.

    Parameters
    ----------
    logits : np.ndarray
        x, shape (B, V), finite numbers or −inf, which gives probability 0.
    seen : np.ndarray
        Whether an id has occurred in a row, booleans (B, V), for the repetition penalty.
    config : GenerationConfig
        Options: ``do_sample``, τ, top_k, top_p and the repetition penalty θ.

    Returns
    -------
    np.ndarray
        P, shape (B, V), in float64; each row sums to 1.

    Notes
    -----
    The penalty is that of Keskar et al. (2019), "CTRL: A Conditional Transformer Language Model for
    Controllable Generation", except for negative logits. The paper divides x by θ for any sign,
    which makes tokens with a negative logit more likely. Here negative logits are multiplied by θ.

    Examples
    --------
    >>> logits, seen = np.log([[0.5, 0.3, 0.2]]), np.array([[True, False, False]])
    >>> probabilities(logits, seen, GenerationConfig(do_sample=True)).round(3)
    array([[0.5, 0.3, 0.2]])
    >>> probabilities(logits, seen, GenerationConfig(do_sample=True, top_p=0.7)).round(3)
    array([[0.625, 0.375, 0.   ]])
    >>> probabilities(logits, seen, GenerationConfig(repetition_penalty=2.0)).round(3)
    array([[0., 1., 0.]])
    """
    _check(logits, seen)
    check_kind("config", config, GenerationConfig)
    y: Array = logits.astype(np.result_type(logits, np.float64))
    if (penalty := config.repetition_penalty) != 1:
        with np.errstate(over="ignore"):  # x θ = −inf gives probability 0
            y = np.where(seen, np.where(y > 0, y / penalty, y * penalty), y)  # [sample.1]
    if not config.do_sample or config.temperature == 0:
        likeliest: Array = np.arange(y.shape[-1]) == y.argmax(axis=-1, keepdims=True)
        return likeliest.astype(np.float64)
    with np.errstate(over="ignore"):
        w = np.exp((y - y.max(axis=-1, keepdims=True)) / float(config.temperature))  # [sample.2]
    weights: Probabilities = w.astype(np.float64)
    if config.top_k is not None or config.top_p is not None:
        weights *= _kept(y, weights, config.top_k, config.top_p)
    weights /= weights.sum(axis=-1, keepdims=True)  # [sample.5]
    return weights


def draw(
    logits: Array, seen: Mask, config: GenerationConfig, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw the next token of each row from its :func:`probabilities`.

    The token is the first whose cumulative probability exceeds u, a uniform number in [0, 1) for
    each row. A token with probability 0 does not increase the sum and is never drawn.

    Parameters
    ----------
    logits, seen, config
        As in :func:`probabilities`.
    rng : np.random.Generator
        Generator. B numbers are drawn, also without ``do_sample``.

    Returns
    -------
    np.ndarray
        The ids, shape (B,).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> seen = np.zeros((2, 2), bool)
    >>> draw(np.array([[0.0, 9.0], [9.0, 0.0]]), seen, GenerationConfig(), rng)
    array([1, 0])
    """
    check_generator("rng", rng, required=True)
    cumulative = probabilities(logits, seen, config).cumsum(axis=-1)
    shares = rng.random(len(cumulative)) * cumulative[:, -1]  # below the last sum, as u < 1
    drawn: npt.NDArray[np.int64] = (cumulative <= shares[:, None]).sum(axis=-1)  # [sample.6]
    return drawn


def _check(logits: Array, seen: Mask) -> None:
    check_array("logits", logits, ("B", "V"), allow_minus_inf=True)
    if logits.dtype.kind == "c":
        raise DTypeError(f"logits: expected real numbers; got {logits.dtype.name}")
    if (empty := ~np.isfinite(logits).any(axis=-1)).any():
        raise NonFiniteError(
            f"logits: expected a finite number in every row; got none in row {empty.argmax()}"
        )
    check_form("seen", seen, logits.shape, "booleans")


def _kept(y: Array, weights: Probabilities, top_k: int | None, top_p: float | None) -> Mask:
    order = np.argsort(-y, axis=-1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=-1)
    if top_k is not None:
        ranked[:, top_k:] = 0  # [sample.3]
    keep = ranked > 0
    if top_p is not None and top_p < 1:
        sums = ranked.cumsum(axis=-1)
        keep[:, 1:] &= sums[:, :-1] < top_p * sums[:, -1:]  # [sample.4]
    kept = np.empty_like(keep)
    np.put_along_axis(kept, order, keep, axis=-1)
    return kept
