"""The data of a case: inputs of a port, expected results, and bounds on their errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from numpy_xlstm.conformance.bounds import SIXTEEN_BITS, is_gradient
from numpy_xlstm.conformance.subjects import Subject, part
from numpy_xlstm.numerics import Arrays


class Content(NamedTuple):
    """Tensors of a case."""

    inputs: Arrays
    expected: Arrays
    bounds: Arrays


@dataclass(frozen=True, eq=False)
class CaseData:
    """The data of a :class:`Case`, which has comparison and diagnosis, and documents the fields.

    The diagnosis reads these data, and no file imports itself: hence the two files.
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
        """Name for pytest."""
        return self.id

    @property
    def tags(self) -> set[str]:
        """Names that select the case: id, subject, family, flags, and options as name=value."""
        options = (f"{name}={value}" for name, value in self.options.items())
        return {self.id, self.subject.name, self.subject.family, *self.flags, *options}

    @cached_property
    def _tensors(self) -> Content:
        content = self.content()
        for array in content.inputs.values():
            array.flags.writeable = False
        return content

    @property
    def inputs(self) -> Arrays:
        """Parameters, x, initial state and cotangents by name; the arrays are read-only.

        In a case of 16 bits they are float32 arrays of numbers that 16 bits represent exactly.
        """
        return self._tensors.inputs

    @cached_property
    def forward(self) -> Self:
        """The same case without cotangents and gradients."""
        if "dy" not in self.inputs:
            return self
        dropped = {name for name in self.expected if is_gradient(name)}
        dropped |= {name for name in self.inputs if name.split(".")[0] in ("dy", "dstate")}
        tensors = [{n: a for n, a in d.items() if n not in dropped} for d in self._tensors]
        return replace(self, content=lambda: Content(*tensors))

    @property
    def given(self) -> Arrays:
        """The inputs, with the empty state if a port has to start from it."""
        if part(self.inputs, "state"):
            return self.inputs
        empty = {
            name.replace("final", "state"): np.full_like(a, -np.inf if name[-2:] == ".m" else 0)
            for name, a in self.expected.items()
            if name.split(".")[0] == "final"
        }
        return empty | self.inputs

    @property
    def expected(self) -> Arrays:
        """Exact results by name, rounded to the dtype, or to float32 in a case of 16 bits."""
        return self._tensors.expected

    @property
    def bounds(self) -> Arrays:
        """Bound on the error of each entry of each result, by name."""
        return self._tensors.bounds

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Dtypes that results may have; a port in 16 bits may also return float32."""
        return (self.dtype, "float32") if self.dtype in SIXTEEN_BITS else (self.dtype,)

    def widened(self, results: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return results with those in 16 bits as float32, in which they are compared."""
        narrow = {self.dtype}.intersection(SIXTEEN_BITS)
        return {
            name: a.astype(np.float32)
            if isinstance(a, np.ndarray) and a.dtype.name in narrow
            else a
            for name, a in results.items()
        }

    def pattern(self, name: str) -> str:
        """Return the pattern of the entries of a tensor, as in :func:`numpy_xlstm.gradcheck`."""
        array = self.inputs[name] if name in self.inputs else self.expected[name]
        return self.subject.pattern(name, array.ndim).format(**self.options)

    def results(self, specification: Any = None) -> Arrays:
        """Compute the results for these inputs, by default with the specification itself."""
        return self.subject.run(self.options, self.inputs, specification)
