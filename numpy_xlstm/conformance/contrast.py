"""Clues to a mistake that has no name: what differs between cases, tensors and entries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import distance, is_gradient
from numpy_xlstm.conformance.case_data import CaseData
from numpy_xlstm.conformance.compare import listed
from numpy_xlstm.conformance.flags import FLAGS
from numpy_xlstm.conformance.subjects import part
from numpy_xlstm.gradcheck.axes import Axes
from numpy_xlstm.numerics import Array

ROUNDED = 1e-3
"""Difference of two numbers of a tensor, over its largest, that is no rounding."""
OF_BFLOAT16 = 1e-2
"""Such a difference of most numbers of a tensor if something is rounded to bfloat16."""
TINY = 16 * float(np.finfo(np.float32).tiny)
"""Error of a port in float32 for numbers near 0."""
SEVEN_DIGITS = (
    "results in float64 are right to only about seven digits: something is computed in float32, or "
    "a small constant, such as an eps of 1e-6, is added, missing or at another place"
)
THREE_DIGITS = (
    "results in float32 are right to only about three digits{}: products are computed in TF32 or "
    "in 16 bits{}"
)
IN_FLOAT64 = ", but those in float64 to more", ""
UNLESS = "", ", or a small number is added, missing or at another place"
"""The two blanks of the sentence if float64 passes, and if it was not checked."""
FEWER_DIGITS = {
    "float64": (2.0**10, 2.0**29, SEVEN_DIGITS),
    "float32": (2.0**4, 2.0**13, THREE_DIGITS),
}
"""For each dtype, the range of the largest error over its bound if numbers are computed in a
narrower format, and how this is said."""
SHORT = {"one-step", "one-row", "padding", "chunks"}
"""Flags of cases that are ordinary but for their sizes."""
UNCLEAR = {"near-tie", "closed-gates", "open-gates"}
"""Flags of cases that do not tell how many digits are right."""
SUMMED = (
    "the gradients of a case are its own plus those of the case before it: set them to 0 before "
    "each backward"
)
SIZES = ("input_size", "hidden_size", "num_heads", "qk_dim", "chunk_size")


@dataclass(frozen=True)
class Difference:
    """Where the results of a port in a case are not those of the specification with mistakes."""

    case: CaseData
    got: Mapping[str, Any]
    expected: Mapping[str, Array]
    """Results of the specification with the mistakes."""
    unexplained: Mapping[str, Array]
    """For each result that the mistakes do not explain, where it is wrong."""
    right_for_the_wrong_forward: set[str] = field(default_factory=set)
    """Other gradients that differ: they are the derivative of the forward with the mistakes."""

    @property
    def names(self) -> set[str]:
        """Names of all results that differ."""
        return {*self.unexplained, *self.right_for_the_wrong_forward}

    @property
    def situation(self) -> str:
        """The id of the case without its subject."""
        return self.case.id.removeprefix(f"{self.case.subject.name}.")

    @property
    def simplicity(self) -> tuple[int, int]:
        """Numbers of wrong results and of entries; both are small for a simple case."""
        return len(self.unexplained), sum(array.size for array in self.case.expected.values())

    @property
    def cost(self) -> tuple[bool, int, int, tuple[int, int]]:
        """Smallest for the case to search in: ordinary, and with few steps."""
        y = self.case.inputs.get("dy", np.zeros(0))
        steps = y.shape[1] if self.case.subject.steps and y.ndim > 2 else 1
        unusual = not SHORT.issuperset(self.case.flags)
        return unusual, steps, len(self.case.flags), self.simplicity

    @property
    def forward(self) -> bool:
        """Whether a result of the forward is wrong."""
        return not all(map(is_gradient, self.unexplained))

    @property
    def searched(self) -> CaseData:
        """The case, without a backward if the forward is wrong: no line of a backward is sought."""
        return self.case.forward if self.forward else self.case


def clues(
    wrong: Sequence[Difference],
    without: Sequence[CaseData],
    passed: Sequence[CaseData],
    *,
    right_forward: bool,
    rest: bool,
) -> list[str]:
    """Return clues to the cause of wrong results; ``rest`` if others are explained already.

    Cases ``without`` results have failed too.
    """
    names = dict.fromkeys(name for each in wrong for name in each.unexplained)
    shown = [name for name in names if not is_gradient(name)] or [*names]
    sentence = f"{listed(shown)} {'are' if shown[1:] else 'is'} wrong"
    if right_forward:
        sentence = f"the forward is right; in the backward, {sentence}"
    failed = [*(each.case for each in wrong), *without]
    simplest = min(wrong, key=lambda each: (len(each.case.flags), each.simplicity))
    flags = set.intersection(*({*case.flags} for case in failed)) if passed or failed[1:] else ()
    shared = [f"each of these cases has the flag {flag}: {FLAGS[flag]}" for flag in sorted(flags)]
    what = "the rest" if rest else "it"
    head = [] if rest else [sentence]
    return [
        *head,
        *at(simplest, rest=rest),
        *in_common(failed, passed, what),
        *shared,
        *gauge(wrong),
    ]


def in_common(failed: Sequence[CaseData], passed: Sequence[CaseData], what: str) -> Iterator[str]:
    """Describe a property of the cases in which something fails, and of no or few others."""
    failing = {case.id for case in failed}
    steps = [case for case in passed if "no-step" not in case.flags]
    for among, right in (("", passed), ("among the cases with steps, ", steps)):
        having: dict[str, set[str]] = {}  # the ids of the cases with each property
        for case in [*failed, *right]:
            options = [f"{n} = {value}" for n, value in case.options.items() if n not in SIZES]
            flags = [f"the flag {flag}" for flag in case.flags]
            for text in (f"the dtype {case.dtype}", *options, *flags):
                having.setdefault(text, set()).add(case.id)
        every = failing | {case.id for case in right}
        shared = {text: ids for text, ids in having.items() if failing <= ids < every}
        pairs = {f"{a} and {b}": shared[a] & shared[b] for a, b in combinations(shared, 2)}
        absent = {text: ids for text, ids in having.items() if not ids & failing}
        for text, ids in (shared | pairs).items():
            if ids == failing:
                yield f"{among}{what} fails in every case with {text}, and in no other"
                return
        for text, ids in absent.items():
            if ids | failing == every:
                yield f"{among}{what} passes in every case with {text}, and in no other"
                return
    if shared:
        yield f"{what} fails only in cases with {min(shared, key=lambda text: len(shared[text]))}"
    elif absent:
        most = max(absent, key=lambda text: len(absent[text]))
        yield f"{what} passes in every case with {most}"


def at(wrong: Difference, *, rest: bool) -> Iterator[str]:
    """Describe the errors of the tensors of a case, first those of the forward; or the rest."""
    share = {name: mask.mean() for name, mask in wrong.unexplained.items()}
    names = sorted(share, key=lambda name: (is_gradient(name), share[name]))
    only = "only " if len(names) < len(wrong.case.expected) else ""
    parts = [f"{name} ({error(wrong, name)})" for name in names[:3]]
    more = f" and {len(names) - 3} more" if names[3:] else ""
    are = "are" if names[1:] else "is"
    how = "not explained" if rest else "wrong"
    yield f"in {wrong.situation} {only}{', '.join(parts)}{more} {are} {how}"


def error(wrong: Difference, name: str) -> str:
    """Describe how a result is wrong."""
    got, expected, mask = wrong.got[name], wrong.expected[name], wrong.unexplained[name]
    where = Axes(name, got.shape, wrong.case.pattern(name)).in_common(
        [tuple(map(int, index)) for index in np.argwhere(mask)]
    )
    a, b = got[mask].astype(np.float64), expected[mask].astype(np.float64)
    share = f"{mask.sum()} of {mask.size} entries{where}"
    with np.errstate(all="ignore"):
        ratios = a / b
        factor = float(ratios.mean())
        constant = abs(factor - 1) > 1e-3 and np.ptp(ratios) < 1e-4 * abs(factor)
        off = abs(a - b).max() / abs(b).max()
    if not np.isfinite(a).all():
        how = "not finite"
    elif not a.any():
        how = "0"
    elif not b.any():
        how = "not 0"
    elif constant and len(a) > 1:
        how = f"{factor:.5g} times the expected numbers"
    elif off <= ROUNDED:
        return share
    elif off <= OF_BFLOAT16 and mask.mean() > 0.5:
        how = f"within {off:.1%} of the largest; is something rounded to 16 bits?"
    elif np.allclose(np.sort(a), np.sort(b), rtol=1e-5, atol=0):
        how = "the expected numbers in another order"
    else:
        return share
    return f"{share}: {how}"


def gauge(wrong: Sequence[Difference]) -> Iterator[str]:
    """Say whether each memory is right, but divided by another e^m."""
    scaled: list[str] = []
    for each in wrong:
        final, right = part(each.got, "final"), part(each.expected, "final")
        names = [name for name in ("c", "C", "n") if name in right and name in final]
        if "final.m" not in each.unexplained or not names:
            continue
        with np.errstate(all="ignore"):
            if np.allclose(final["m"], right["m"], rtol=1e-4, atol=1e-4):
                continue  # the same m, but for rounding
            factor = np.exp(final["m"] - right["m"])
            for name in names:
                a, b = final[name], right[name]
                grown = a * factor.reshape(factor.shape + (1,) * (a.ndim - factor.ndim))
                if not np.allclose(grown, b, rtol=1e-4, atol=1e-4 * abs(b).max(initial=0)):
                    return
        scaled = [*names]
    if scaled:
        products = " and ".join(f"{name}·e^m" for name in scaled)
        yield f"{products} of the final state are right: the same memory, with another m"


def fewer_digits(wrong: Sequence[Difference], passed: Sequence[CaseData]) -> str:
    """Return SEVEN_DIGITS or THREE_DIGITS if one dtype fails, in most cases, by such small errors.

    Near ties are ignored, which in float32 become ties, and gates without digits.
    """
    of_passed = [case.dtype for case in passed]
    clear = [each for each in wrong if UNCLEAR.isdisjoint(each.case.flags)]
    kinds = {each.case.dtype for each in clear}
    with np.errstate(over="ignore"):
        errors = [
            float(((distance(each.got[n], each.expected[n]) - TINY) / each.case.bounds[n]).max())
            for each in clear
            for n in each.unexplained
        ]
    for dtype, (least, most, said) in FEWER_DIGITS.items():
        mostly = kinds == {dtype} and len(clear) > of_passed.count(dtype)
        if mostly and least < max(errors, default=0) <= most:
            return said.format(*(IN_FLOAT64 if "float64" in of_passed else UNLESS))
    return ""


def summed(wrong: Sequence[Difference], cases: Sequence[tuple[CaseData, Mapping[str, Any]]]) -> str:
    """Return SUMMED if only gradients of parameters are wrong, each by that of another case."""
    names = {name for each in wrong for name in each.unexplained}
    if not names or not all(name.startswith("grads.") for name in names):
        return ""
    for each in wrong:
        name = next(iter(each.unexplained))
        rest = each.got[name] - each.case.expected[name]
        if not any(
            case.dtype == each.case.dtype
            and name in got
            and got[name].shape == rest.shape
            and np.allclose(got[name], rest, rtol=0, atol=ROUNDED * abs(rest).max())
            for case, got in cases
            if case is not each.case
        ):
            return ""
    return SUMMED
