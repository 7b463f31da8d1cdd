"""Mistakes with a number or function of the port: limits, clipping, activations.

Unless it is a common one, a number is taken from the port's results and rounded to three digits,
because a person wrote it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from inspect import getsource
from itertools import product
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import is_gradient
from numpy_xlstm.conformance.bugs.around import ChangedResults
from numpy_xlstm.conformance.bugs.bug import CELL, Bug
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.numerics import Array, Arrays

HARD, HARD_6 = "np.clip(0.2 * (x) + 0.5, 0, 1)", "np.clip((x) / 6 + 0.5, 0, 1)"
HARD_TANH = "np.clip(x, -1, 1)"
OF_KERAS = "hard sigmoids, min(max(0.2 x + 0.5, 0), 1), as Keras had before 2.3"
OF_PYTORCH = "hard sigmoids, min(max(x/6 + 0.5, 0), 1), as PyTorch and Keras 3 have"
ACTIVATIONS = {
    "hard-sigmoid": (OF_KERAS, HARD, ""),
    "hard-sigmoid-of-6": (OF_PYTORCH, HARD_6, ""),
    "hard-tanh": ("min(max(x, −1), 1), not tanh", "", HARD_TANH),
    "hard-sigmoid-and-tanh": (f"{OF_KERAS}, and a hard tanh", HARD, HARD_TANH),
    "hard-sigmoid-of-6-and-tanh": (f"{OF_PYTORCH}, and a hard tanh", HARD_6, HARD_TANH),
    "sigmoid-by-tanh": ("σ(x) as (1 + tanh(x/2)) / 2", "((1 + np.tanh((x) / 2)) / 2)", ""),
    "tanh-by-sigmoid": ("tanh(x) as 2 σ(2x) − 1", "", "(2 * sigmoid(2 * (x)) - 1)"),
    "tanh-relu": ("ReLU, not tanh", "", "np.maximum(x, 0)"),
    "tanh-softsign": ("x / (1 + |x|), not tanh", "", "((x) / (1 + np.maximum(x, -(x))))"),
    **{
        f"arguments-clipped-to-{K}": (f"σ or tanh of numbers that are clipped to ±{K}", *texts)
        for K in (1, 2, 3, 5, 8, 10, 15, 20, 30, 50)
        for texts in [[f"{name}(np.clip(x, -{K}, {K}))" for name in ("sigmoid", "np.tanh")]]
    },
}
"""Other functions in a whole forward: in words, and the texts for sigmoid and for tanh of x."""
CALL = re.compile(r"\b(sigmoid|np\.tanh)\(([^()]*)\)")


def activations(cell: Any) -> Iterator[Bug]:
    """Yield the mistakes of a cell with other functions in the place of σ or tanh."""
    for name, (what, sigmoid, tanh) in ACTIVATIONS.items():
        other = partial(_at_argument, {"sigmoid": sigmoid, "np.tanh": tanh})
        yield from _replaced(cell.forward, cell, CALL, other, name, what)


AT_GATES, AT_TANH = "sigmoid_slope(sigmoid(x))", "tanh_slope(np.tanh(x))"
SLOPES = {
    "slopes-at-gates": ("slopes of σ at the gates", AT_GATES, ""),
    "slopes-at-tanh": ("slopes of tanh at its values", "", AT_TANH),
    "slopes-at-values": ("slopes at the values of σ and tanh", AT_GATES, AT_TANH),
}
"""Slopes at other numbers than pre-activations: in words, and texts for sigmoid and tanh."""
SLOPE = re.compile(r"\b(sigmoid_slope|tanh_slope)\(([^()]*)\)")
LOG = re.compile(r"\blog_gate\(f_pre, self\.forget_gate\)")


def written_otherwise(cell: Any) -> Iterator[Bug]:
    """Yield the mistakes of a cell with all slopes at other numbers, or with an eps in log σ."""
    for name, (what, *texts) in SLOPES.items():
        by_name = dict(zip(("sigmoid_slope", "tanh_slope"), texts, strict=True))
        other = partial(_at_argument, by_name)
        yield from _replaced(cell.backward, cell, SLOPE, other, name, what)
    for eps in (1e-6, 1e-8, 1e-10):
        log = f"(np.log(sigmoid(f_pre) + {eps}) if self.forget_gate == 'sigmoid' else f_pre)"
        name, what = f"log-of-sigmoid-plus-{eps:g}", f"log(σ(f̃) + {eps:g}) for log σ(f̃)"
        yield from _replaced(cell.forward, cell, LOG, log, name, what)


def _at_argument(texts: Mapping[str, str], call: re.Match[str]) -> str:
    """Return the text for a function of x with its argument as x, or the call if there is none."""
    return re.sub(r"\bx\b", call[2], texts[call[1]]) or call[0]


def _replaced(
    function: Any, cell: Any, pattern: re.Pattern[str], other: Any, name: str, what: str
) -> Iterator[Bug]:
    """Yield a cell in which a pattern is replaced in all lines of a function, if it occurs."""
    pairs = [(line, pattern.sub(other, line)) for line in _lines(function)]
    change = "".join(f"- {old}\n+ {new}\n" for old, new in pairs if old != new)
    if change:
        yield Bug(name, (), (cell,), change, f"a cell with {what}")


CLIPPED = {
    "gradients of pre-activations": r"(d\w_pre) = (.*)",
    **{f"gradient of {name}": rf"(d{name}) = (.*)" for name in "hcnCm"},
}
"""Gradients that a backward may clip, and the lines that assign them."""


def clipped(cell: Any) -> Iterator[Bug]:
    """Yield the mistakes of a cell whose backward clips gradients."""
    for (words, pattern), K in product(CLIPPED.items(), (1, 5, 10)):
        found = filter(None, (re.fullmatch(pattern, line) for line in _lines(cell.backward)))
        texts = [f"- {line[0]}\n+ {line[1]} = np.clip({line[2]}, -{K}, {K})\n" for line in found]
        if texts:
            what = f"a backward that clips the {words} to ±{K}"
            yield Bug(
                f"{words}-clipped-to-{K}".replace(" ", "-"), (), (cell,), "".join(texts), what
            )


def _lines(function: Any) -> list[str]:
    """Return the lines of a function, without comments."""
    return [line.partition("  #")[0].strip() for line in getsource(function).split("\n")]


def fitted(case: CaseData, failed: Iterable[tuple[CaseData, Mapping[str, Any]]]) -> list[Bug]:
    """Return the mistakes in a subject, with numbers of the three simplest of failed cases."""
    cell = case.subject.specification
    known = isinstance(cell, type) and CELL.match(cell.__module__)
    bugs = [*activations(cell), *written_otherwise(cell), *clipped(cell)] if known else []
    with np.errstate(all="ignore"):
        for own, got in sorted(failed, key=lambda pair: len(pair[0].flags))[:3]:
            bugs += limits(own, dict(got))
    return [*{bug.name: bug for bug in bugs}.values()]


LARGE = 1e4
"""A number that is no limit."""


def limits(case: CaseData, got: Arrays) -> Iterator[Bug]:
    """Yield limits that wrong numbers of a port are at."""
    off = {name: abs(array - case.expected[name]) for name, array in got.items()}
    wrong = {name: got[name][off[name] > case.bounds[name]] for name in got}
    cell = case.subject.specification
    if isinstance(cell, type) and CELL.match(cell.__module__):
        yield from _in_cell(cell, {n: a for n, a in wrong.items() if not is_gradient(n)})
    params = [name for name in got if name.startswith("grads.")]
    groups = {"the gradients of parameters": params, "all gradients": [*filter(is_gradient, got)]}
    for words, names in (groups | {name: [name] for name in got}).items():
        if (most := _limit(abs(_joined(wrong, names)))) > 0:
            name, what = f"{words} clipped to {most:g}", f"clips {words} to ±{most:g}"
            yield _around(name, what, names, lambda a, _, K=most: a.clip(-K, K))
        size, before = (_rounded(_norm(arrays, names)) for arrays in (got, case.expected))
        for eps, how in ((0, ""), (1e-6, " as in PyTorch")) if 0 < size < before else ():
            name = f"norm of {words} at most {size:g}{how}"
            what = f"scales {words} to a norm of at most {size:g}{how}"
            yield _around(
                name, what, names, lambda a, norm, K=size, eps=eps: a * (K / max(K, norm + eps))
            )


def _around(name: str, what: str, names: Sequence[str], change: Callable[..., Array]) -> Bug:
    """Return a mistake that changes results, by a function of each and the norm of all."""

    def changed(results: Arrays, _: Arrays) -> Arrays:
        own = {name: results[name] for name in names if name in results}
        return {name: change(array, _norm(own, own)) for name, array in own.items()}

    around = ChangedResults(changed)
    return Bug(name.replace(" ", "-"), (), (), "", f"a port that {what}", around=around)


def _in_cell(cell: Any, wrong: Arrays) -> Iterator[Bug]:
    """Yield limits of variables of a cell: of h, which is y too, and of the rest of the state."""
    for name, array in wrong.items():
        variable = "h" if name == "y" else name.removeprefix("final.")
        for line in [line for line in _lines(cell.forward) if line.startswith(f"{variable} = ")]:
            value = line.partition(" = ")[2]
            both, high, low = _limit(abs(array)), _limit(array), -_limit(-array)
            for new, K in (
                (f"np.clip({value}, -{both:g}, {both:g})", both),
                (f"np.minimum({value}, {high:g})", high),
                (f"np.maximum({value}, {low:g})", low),
            ):
                if not np.isnan(K):
                    change = f"- {line}\n+ {variable} = {new}"
                    what = f"a cell that limits {variable}"
                    yield Bug(f"{variable}-limited", (), (cell,), change, what)


def _joined(arrays: Arrays, names: Iterable[str]) -> Array:
    """Return all numbers of some arrays."""
    return np.concatenate([np.zeros(0), *(arrays[name].ravel() for name in names)])


def _norm(arrays: Arrays, names: Iterable[str]) -> float:
    return float(np.linalg.norm(_joined(arrays, names)))


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")


def _limit(array: Array) -> float:
    """Return the largest of some numbers, if several have it and it has three digits, or NaN.

    A very large number is none: it may replace an infinite one.
    """
    most = _rounded(array.max(initial=-np.inf))
    several = np.isclose(array, most, rtol=1e-6, atol=0).sum() > 1
    return most if several and abs(most) < LARGE else np.nan
