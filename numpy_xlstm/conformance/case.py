"""Cases: inputs for a port, with expected results and bounds on their errors."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np

from numpy_xlstm.conformance.bounds import (
    FORMATS,
    SIXTEEN_BITS,
    Format,
    bounds,
    in_dtype,
    magnitude,
    scales,
    truth,
)
from numpy_xlstm.conformance.case_data import CaseData, Content
from numpy_xlstm.conformance.catalogue import SUBJECTS
from numpy_xlstm.conformance.compare import compare, departures, table
from numpy_xlstm.conformance.diagnosis import diagnose
from numpy_xlstm.conformance.situations import SITUATIONS, Draft, Situation, ordinary
from numpy_xlstm.conformance.subjects import Options, Part, Subject
from numpy_xlstm.errors import NonFiniteError, OptionError
from numpy_xlstm.numerics import checked_choice, checked_whole, did_you_mean

PRECISIONS = ("float64", "float32")
DTYPES = (*PRECISIONS, *SIXTEEN_BITS)
DRAWS = 20


class Case(CaseData):
    """Inputs and results with which a port is checked.

    Attributes
    ----------
    id : str
        Name of its files, such as ``slstm.sequence.exp.lengths.float32``.
    subject : Subject
        Subject that is checked.
    dtype : str
        Dtype of all real inputs and results. For bfloat16 and float16 they are float32 arrays, the
        inputs with numbers of this dtype, and a port may return either.
    options : Mapping[str, Any]
        Options of the module, such as ``num_heads`` and ``forget_gate``.
    flags : tuple[str, ...]
        Classes of bugs that the case can reveal: names in ``FLAGS``.
    content : Callable[[], Content]
        Function that makes the tensors at their first use.

    Examples
    --------
    >>> from numpy_xlstm import conformance
    >>> case = conformance.cases("lstm.step", "float64")[0]
    >>> case.id, case.inputs["x"].shape, sorted(case.expected)[:3]
    ('lstm.step.ordinary.float64', (3, 5), ['dstate0.c', 'dstate0.h', 'dx'])
    >>> case.check(case.results())  # nothing, as it is right
    """

    def check(self, results: Mapping[str, Any]) -> None:
        """Raise ``AssertionError`` with a table and a diagnosis if a result is wrong."""
        rows = compare(self, results)
        if failed := [row for row in rows if not row.passed]:
            if isinstance(self.subject, Part):
                lines = departures([(self, rows)])
            else:
                lines = diagnose([(self, self.widened(results))])
            raise AssertionError("\n".join([table(failed), *lines]))


def cases(subject: str | None = None, dtype: str | None = None, *, seed: int = 0) -> list[Case]:
    """Return the cases of the conformance kit.

    Parameters
    ----------
    subject : str, optional
        Name of a subject (``"slstm.sequence"``) or a family (``"slstm"``).
    dtype : {"float64", "float32", "bfloat16", "float16"}, optional
        Dtype of the cases; float64 and float32 if omitted. The tensors of bfloat16 need the extra
        ``cli``.
    seed : int
        Seed of the random inputs; the same cases exist for every seed.

    Returns
    -------
    list[Case]
        The cases. Their tensors are computed at first use.

    Examples
    --------
    >>> case = cases("slstm.step", "float32")[0]
    >>> case.id, case.options["num_heads"], case.inputs["params.R"].shape
    ('slstm.step.sigmoid.ordinary.float32', 2, (2, 16, 4))
    >>> case.check(case.results())
    """
    checked_whole("seed", seed)
    if dtype is not None:
        checked_choice("dtype", dtype, DTYPES)
    chosen = [s for s in SUBJECTS.values() if subject in (None, s.name, s.family)]
    if not chosen:
        names = sorted({s.family for s in SUBJECTS.values()} | SUBJECTS.keys())
        got = f"{subject!r}{did_you_mean(str(subject), names)}"
        raise OptionError(f"subject: expected one of {', '.join(names)}; got {got}")
    return [
        _case(each, variant, situation, kind, seed)
        for each in chosen
        for variant in each.variants
        for situation in SITUATIONS
        for kind in (PRECISIONS if dtype is None else (dtype,))
        if situation.suits(each, variant, kind)
    ]


def _case(subject: Subject, variant: str, situation: Situation, dtype: str, seed: int) -> Case:
    name = ".".join(part for part in (subject.name, variant, situation.name, dtype) if part)
    options = {**subject.variants[variant], **situation.options}
    content = partial(_content, subject, options, situation, dtype, (seed, crc32(name.encode())))
    return Case(name, subject, dtype, options, tuple(situation.flags.split()), content)


def _content(
    subject: Subject, options: Options, situation: Situation, dtype: str, seed: tuple[int, int]
) -> Content:
    """Draw inputs until the bound of every entry is small enough to be a useful check.

    In 16 bits, if no draw has such bounds, the draw with the smallest is taken.
    """
    held = "float32" if dtype in SIXTEEN_BITS else dtype
    least, best = np.inf, None
    for draw in range(DRAWS):
        rng = np.random.default_rng([*seed, draw])
        blank = subject.blank(options, situation.B, situation.T)
        draft = Draft(subject, dict(options), blank, rng, dtype)
        ordinary(draft)
        situation.change(draft)
        inputs = in_dtype(draft.inputs, dtype)
        try:
            exact = truth(subject, options, inputs)
            allowed = bounds(subject, options, inputs, exact, draft.exact, dtype, rng)
        except NonFiniteError:  # the memory overflows the dtype
            continue
        content = Content(inputs, in_dtype(exact, held), allowed)
        largest = _largest_bound(subject, content, FORMATS[dtype])
        if largest <= 1 or (dtype in SIXTEEN_BITS and largest < least):
            least, best = largest, content
        if largest <= 1:
            break
    if best is None:
        raise RuntimeError(f"{subject.name} {situation.name} {dtype}: no draw is well-conditioned")
    return best._replace(bounds=in_dtype(best.bounds, held))


def _largest_bound(subject: Subject, content: Content, numbers: Format) -> float:
    """Return the largest bound, relative to useful bounds; infinite if a result overflows."""
    least, largest = numbers.tiny / numbers.ill**2, 0.0
    for name, scale in scales(subject, content.inputs, content.expected).items():
        if magnitude(content.expected[name]).max(initial=0) > numbers.largest:
            return np.inf
        useful = numbers.ill * np.maximum(scale, least)
        largest = np.maximum(largest, (content.bounds[name] / useful).max(initial=0))  # or NaN
    return float(largest)
