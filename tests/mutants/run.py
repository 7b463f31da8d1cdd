"""Run the battery on the package with a mistake in one file.

``python -m tests.mutants.run --random N --seed S FILE …`` tries N mutants of files, and exits with
1 if one of them survives.
"""

import argparse
import random
import sys
from collections.abc import Sequence

from tests.mutants.mutate import Mutant, mutants


def noticed(mutant: Mutant) -> bool:
    """Return whether the battery fails with the mutant."""
    try:
        mutant.planted().module("tests.mutants.battery").run()
    except Exception:
        return True
    return False


def main(words: Sequence[str] | None = None) -> int:
    """Try mutants, and print those that survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("files", nargs="+")
    args = parser.parse_args(words)
    every = [mutant for file in args.files for mutant in mutants(file) if mutant.parses()]
    chosen = random.Random(args.seed).sample(every, min(args.random or len(every), len(every)))
    alive = [mutant for mutant in chosen if not noticed(mutant)]
    print(f"{len(chosen)} of {len(every)} mutants, {len(alive)} live")
    for mutant in alive:
        print(f"  {mutant}")
    return bool(alive)


if __name__ == "__main__":
    sys.exit(main())
