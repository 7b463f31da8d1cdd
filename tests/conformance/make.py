"""Write the small set again after a change to the cases: ``python -m tests.conformance.make``."""

import shutil

from numpy_xlstm.conformance import SMALL, write_vectors
from numpy_xlstm.conformance.small import small_cases


def main() -> None:
    """Write all of it."""
    shutil.rmtree(SMALL, ignore_errors=True)
    for case in write_vectors(SMALL, small_cases()):
        print(case)


if __name__ == "__main__":
    main()
