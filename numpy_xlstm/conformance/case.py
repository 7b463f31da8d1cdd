"""A case: what goes into a port, what should come out, and how far off it may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from numpy_xlstm.conformance.bounds import bounds, in_dtype, scales, truth
from numpy_xlstm.conformance.catalogue import SUBJECTS
from numpy_xlstm.conformance.compare import compare, table
from numpy_xlstm.conformance.diagnosis import diagnose
from numpy_xlstm.conformance.situations import SITUATIONS, Draft, Situation, ordinary
from numpy_xlstm.conformance.subjects import Arrays, Options, Subject
from numpy_xlstm.errors import NonFiniteError, OptionError
from numpy_xlstm.numerics import check_choice, check_whole
from numpy_xlstm.numerics.arrays import did_you_mean

PRECISIONS = ("float64", "float32")
ENLARGED = {"float32": 60.0, "float64": 600.0}
"""What pre-activations of order 1 are multiplied by in the situation "large"."""
ILL = 0.01
"""A case is drawn anew if a bound is a larger part than this of the numbers beside the entry."""
DRAWS = 20


def frozen(arrays: Arrays) -> Arrays:
    """Return the arrays, into which NumPy no longer writes."""
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


class Content(NamedTuple):
    """The tensors of a case."""

    inputs: Arrays
    expected: Arrays
    bounds: Arrays


@dataclass(frozen=True, eq=False)
class Case:
    """One point at which a port is checked.

    Attributes
    ----------
    id : str
        Name of its files, such as ``slstm.sequence.exp.lengths.float32``.
    subject : Subject
        What is checked.
    dtype : str
        Of all real inputs and results.
    options : Mapping[str, Any]
        What the module is made with, such as ``num_heads`` and ``forget_gate``.
    flags : tuple[str, ...]
        What may go wrong: names in ``FLAGS``.
    content : Callable[[], Content]
        Makes its tensors, when they are first asked for.

    Examples
    --------
    >>> from numpy_xlstm import conformance
    >>> case = conformance.cases("lstm.step", "float64")[0]
    >>> case.id, case.inputs["x"].shape, sorted(case.expected)[:3]
    ('lstm.step.ordinary.float64', (3, 5), ['dstate0.c', 'dstate0.h', 'dx'])
    >>> case.check(case.results())  # nothing, as it is right
    """

    id: str
    subject: Subject
    dtype: str
    options: Mapping[str, Any]
    flags: tuple[str, ...]
    content: Callable[[], Content]

    def __str__(self) -> str:
        return self.id

    @property
    def __name__(self) -> str:
        """What pytest calls it."""
        return self.id

    @cached_property
    def _tensors(self) -> Content:
        content = self.content()
        return content._replace(inputs=frozen(content.inputs))

    @property
    def inputs(self) -> Arrays:
        """Parameters, x, the state before, and cotangents, by name; NumPy writes into none."""
        return self._tensors.inputs

    @property
    def expected(self) -> Arrays:
        """True results by name, rounded to the dtype."""
        return self._tensors.expected

    @property
    def bounds(self) -> Arrays:
        """How far each entry of a result may be from the truth."""
        return self._tensors.bounds

    def pattern(self, name: str) -> str:
        """What the entries of a tensor are, as :func:`numpy_xlstm.gradcheck` names them."""
        array = self.inputs[name] if name in self.inputs else self.expected[name]
        return self.subject.pattern(name, array.ndim).format(**self.options)

    def results(self, specification: Any = None, subject: Subject | None = None) -> Arrays:
        """What another specification, or another subject, gives for these inputs."""
        return (subject or self.subject).run(self.options, self.inputs, specification)

    def check(self, results: Mapping[str, Any]) -> None:
        """Raise ``AssertionError``, with a table and what is known of it, if a result is wrong."""
        failed = [row for row in compare(self, results) if not row.passed]
        if failed:
            raise AssertionError("\n".join([table(failed), *diagnose([(self, results)])]))


def cases(subject: str | None = None, dtype: str | None = None, *, seed: int = 0) -> list[Case]:
    """Return the cases of the conformance kit.

    Parameters
    ----------
    subject : str, optional
        One subject (``"slstm.sequence"``), or one family (``"slstm"``).
    dtype : {"float64", "float32"}, optional
        Cases in this dtype alone.
    seed : int
        Another seed gives other numbers in the same situations.

    Returns
    -------
    list[Case]
        Nothing of a case is computed before it is asked for.

    Raises
    ------
    OptionError
        If there is no such subject or dtype.

    Examples
    --------
    >>> case = cases("slstm.step", "float32")[0]
    >>> case.id, case.options["num_heads"], case.inputs["params.R"].shape
    ('slstm.step.sigmoid.ordinary.float32', 2, (2, 16, 4))
    >>> case.check(case.results())
    """
    check_whole("seed", seed)
    if dtype is not None:
        check_choice("dtype", dtype, PRECISIONS)
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
        if situation.suits(each, variant)
        for kind in PRECISIONS
        if dtype in (None, kind)
    ]


def _case(subject: Subject, variant: str, situation: Situation, dtype: str, seed: int) -> Case:
    name = ".".join(part for part in (subject.name, variant, situation.name, dtype) if part)
    options = {**subject.variants[variant], **situation.options}

    def content() -> Content:
        return _content(subject, options, situation, dtype, (seed, crc32(name.encode())))

    return Case(name, subject, dtype, options, situation.flags, content)


def _content(
    subject: Subject, options: Options, situation: Situation, dtype: str, seed: tuple[int, int]
) -> Content:
    """Draw inputs until no entry is so ill-conditioned that it would tell nothing."""
    for draw in range(DRAWS):
        rng = np.random.default_rng([*seed, draw])
        blank = subject.blank(options, situation.B, situation.T)
        draft = Draft(subject, dict(options), blank, rng, ENLARGED[dtype], dtype)
        ordinary(draft)
        situation.change(draft)
        inputs = in_dtype(draft.inputs, dtype)
        try:
            exact = truth(subject, options, inputs)
            allowed = bounds(subject, options, inputs, exact, draft.exact, rng)
        except NonFiniteError:  # the memory is larger than the format
            continue
        expected = in_dtype(exact, dtype)
        if _tells(subject, inputs, expected, allowed):
            return Content(inputs, expected, in_dtype(allowed, dtype))
    raise RuntimeError(f"{subject.name} {situation.name} {dtype}: {DRAWS} draws, all ill")


def _tells(subject: Subject, inputs: Arrays, expected: Arrays, allowed: Arrays) -> bool:
    """Whether each bound is a small part of the numbers beside its entry."""
    for name, scale in scales(subject, inputs, expected).items():
        least = float(np.finfo(expected[name].dtype).tiny) / ILL**2
        if not (allowed[name] <= ILL * np.maximum(scale, least)).all():
            return False
    return True
