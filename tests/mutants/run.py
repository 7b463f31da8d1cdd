"""Run the battery on copies of the package, each with a small mistake in one line of one module.

``python -m tests.mutants.run --random N --seed S MODULE …`` tries N mistakes, and exits with 1 if
one of them is not noticed. A MODULE is a dotted name, such as ``numpy_xlstm.cells.lstm``. The
mistakes are those with which the conformance kit explains a port.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import FunctionType
from typing import NamedTuple

from numpy_xlstm.conformance.bugs.changes import Changes, instrumented
from numpy_xlstm.conformance.copies import Copy


class Mutant(NamedTuple):
    """A change of a module, by its number."""

    module: str
    number: int

    def planted(self) -> Copy:
        """Return a copy of the package and of the tests with the change and without compilation."""
        every = changes_of(self.module).copy
        copy = Copy(every.changed, "tests", functions=every.functions)
        copy.module(self.module).CHANGE[0] = self.number
        return copy

    def noticed(self) -> bool:
        try:
            self.planted().module("tests.mutants.battery").run()
        except Exception:
            return True
        return False

    def __str__(self) -> str:
        change = changes_of(self.module).all[self.number]
        return f"{self.module}.{change.function}: {change.old.strip()!r} → {change.new!r}"


def changes_of(name: str) -> Changes:
    """Return the changes of all functions and classes of a module."""
    members = [m for m in vars(import_module(name)).values() if isinstance(m, type | FunctionType)]
    return instrumented(tuple(m for m in members if m.__module__ == name), ())


def lines(name: str) -> Iterator[list[Mutant]]:
    """Yield the mutants of each line of a module."""
    for numbers in changes_of(name).lines:
        yield [Mutant(name, number) for number in numbers]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("modules", nargs="+")
    args = parser.parse_args(words)
    every = [mutant for name in args.modules for line in lines(name) for mutant in line]
    chosen = random.Random(args.seed).sample(every, min(args.random or len(every), len(every)))
    alive = [mutant for mutant in chosen if not mutant.noticed()]
    print(f"{len(chosen)} of {len(every)} mutants, {len(alive)} live")
    for mutant in alive:
        print(f"  {mutant}")
    return bool(alive)


if __name__ == "__main__":
    sys.exit(main())
