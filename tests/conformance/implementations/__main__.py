"""Run the kit on every implementation, and print what came out."""

import sys
import warnings

from tests.conformance.implementations.outcomes import ALL, outcome, row

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for each in ALL:
        if not sys.argv[1:] or each.package in sys.argv[1:]:
            found = outcome(each)
            print(found, row(found), sep="\n", flush=True)
