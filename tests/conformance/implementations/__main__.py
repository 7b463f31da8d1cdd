"""Run the kit on every installed implementation, and print the outcomes."""

import sys
import warnings
from importlib.util import find_spec

from tests.conformance.implementations.outcomes import ALL, outcome, row

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for each in ALL:
        if find_spec(each.package) and (not sys.argv[1:] or each.package in sys.argv[1:]):
            found = outcome(each)
            print(found, row(found), sep="\n", flush=True)
