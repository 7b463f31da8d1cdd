"""Results are bitwise the same under every error state of the caller and on eight threads."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import Module
from numpy_xlstm.layers import Layer
from numpy_xlstm.training import AdamW, Progress, TrainingState
from tests.reliability import public
from tests.reliability.calls import Call
from tests.reliability.loads import PACKAGE

THREADS = 8
SCALES: list[tuple[Any, float]] = [
    *((np.float64, factor) for factor in (1.0, 1e-200, 1e-307, 300.0)),
    *((np.float32, factor) for factor in (1.0, 1e-25, 1e-37, 80.0)),
]
"""Dtypes, and factors of the arrays of a call, with which numbers underflow and gates saturate."""


def parts(tree: Any) -> Iterator[bytes]:
    """Return all numbers in the results of a call, except times."""
    if isinstance(tree, Progress):
        tree = tree._replace(elapsed=0.0)
    tree = inside(tree)
    if isinstance(tree, np.ndarray | np.generic):
        yield f"{tree.dtype} {tree.shape}".encode() + tree.tobytes()
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from parts(part)
    elif isinstance(tree, int | float | complex | str | None):
        yield repr(tree).encode()


def inside(tree: Any) -> Any:
    """Convert a result to a list of its parts; take the start of an endless iterator."""
    if isinstance(tree, TrainingState):
        return [tree.model, tree.optimizer]
    if isinstance(tree, AdamW):
        tree = tree.state_dict()
    if isinstance(tree, Module):
        tree = tree.params
    if isinstance(tree, Mapping):
        return [*tree.items()]
    return list(islice(tree, 3)) if isinstance(tree, Iterator) else tree


def bits(call: Call, **changed: Any) -> str:
    """Return a digest of the results of a call, or its error of the package."""
    found = hashlib.sha256()
    try:
        for part in parts(call(**changed)):
            found.update(part)
    except PACKAGE as error:
        return f"{type(error).__name__}: {error}"
    return found.hexdigest()


def scaled(call: Call, scale: float) -> dict[str, Any]:
    """Return the floating-point arrays among the arguments, multiplied by a factor."""
    return {
        name: value * value.dtype.type(scale)
        for name, value in call.arguments.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    }


CALLS = public.calls()


@pytest.mark.long
def test_under_every_error_state(trials: int) -> None:
    """Each call in one dtype at one of the scales a trial: at all of them in eight."""
    differ, rng = [], np.random.default_rng(0)
    for name, make in CALLS.items():
        for dtype, scale in (SCALES[n] for n in rng.permutation(len(SCALES))[:trials]):
            if "exp-sigmoid" in name and scale > 1:
                continue  # without a normaliser, the memory overflows
            results = set()
            for state in ("ignore", "warn", "raise"):
                call = make(dtype)
                changed = scaled(call, scale)
                with np.errstate(all=state):
                    try:
                        results.add(bits(call, **changed))
                    except (FloatingPointError, Warning) as error:
                        results.add(f"{name} times {scale}, {state}: {error!r}")
            if len(results) > 1:
                differ.append(f"{name} times {scale}: {sorted(results)}")
    assert not differ, "\n".join(differ)


class Spurious(Layer):
    """Simulate matrix products with a correct result that also set a floating-point flag."""

    in_features = out_features = 1

    def compute(self, x: Any) -> Any:
        np.subtract(np.inf, np.inf)
        return x + x, None

    def compute_backward(self, dy: Any, cache: Any) -> Any:
        np.subtract(np.inf, np.inf)
        return dy + dy, {}


def test_a_flag_that_a_product_sets_by_itself() -> None:
    layer, x = Spurious(), np.ones(1)
    with np.errstate(all="raise"):
        y, cache = layer.forward(x)
        assert layer.backward(y, cache)[0] == 4
        assert layer(x) == 2
        with pytest.raises(FloatingPointError):
            np.subtract(np.inf, np.inf)


def at_once(work: Callable[[], str]) -> set[str]:
    """Return the results of several threads that run at the same time."""
    barrier = Barrier(THREADS)

    def one(_: int) -> str:
        barrier.wait(60)
        return work()

    with ThreadPoolExecutor(THREADS) as pool:
        return set(pool.map(one, range(THREADS)))


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_on_eight_threads(dtype: Any, trials: int) -> None:
    """Where a call changes nothing, all with the same arguments; else each with its own.

    In six trials the calls that change nothing are made with arguments of their own too, and in
    one trial a sixth of them.
    """
    differ = []
    for n, (name, make) in enumerate(CALLS.items()):
        sharing = name.endswith((".forward", ".backward", ".__call__"))
        if not sharing or n % 6 < trials:
            expected = bits(make(dtype))
            if at_once(lambda make=make: bits(make(dtype))) != {expected}:  # type: ignore[misc]
                differ.append(name)
        if sharing:
            shared = make(dtype)
            drawn = {"rng": None} if "rng" in shared.arguments else {}
            expected = bits(shared, **drawn)
            if at_once(lambda call=shared, given=drawn: bits(call, **given)) != {expected}:  # type: ignore[misc]
                differ.append(f"{name}, shared")
    assert not differ, "\n".join(differ)
