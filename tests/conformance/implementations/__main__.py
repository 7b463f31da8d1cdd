"""Run the kit on every implementation, and print what came out."""

import sys
import warnings

from tests.conformance.implementations.outcomes import ALL, outcome

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for each in ALL:
        if not sys.argv[1:] or each.package in sys.argv[1:]:
            print(outcome(each), flush=True)
