"""Every public call with wrong arguments works or raises one readable error of the package."""

import inspect
import signal
import sys
import tempfile
import traceback
import typing
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import numpy_xlstm
from numpy_xlstm import cells, checkpoints, generation, kernels, layers, models, training
from tests.reliability import public
from tests.reliability.calls import Call
from tests.reliability.children import LIMIT, ask
from tests.reliability.loads import PACKAGE
from tests.reliability.wrong import fits, wrong

ENDLESS = {
    (kind, name)
    for kind in (f"{10**9}", f"{2**63}", f"{10**30}")
    for name in ("max_new_tokens", "batch_size", "num_features", "directions")
} | {(repr(int), "layer")}
"""Arguments that are valid but slow, or that raise their own errors."""

PARTS = 8
"""Number of parts of the kinds of wrong arguments; each trial takes one part."""


OPTIONS = typing.get_type_hints(generation.GenerationConfig)
OPTIONS["rng"] = np.random.Generator | int | None
"""Types of ``**options``, and of the options of a base class."""


class TooLongError(BaseException):
    """A call that does not end."""


def stop(number: int, frame: Any) -> NoReturn:
    raise TooLongError


def numbers(tree: Any) -> Iterator[np.ndarray]:
    """Return all arrays in the results of a call."""
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from numbers(part)
    elif isinstance(tree, Mapping):
        yield from numbers(list(tree.values()))


def outcome(call: Call, changed: dict[str, Any]) -> str:
    """Return the problems of a call with these arguments; empty if there are none."""
    signal.setitimer(signal.ITIMER_REAL, LIMIT / 6)
    try:
        result = call(**changed)
        if isinstance(result, Iterator):
            result = list(islice(result, 2))
    except PACKAGE as error:
        return "" if said(str(error)) else f"an error without what was expected: {error!r:.200}"
    except (OSError, IndexError, TypeError) as error:
        ours = said(str(error)) and (isinstance(error, OSError) or "; got" in str(error))
        return "" if ours else traceback.format_exc()[-1500:]
    except TooLongError:
        return "no end"
    except BaseException:
        return traceback.format_exc()[-1500:]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return accepted(call, changed, result)


def said(message: str) -> bool:
    return ("expected" in message or "needs" in message) and len(message) < 3000


def accepted(call: Call, changed: dict[str, Any], result: Any) -> str:
    """Check that accepted arguments match the annotation and give no NaN."""
    function = call.function
    plain = getattr(function, "func", function)
    if isinstance(function, type):
        plain = vars(function).get("__init__", function)
    hints = OPTIONS | typing.get_type_hints(plain)
    for name, value in changed.items():
        if not fits(value, hints.get(name, Any), call.arguments[name]):
            return f"{name}: took {value!r:.80}, no {hints.get(name)!s:.80}"
    bad = [a for a in numbers(result) if a.dtype.kind in "fc" and np.isnan(a).any()]
    return f"NaN from {changed!r:.200}" if bad else ""


def attack(names: list[str], trial: int) -> tuple[int, dict[str, str]]:
    """Call some functions with wrong arguments; return the number of calls and the problems."""
    signal.signal(signal.SIGALRM, stop)
    rng, dtype = np.random.default_rng(trial), (np.float64, np.float32)[trial % 2]
    count, problems = 0, {}
    with tempfile.TemporaryDirectory() as folder:
        makes = public.calls() | public.files(Path(folder))
        for name in names:
            for argument, good in makes[name](dtype).arguments.items():
                for kind, value in islice(wrong(good).items(), trial % PARTS, None, PARTS):
                    if (kind, argument) in ENDLESS and not name.endswith("init_state"):
                        continue
                    call, changed = makes[name](dtype), {argument: value}
                    if trial >= PARTS:  # two arguments at once
                        other = rng.choice([*call.arguments])
                        values = wrong(call.arguments[other])
                        second = rng.choice([*values])
                        if (second, other) not in ENDLESS:
                            changed = {str(other): values[str(second)]} | changed
                    count += 1
                    if problem := outcome(call, changed):
                        problems[f"{name}: {argument}: {kind}"] = problem
    return count, problems


with tempfile.TemporaryDirectory() as _folder:
    NAMES = [*public.calls(), *public.files(Path(_folder))]

MODULES = (
    numpy_xlstm,
    cells,
    layers,
    models,
    kernels,
    kernels.mlstm,
    generation,
    training,
    checkpoints,
    sys.modules["numpy_xlstm.gradcheck"],
)
BASES = frozenset(
    """
    Module Layer Recurrent BlockStack ResidualBlock LinearGroup xLSTMLargeLayer
    Report Row TextSplit StepOptions Optimizer Format default_text constant
    is_matrix official_decay config_of start new_tokens decay_rule from_torch from_jax compiled
    """.split()  # noqa: SIM905
)
"""Public names that need no calls: bases, results, parts of ``generate``, and others."""


def test_every_public_callable_is_called() -> None:
    called = {name.partition(".")[0].partition("/")[0] for name in NAMES}
    called |= {f"{name}_backward" for name in called}
    for module in MODULES:
        for name in getattr(module, "__all__", vars(module)):
            thing = getattr(module, name)
            plain = inspect.isfunction(thing) or (
                isinstance(thing, type)
                and not hasattr(thing, "_fields")
                and not getattr(thing, "_is_protocol", False)
            )
            assert not plain or name in called | BASES, name


GROUPS = [NAMES[start::12] for start in range(12)]
"""Groups of names, each of which runs in a separate process."""


@pytest.mark.long
@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_wrong_arguments(group: int, trials: int) -> None:
    for trial in range(trials):
        answer = ask(attack, GROUPS[group], trial)
        assert answer.code == 0, answer
        count, problems = answer.said
        report = "\n".join(f"{where}\n    {what}" for where, what in problems.items())
        assert not problems, f"{len(problems)} of {count}:\n{report}"
