"""Run the battery on the package with a mistake in one file.

``python -m tests.mutants.run FILE LINE START STOP TEXT`` exits with 1 if the battery finds the
mistake, and with 0 if the mutant survives. ``python -m tests.mutants.run --random N --seed S
FILE …`` tries N mutants of files.
"""

import argparse
import importlib.machinery
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.mutants.mutate import ROOT, Mutant, mutants

SECONDS = 120
"""Seconds after which a mutant hangs, and counts as found."""


class Planted(importlib.machinery.SourceFileLoader):
    """Finder of one module with changed source."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        parts = Path(mutant.file).with_suffix("").parts
        self.module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        super().__init__(self.module, str(ROOT / mutant.file))

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Find this module, and no other."""
        if fullname != self.module:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=self.path)

    def get_code(self, fullname: str) -> Any:
        """Compile the changed source."""
        return compile(self.mutant.source(), self.path, "exec")


def noticed(mutant: Mutant) -> bool:
    """Return whether the battery fails with the mutant, in a separate process."""
    words = [mutant.file, *map(str, mutant[1:4]), mutant.text]
    try:
        command = [sys.executable, "-m", "tests.mutants.run", "--plant", *words]
        # Numba's cache does not depend on the mutant, so compiled code would be the original.
        env = os.environ | {"NUMPY_XLSTM_COMPILED": "0"}
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def survivors(found: Sequence[Mutant], workers: int = 2) -> list[Mutant]:
    """Return the mutants that survive."""
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(noticed, found)
        return [mutant for mutant, seen in zip(found, results, strict=True) if not seen]


def main(words: Sequence[str] | None = None) -> int:
    """Run one mutant, or try many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plant", action="store_true")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("words", nargs="*")
    args = parser.parse_args(words)
    if args.plant:
        file, line, start, stop, text = args.words
        sys.meta_path.insert(0, Planted(Mutant(file, int(line), int(start), int(stop), text)))
    if args.plant or not args.words:
        from tests.mutants.battery import run

        run()
        return 0
    every = [mutant for file in args.words for mutant in mutants(file)]
    chosen = random.Random(args.seed).sample(every, min(args.random or len(every), len(every)))
    alive = survivors(chosen)
    print(f"{len(chosen)} of {len(every)} mutants, {len(alive)} live")
    for mutant in alive:
        print(f"  {mutant}")
    return bool(alive)


if __name__ == "__main__":
    sys.exit(main())
