"""Write the small set again after a change to the cases: ``python -m tests.conformance.make``.

The ids of its cases are those in its manifest; ids of further cases may be given as arguments.
"""

import json
import shutil
import sys

from numpy_xlstm.conformance import SMALL, Case, cases, write_vectors


def small_cases(*more: str) -> list[Case]:
    """Generate the cases of the small set, and others."""
    manifest = json.loads((SMALL / "manifest.json").read_text("utf-8"))
    every = {case.id: case for case in cases()}
    return [every[name] for name in (*(case["id"] for case in manifest["cases"]), *more)]


def main() -> None:
    chosen = small_cases(*sys.argv[1:])
    shutil.rmtree(SMALL)
    for case in write_vectors(SMALL, chosen):
        print(case)


if __name__ == "__main__":
    main()
