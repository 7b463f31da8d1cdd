from functools import partial
from typing import Any

import mpmath
import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.layers import softmax_cross_entropy, softmax_cross_entropy_backward
from numpy_xlstm.numerics import Array

TINY = 1e-300


def problem(shape: tuple[int, ...], scale: float = 1.0, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal(shape), np.asarray(rng.integers(0, shape[-1], shape[:-1]))


def exact(logits: Array, targets: Array) -> tuple[Any, list[list[Any]]]:
    """Compute loss and gradient for logits (N, V) by the plain equations with enough digits."""
    total, rows = mpmath.mpf(0), []
    with mpmath.workdps(60 + int(np.ptp(logits))):
        for x, t in zip(logits.tolist(), targets.tolist(), strict=True):
            e = [mpmath.exp(mpmath.mpf(v)) for v in x]
            z = mpmath.fsum(e)
            total += mpmath.log(z) - mpmath.mpf(x[t])
            rows.append([(v / z - (j == t)) / len(targets) for j, v in enumerate(e)])
        return total / len(targets), rows


def test_by_hand() -> None:
    # probabilities 1/2, 1/4, 1/4 and 1/5, 4/5, 0: -log(1/4), -log(4/5)
    logits = np.array([[0.0, -np.log(2), -np.log(2)], [0.0, np.log(4), -800.0]])
    loss, cache = softmax_cross_entropy(logits, np.array([2, 1]))
    assert float(loss) == pytest.approx((np.log(4) + np.log(1.25)) / 2, rel=1e-15)
    np.testing.assert_allclose(
        softmax_cross_entropy_backward(2.0, cache),
        [[0.5, 0.25, -0.75], [0.2, -0.2, 0.0]],
        atol=1e-15,
    )


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0, 1e3])
def test_every_digit_at_any_magnitude(scale: float) -> None:
    logits, targets = problem((20, 6), scale, seed=int(scale))
    targets[:10] = logits[:10].argmax(axis=1)  # confident and right: tiny losses
    for row, target in zip(logits, targets, strict=True):
        loss, cache = softmax_cross_entropy(row[None], np.array([target]))
        value, (slopes,) = exact(row[None], np.array([target]))
        tolerance = 1e-15 * max(10, scale)  # of the rounding of the exponents
        assert abs(float(loss) - value) <= tolerance * value + TINY
        got = softmax_cross_entropy_backward(1.0, cache)[0]
        for mine, true in zip(got.tolist(), slopes, strict=True):
            assert abs(mine - true) <= tolerance * abs(true) + TINY


MASK = [[True, False, True, True], [False, False, True, False]]


@pytest.mark.parametrize(
    ("ignored", "masked"),
    [(-100, None), (0, None), (None, 10**6), (-1, 2)],
    ids=["ignored", "ignored class within the range", "masked", "masked and ignored"],
)
def test_positions_that_do_not_count(ignored: int | None, masked: int | None) -> None:
    """Loss and gradient are those of the other positions alone; masked ones may have any target."""
    logits, targets = problem((2, 4, 5), seed=3)
    targets = np.maximum(targets, 1)
    counted, mask, options = np.ones((2, 4), bool), np.array(MASK), dict[str, Any]()
    if ignored is not None:
        counted[0, 3] = counted[1, 1] = False
        targets[~counted], options["ignore_index"] = ignored, ignored
    if masked is not None:
        targets[~mask], options["mask"] = masked, mask.copy()
        counted &= mask
    loss, cache = softmax_cross_entropy(logits, targets, **options)
    alone, alone_cache = softmax_cross_entropy(logits[counted], targets[counted])
    np.testing.assert_allclose(loss, alone, rtol=1e-15)
    assert cache.counted.tolist() == counted.tolist()
    forward = partial(softmax_cross_entropy, targets=targets, **options)
    report = gradcheck((forward, softmax_cross_entropy_backward), logits, rng=0)
    assert not report.failures, str(report)
    if masked is not None:
        options["mask"][:] = True  # the cache has its own
    dlogits = softmax_cross_entropy_backward(0.3, cache)
    assert not dlogits[~counted].any()
    expected = softmax_cross_entropy_backward(0.3, alone_cache)
    np.testing.assert_allclose(dlogits[counted], expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_dtype_is_kept(dtype: Any) -> None:
    logits, targets = problem((2, 3, 4))
    loss, cache = softmax_cross_entropy(logits.astype(dtype), targets, ignore_index=3)
    assert loss.shape == ()
    assert loss.dtype == dtype
    for dloss in (0.5, np.array(0.5, dtype)):
        assert softmax_cross_entropy_backward(dloss, cache).dtype == dtype
