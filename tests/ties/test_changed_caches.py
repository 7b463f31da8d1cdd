"""Changed residuals are refused: a compiled loop of a public function stays within its arrays."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import CacheError, DTypeError, ShapeError
from numpy_xlstm.kernels import common, scan
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, put_together
from tests.ties.test_padding import LENGTHS, subjects

SUBJECTS = subjects(np.float64)
NAMES = [n for n in SUBJECTS if re.fullmatch("lstm|slstm sigmoid|mlstm .* sigmoid .*", n)]
"""Public functions. No residual depends on the kind of the forget gate."""


def places(tree: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Yield the paths of the arrays that a kernel keeps."""
    if isinstance(tree, np.ndarray):
        yield path
    elif isinstance(tree, tuple):
        for n, part in enumerate(tree):
            yield from places(part, (*path, n))


def entry(tree: Any, path: tuple[int, ...]) -> Any:
    return tree if not path else entry(tree[path[0]], path[1:])


def replaced(tree: Any, path: tuple[int, ...], array: Any) -> Any:
    if not path:
        return array
    parts = list(tree)
    parts[path[0]] = replaced(parts[path[0]], path[1:], array)
    return put_together(tree, parts)


def changes(array: Array) -> Iterator[Any]:
    """Yield arrays of other shapes, dtypes and layouts, numbers outside, and None."""
    for axis in range(array.ndim):
        n = array.shape[axis]
        for indices in (range(n - 1), [*range(n), n - 1], [0] * (2 * n), []) if n else ():
            yield np.ascontiguousarray(np.take(array, indices, axis=axis))
    yield from (np.ascontiguousarray(array.T), array.ravel(), array[None].copy(), None)
    yield np.repeat(array, 2, axis=-1)[..., ::2]
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            yield from (array.astype(np.float32), array.astype(int), array.astype(object))
    else:
        yield from (array.astype(float), array + 100, array - 100)


def outcome(backward: Any, dy: Array, cache: Any) -> list[Array] | None:
    """Return the gradients, or None if the cache was refused."""
    with suppress(CacheError, ShapeError, DTypeError):
        return [array for _, array in leaves("", backward(dy, cache))]
    return None


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_changed_residuals_are_refused_or_give_the_same_as_over_arrays(
    name: str, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, rng = SUBJECTS[name], np.random.default_rng(0)
    inputs = [rng.standard_normal(shape) for shape in subject.shapes]
    y, _, cache = subject.forward(*inputs, lengths=LENGTHS if padded else None)
    dy = rng.standard_normal(y.shape)
    cases = [
        replaced(cache, path, array)
        for path in places(cache)
        for array in changes(entry(cache, path))
    ]
    compiled = [outcome(subject.backward, dy, case) for case in cases]
    for module in (scan, common):
        monkeypatch.setattr(module, "compiled", lambda dtype: False)
    for fast, case in zip(compiled, cases, strict=True):
        slow = outcome(subject.backward, dy, case)
        assert (fast is None) == (slow is None)
        for a, b in zip(fast or (), slow or (), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert 0 < sum(result is None for result in compiled) < len(cases)


def test_the_normaliser_of_another_input_gate_is_refused() -> None:
    pair = [SUBJECTS[f"mlstm chunkwise sigmoid {gate}"] for gate in ("sigmoid", "exp")]
    inputs = [np.ones(shape) for shape in pair[0].shapes]
    ys, _, caches = zip(*(subject.forward(*inputs) for subject in pair), strict=True)
    others = [cache.normaliser for cache in reversed(caches)]
    for subject, y, cache, other in zip(pair, ys, caches, others, strict=True):
        with pytest.raises(CacheError, match="with an exponential input gate alone"):
            subject.backward(y, cache._replace(normaliser=other))


@pytest.mark.parametrize(("width", "rows"), [(16, 12), (16, 20), (12, 16)])
def test_a_kernel_refuses_matrices_for_another_number_of_gates(width: int, rows: int) -> None:
    """Its loop would add R h outside of the gates."""
    from numpy_xlstm.kernels.lstm import forward

    state = (np.zeros((2, 4)),) * 2
    expected = r"W, b: expected 4·H rows; R: expected shape \(NH, 4·DH, DH\)"
    with pytest.raises(ShapeError, match=rf"{expected}.* {width} rows and \(1, {rows}, 4\)"):
        forward(np.zeros((2, 5, width)), {"R": np.zeros((1, rows, 4))}, state, None)
